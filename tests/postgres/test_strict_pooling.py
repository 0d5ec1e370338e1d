"""Promises that must not lean on a session: each transaction has another connection, on which strangers left things.

What PgBouncer keeps for a client that is alone, a stricter pooler does not. Both twins, and both drivers of ``db.aio``.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, get_args

import psycopg
import pytest
from sqlalchemy import exc, make_url, text

import db
from db import aio
from db.environment import event_loop
from db.settings import Settings
from devkit.network.faults import Lost
from devkit.network.statements import Sync
from devkit.network.strict_pooler import StrictPooler

from .fix_once import effects
from .test_batch import message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devkit.network.statements import PostgresWire
    from devkit.plugin import Database, MakeWire
    from devkit.servers.postgres import Postgres


LEFT = {
    "app.tenant_id": "globex",
    "statement_timeout": "1234",
    "lock_timeout": "1234",
    "idle_in_transaction_session_timeout": "1234",
    "search_path": "nowhere",
}
SEEN = text(
    "SELECT current_setting('app.tenant_id', true), current_setting('statement_timeout'), "
    "current_setting('transaction_read_only'), pg_backend_pid()"
)
ONE = text("SELECT 1")
INSERT = text("INSERT INTO ledger VALUES (:n, current_setting('app.tenant_id'))")


@pytest.fixture
def pooler(ledger: None, postgres: Postgres) -> Iterator[StrictPooler]:
    """With two connections for each login."""
    with StrictPooler(postgres.host, postgres.port, backends=2) as opened:
        yield opened


@pytest.fixture
def tapped(pooler: StrictPooler, wire: MakeWire) -> PostgresWire:
    return wire(upstream=pooler)


@pytest.fixture(params=["psycopg", "asyncpg", "no loop"])
def face(request: pytest.FixtureRequest) -> str:
    """A driver of ``db.aio``, or the twin without a loop."""
    name: str = request.param
    return name


@pytest.fixture
def behind(face: str, tapped: PostgresWire, database: Database) -> Iterator[Callable[..., None]]:
    """Configures the layer behind the pooler."""

    def configure(**settings: Any) -> None:
        url = make_url(database.through(tapped).url())
        driver: Any = {} if face == "no loop" else {"async_driver": face}
        db.configure(Settings(url=url, sslmode="disable", proxy="pgbouncer", schema="public", **driver, **settings))

    configure()
    yield configure
    db.dispose()
    event_loop.close()


@pytest.fixture
def soiled(pooler: StrictPooler, database: Database) -> set[int]:
    """Both connections, each with what a stranger has set for a session that is not his own."""
    pids = set()
    url = make_url(database.through(pooler).url()).set(drivername="postgresql")
    said = "; ".join(f"SET {name} = '{value}'" for name, value in LEFT.items())
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True, prepare_threshold=None) as conn:
        conn.execute("SELECT 1")  # the second connection is opened for the second statement
        for _ in range(2):
            conn.execute(said)
        for _ in range(2):
            found = conn.execute("SELECT pg_backend_pid() WHERE current_setting('app.tenant_id') = 'globex'").fetchall()
            pids |= {pid for (pid,) in found}
    return pids


class Twin:
    """What a test does, in either twin."""

    def __init__(self, face: str) -> None:
        self._plain = face == "no loop"

    def begin(self, *statements: Any, **arguments: Any) -> list[Any]:
        return self._unit(db.begin, aio.begin, statements, arguments)

    def read(self, *statements: Any, **arguments: Any) -> list[Any]:
        return self._unit(db.read, aio.read, statements, arguments)

    def fetch(self, *statements: Any, **arguments: Any) -> list[Any]:
        results = (
            db.fetch(*statements, **arguments) if self._plain else event_loop.run(aio.fetch(*statements, **arguments))
        )
        return [tuple(result.one()) for result in results]

    def run(self, statement: Any, **arguments: Any) -> None:
        if self._plain:
            db.run(lambda tx: tx.execute(statement), **arguments)
            return

        async def unit(tx: Any) -> None:
            await tx.execute(statement)

        event_loop.run(aio.run(unit, **arguments))

    def _unit(self, plain: Any, on_loop: Any, statements: Any, arguments: Any) -> list[Any]:
        if self._plain:
            with plain(**arguments) as conn:
                return [_rows(conn.execute(statement)) for statement in statements]

        async def unit() -> list[Any]:
            async with on_loop(**arguments) as conn:
                return [_rows(await conn.execute(statement)) for statement in statements]

        return list(event_loop.run(unit()))


def _rows(result: Any) -> Any:
    return tuple(result.one()) if result.returns_rows else None


@pytest.fixture
def twin(face: str, behind: None) -> Twin:
    return Twin(face)


@pytest.mark.parametrize("pool", ["queue", "null"])
def test_each_unit_says_all_that_it_needs(pool: str, twin: Twin, behind: Callable[..., None], soiled: set[int]) -> None:
    """Tenant, limit, access mode and search path are its own, whatever the session's are; and so twice in a row."""
    behind(pool=pool, statement_timeout_s=7)
    pids = set()
    for n in range(2):
        twin.begin(INSERT.bindparams(n=n), tenant="acme")
        for seen, access in (
            (twin.begin(SEEN, tenant="acme")[0], "off"),
            (twin.read(SEEN, tenant="acme")[0], "on"),
            (twin.read(SEEN, tenant="acme", snapshot=True)[0], "on"),
            (twin.fetch(SEEN, tenant="acme")[0], "on"),
        ):
            assert seen[:3] == ("acme", "7s", access)
            pids.add(seen[3])
        assert twin.begin(SEEN)[0][0] == ""
    assert pids == set(soiled)


NUMBERS = itertools.count()


def once() -> None:
    db.once(f"key {next(NUMBERS)}").run(lambda tx: tx.execute(ONE).scalar())


def batch() -> None:
    records = {"Records": [message(str(n), n) for n in range(3)]}
    assert db.batch(records, lambda tx, _: tx.execute(ONE), tenant="acme") == {"batchItemFailures": []}


def leftovers() -> None:
    with db.begin(tenant="acme") as tx:
        tx.execute(text("SET work_mem = '7MB'"))


def savepoints() -> None:
    with db.begin(tenant="acme") as tx:
        for _ in range(2):
            with tx.begin_nested():
                tx.execute(ONE)


def undone() -> None:
    with pytest.raises(exc.DataError), db.begin(tenant="acme") as tx:
        tx.execute(ONE)
        tx.execute(text("SELECT 1 / 0"))


def many_rows() -> None:
    with db.begin(tenant="acme") as tx:
        tx.execute(text("DELETE FROM ledger"))
        tx.execute(INSERT, [{"n": n} for n in range(50)])


def bit_by_bit() -> None:
    with db.read(tenant="acme") as conn:
        with conn.execute(text("SELECT generate_series(1, 9)"), execution_options={"yield_per": 2}) as rows:
            assert rows.fetchmany(4) == [(1,), (2,), (3,), (4,)]
        conn.execute(ONE)


def plain() -> None:
    with db.engine().begin() as conn:
        conn.execute(ONE)


WORK = [once, batch, leftovers, savepoints, undone, many_rows, bit_by_bit, plain]


@pytest.mark.usefixtures(effects.__name__)
@pytest.mark.parametrize("face", ["no loop"], indirect=True)
@pytest.mark.parametrize("work", WORK)
def test_a_flight_has_one_sync(work: Callable[[], None], behind: None, tapped: PostgresWire) -> None:
    """So there is nothing behind it that could reach another connection."""
    work()
    plain()  # some units let their connection go
    before, passed = tapped.counts(), len(tapped.messages())
    work()
    assert (tapped.counts() - before).trips == tapped.messages()[passed:].count(Sync())


@pytest.mark.parametrize("lost", get_args(Lost))
def test_a_cut_at_any_flight(
    lost: Lost, twin: Twin, tapped: PostgresWire, postgres: Postgres, database: Database
) -> None:
    """What was reported as done is there once, and only a lost COMMIT leaves anything in doubt."""
    done: list[int] = []
    unknown: list[int] = []
    for n in itertools.count(1):
        twin.begin(SEEN)  # what the last cut left behind is replaced here
        cut = tapped.cut_at(n, lost=lost)
        try:
            twin.run(INSERT.bindparams(n=n), tenant="acme")
        except db.OutcomeUnknownError:
            unknown.append(n)
        else:
            done.append(n)
        if not cut.fired:
            break
    assert unknown == [n - 1]  # COMMIT is the last flight
    stored = postgres.execute("SELECT n, tenant FROM ledger ORDER BY n", database=database.name)
    arrived = sorted([*done, *(unknown if lost == "answer" else [])])
    assert stored == [(number, "acme") for number in arrived]
