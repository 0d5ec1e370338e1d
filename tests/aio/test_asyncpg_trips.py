"""What each unit of work costs on asyncpg, and that the values which go in its text are what they were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import make_url, text

import db
from db import aio
from db.environment import event_loop
from db.migrations.operations import create_prologue_function
from db.settings import Settings
from db.wire.asyncpg_due import literal, with_literals
from devkit.network.pinning import no_pinning
from tests.aio.conftest import Twin
from tests.aio.test_trips import ONE, bit_by_bit, fetch, known_up_front, nothing, read, run, savepoint, snapshot, write

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from devkit.network.wire import Wire
    from devkit.plugin import Database, MakePgBouncer, MakeWire
    from devkit.servers.ports import Endpoint
    from tests.aio.conftest import Use

TENANT = text("SELECT current_setting('app.tenant_id')")
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
AWKWARD = st.lists(
    st.sampled_from(["'", "''", "\\", "\\'", "$1", "$$", '"', ";", "--", "/*", "\n", "E'", "%", "é"])
).map("".join)


async def two_savepoints(twin: Twin) -> None:
    async with twin.begin() as tx:
        for _ in range(2):
            async with tx.begin_nested():
                await tx.execute(ONE)


async def savepoint_undone(twin: Twin) -> None:
    async with twin.begin() as tx:
        with pytest.raises(LookupError):
            async with tx.begin_nested():
                await tx.execute(ONE)
                raise LookupError


async def failed_in_a_savepoint(twin: Twin) -> None:
    async with twin.begin() as tx:
        await tx.execute(ONE)
        with pytest.raises(Exception, match="zero"):
            async with tx.begin_nested():
                await tx.execute(text("SELECT 1/0"))


async def savepoints_alone(twin: Twin) -> None:
    async with twin.begin() as tx, tx.begin_nested():
        pass


async def level(twin: Twin) -> None:
    async with twin.begin() as tx:
        await tx.execute(text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))
        await tx.execute(ONE)


@pytest.fixture
def counted(database: Database, wire: MakeWire, use: Use) -> Callable[..., Wire]:
    """asyncpg behind a counting wire, without TLS."""

    def configure(front: Endpoint | None = None, **settings: Any) -> Wire:
        proxy = wire(upstream=front)
        url = make_url(database.through(proxy).url())
        db.configure(Settings(url=url, sslmode="disable", async_driver="asyncpg", **settings))
        return proxy

    return configure


WARM: dict[Callable[[Twin], Awaitable[None]], int] = {
    write: 3,
    read: 3,
    snapshot: 4,
    fetch: 5,
    known_up_front: 5,
    run: 3,
    nothing: 0,
    savepoint: 3,
    savepoints_alone: 0,
    two_savepoints: 5,  # the release of the first is a trip, as a statement cannot share it
    savepoint_undone: 3,
    failed_in_a_savepoint: 5,  # SAVEPOINT is one here; the server is not asked whether its ROLLBACK mended all
    level: 3,
    bit_by_bit: 4,  # BEGIN; Bind; up to 50 rows, as SQLAlchemy asks for no fewer; COMMIT
}


@pytest.mark.parametrize("work", WARM, ids=lambda work: work.__name__)
def test_a_warm_unit_of_work(work: Callable[[Twin], Awaitable[None]], counted: Callable[..., Wire]) -> None:
    """On a kept connection, which has seen its statements before."""
    proxy = counted()

    async def cost() -> int:
        await work(Twin("aio"))
        before = proxy.counts()
        await work(Twin("aio"))
        return (proxy.counts() - before).trips

    assert event_loop.run(cost()) == WARM[work]


@pytest.mark.parametrize(("proxy", "first", "warm"), [("none", 7, 3), ("pgbouncer", 7, 4)])
def test_a_first_and_a_warm_transaction(
    proxy: str, first: int, warm: int, counted: Callable[..., Wire], pgbouncer: MakePgBouncer
) -> None:
    """Three to connect; behind a proxy each statement is prepared anew."""
    counts = counted(pgbouncer() if proxy == "pgbouncer" else None, proxy=proxy)
    before = counts.counts()
    event_loop.run(write(Twin("aio")))
    between = counts.counts()
    event_loop.run(write(Twin("aio")))
    assert [(between - before).trips, (counts.counts() - between).trips] == [first, warm]


@pytest.fixture
def prologue_function(use: Use, database: Database) -> None:
    """What opens a transaction behind RDS Proxy."""
    use(role="owner")
    with db.begin() as tx:
        create_prologue_function(Operations(MigrationContext.configure(tx)), used_by=[database.app])


@pytest.mark.usefixtures("prologue_function")
def test_behind_rds_proxy_nothing_pins(counted: Callable[..., Any]) -> None:
    """Two statements in one text do not, by AWS's list; SET, and a set_config in a text, would."""
    wire = counted(proxy="rds-proxy")
    with no_pinning(wire):
        for work in (write, savepoint, read):
            event_loop.run(work(Twin("aio")))


# Values in a statement's text.


def test_values_go_where_a_place_is_meant() -> None:
    """Not into a quoted name, nor into another value."""
    command = (b'SELECT "a$1""$1".f($2, \'$1\', $1)', [b"$2'", None])
    assert with_literals(command) == """SELECT "a$1""$1".f(NULL, '$1', '$2''')"""


def test_a_nul_is_refused() -> None:
    """The protocol would end the statement there."""
    with pytest.raises(ValueError, match="NUL"):
        literal(b"a\0'")


@pytest.mark.parametrize("conforming", ["on", "off"])
def test_whatever_a_tenant_is_called_the_server_reads_it_so(conforming: str, database: Database, use: Use) -> None:
    """With backslashes that escape in every literal as well, as a role or a database may have them."""
    use(async_driver="asyncpg", connect_args={"options": f"-c standard_conforming_strings={conforming}"})

    async def read_back(tenant: str) -> tuple[str, str]:
        async with aio.begin(tenant=tenant) as tx:
            plain = (await tx.exec_driver_sql("SHOW standard_conforming_strings")).scalar_one()
            return plain, str(await tx.scalar(TENANT))

    @settings(
        deadline=None, database=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(st.one_of(TEXTS, AWKWARD).filter(str.strip))
    def check(tenant: str) -> None:
        assert event_loop.run(read_back(tenant)) == (conforming, tenant)

    check()
