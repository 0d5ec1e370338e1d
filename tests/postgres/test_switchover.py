"""A switchover with a name that is late: the old side is up and read-only while the name leads there once more.

The old side is a standby, the new one its primary. The name is a wire.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import exc, make_url, text

import db
from db import aio
from db.environment import event_loop, process
from db.environment.runtime import Runtime
from db.errors import sqlstate
from db.pool.switchover import SUSPECT_S
from db.settings import Settings
from db.transactions.run import ATTEMPTS
from devkit.network.wire import Wire
from devkit.servers.database import Database, create_database, drop_database
from devkit.servers.postgres_settings import CHEAP_PASSWORDS
from devkit.servers.replica import Cluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

    from devkit.servers.postgres import Postgres

OLD_SIDE = text("SELECT pg_is_in_recovery()")
WRITE = text("INSERT INTO notes VALUES (1)")
READ_ONLY = "25006"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(settings=CHEAP_PASSWORDS) as cluster:
        yield cluster


class Site:
    """A database on both sides, and the name that leads to one of them."""

    def __init__(self, cluster: Cluster, database: Database, name: Wire) -> None:
        self.cluster = cluster
        self.database = database
        self.name = name

    def configure(self, *, reader: bool = False, **settings: Any) -> None:
        """The layer on the name; with ``reader`` the reads have a name of their own, which leads to the same."""
        url = make_url(self.database.through(self.name).url("owner"))
        own: dict[str, Any] = {"reader_host": "localhost", "reader_port": self.name.port} if reader else {}
        db.configure(Settings(url=url, **own, **settings))

    def lead_to(self, server: Postgres, *, cut: bool = False) -> None:
        self.name.retarget(server.host, server.port, cut=cut)

    def held_by(self, server: Postgres) -> int:
        return len(server.connections(self.database.name, user=self.database.owner))


@pytest.fixture
def site(cluster: Cluster) -> Iterator[Site]:
    """With the name on the new side, as before a switchover."""
    database = create_database(cluster.primary)
    cluster.primary.execute("CREATE TABLE notes (n int)", database=database.name)
    cluster.primary.execute(f"GRANT ALL ON notes TO {database.owner}", database=database.name)
    cluster.catch_up()
    with Wire(cluster.primary.host, cluster.primary.port) as name:
        yield Site(cluster, database, name)
        db.dispose()
        event_loop.close()
        process.DEFAULT._runtime = None
    assert cluster.standby.all_left(database.name)
    drop_database(cluster.primary, database)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """``later(s)``: it is so much later for all who ask for the time, those that a runtime made before it."""
    ahead_s = 0.0
    clock = time.time

    def move(seconds: float) -> None:
        nonlocal ahead_s
        ahead_s += seconds

    monkeypatch.setattr(time, "time", lambda: clock() + ahead_s)
    # A runtime keeps the clock that it was made with.
    monkeypatch.setattr(Runtime.__init__, "__kwdefaults__", {"clock": time.time})
    return move


def old_side_answers() -> bool:
    with db.read() as conn:
        return bool(conn.execute(OLD_SIDE).scalar_one())


async def old_side_answers_async() -> bool:
    async with aio.read() as conn:
        return bool((await conn.execute(OLD_SIDE)).scalar_one())


def connects() -> int:
    return int(db.status()["totals"]["connects"])


READS: dict[str, tuple[Callable[[], bool], dict[str, Any]]] = {
    "db": (old_side_answers, {}),
    "aio": (lambda: event_loop.run(old_side_answers_async()), {}),
    "aio on asyncpg": (lambda: event_loop.run(old_side_answers_async()), {"async_driver": "asyncpg"}),
}


@pytest.mark.parametrize("read", READS)
def test_who_has_lost_a_connection_does_not_stay_where_it_ends(
    read: str, site: Site, later: Callable[[float], None]
) -> None:
    """The reader's name was late, and no server there says that it is the old one: one connect more, and no others."""
    answers, settings = READS[read]
    site.configure(reader=True, **settings)
    assert not answers()
    site.lead_to(site.cluster.standby, cut=True)
    assert _tolerating_a_loss(answers)
    site.lead_to(site.cluster.primary)
    later(SUSPECT_S - 5)
    assert (answers(), connects()) == (True, 2)
    later(5)
    assert (answers(), connects()) == (False, 3)
    later(SUSPECT_S)
    assert (answers(), connects()) == (False, 3)


def _tolerating_a_loss(answers: Callable[[], bool]) -> bool:
    with contextlib.suppress(exc.DBAPIError):  # asyncpg has no flights that could be sent again
        return answers()
    return answers()


@pytest.mark.parametrize("read", READS)
def test_a_writer_that_says_it_is_a_standby_is_left_soon(read: str, site: Site, later: Callable[[float], None]) -> None:
    """Again and again, as long as the name leads there: who has just started has lost nothing that would tell."""
    answers, settings = READS[read]
    site.lead_to(site.cluster.standby)
    site.configure(**settings)
    assert answers()
    later(SUSPECT_S - 5)
    assert (answers(), connects()) == (True, 1)
    later(5)
    assert (answers(), connects()) == (True, 2)
    site.lead_to(site.cluster.primary)
    later(SUSPECT_S)
    assert (answers(), connects()) == (False, 3)


def test_a_writer_that_is_read_only_by_its_settings_is_left_soon(site: Site, later: Callable[[float], None]) -> None:
    """As RDS leaves the old side of a blue/green deployment."""
    owner = site.database.owner
    site.cluster.primary.execute(f"ALTER ROLE {owner} SET default_transaction_read_only = on")
    site.configure()
    old_side_answers()
    site.cluster.primary.execute(f"ALTER ROLE {owner} RESET default_transaction_read_only")
    later(SUSPECT_S)
    for _ in range(2):
        old_side_answers()
        later(SUSPECT_S)
    assert connects() == 2


def test_a_role_that_only_reads_is_left_alone_in_the_end(site: Site, later: Callable[[float], None]) -> None:
    """It costs four connects in seven and a half minutes, and none from then on."""
    owner = site.database.owner
    site.cluster.primary.execute(f"ALTER ROLE {owner} SET default_transaction_read_only = on")
    site.configure(pool_recycle_s=7200, pool_idle_s=7200)
    for spell_s in (30, 60, 120, 240, 600, 600):
        old_side_answers()
        later(spell_s)
    assert connects() == 5


def test_a_pooler_is_not_asked_what_its_server_is(site: Site, later: Callable[[float], None]) -> None:
    """It chooses one for each transaction, and says what one of them said once."""
    site.lead_to(site.cluster.standby)
    site.configure(proxy="pgbouncer")
    old_side_answers()
    later(SUSPECT_S)
    assert (old_side_answers(), connects()) == (True, 1)


def test_a_reader_may_be_a_standby(site: Site, later: Callable[[float], None]) -> None:
    """It is what they are for."""
    site.lead_to(site.cluster.standby)
    site.configure(reader=True)
    old_side_answers()
    later(SUSPECT_S)
    assert (old_side_answers(), connects()) == (True, 1)


@pytest.mark.parametrize("read", READS)
def test_a_reader_that_joins_is_read_from_when_connections_grow_old(
    read: str, site: Site, later: Callable[[float], None]
) -> None:
    """A name that balances does so at a connect, and DB_POOL_RECYCLE_S is how long that holds."""
    answers, settings = READS[read]
    site.lead_to(site.cluster.standby)
    site.configure(reader=True, pool_recycle_s=100, **settings)
    assert answers()
    site.lead_to(site.cluster.primary)
    later(90)
    assert (answers(), connects()) == (True, 1)
    later(10)
    assert (answers(), connects()) == (False, 2)


def test_a_connection_that_grew_old_is_no_sign(site: Site, later: Callable[[float], None]) -> None:
    """What takes its place is kept as that was."""
    site.configure(pool_idle_s=100)
    old_side_answers()
    later(100)
    old_side_answers()
    later(SUSPECT_S)
    assert (old_side_answers(), connects()) == (False, 2)


async def _hold_two() -> None:
    async with aio.read() as one, aio.read() as other:
        await one.execute(OLD_SIDE)
        await other.execute(OLD_SIDE)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_a_refused_write_empties_every_pool(driver: str, site: Site) -> None:
    """Of the old side nothing is kept but the connection that found out; and who comes next has a new one."""
    site.lead_to(site.cluster.standby)
    site.configure(async_driver=driver, async_connections=2)
    event_loop.run(_hold_two())
    assert (old_side_answers(), site.held_by(site.cluster.standby)) == (True, 3)
    site.lead_to(site.cluster.primary)
    with pytest.raises(exc.DBAPIError) as raised, db.begin() as tx:
        tx.execute(WRITE)
    assert sqlstate(raised.value) == READ_ONLY
    assert [old_side_answers(), event_loop.run(old_side_answers_async())] == [False, False]
    assert site.cluster.standby.all_left(site.database.name)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_a_write_that_aio_is_refused_empties_every_pool(driver: str, site: Site) -> None:
    """Whoever finds out, does for all. A task that is at work on its own connection keeps it until it is done."""
    site.lead_to(site.cluster.standby)
    site.configure(async_driver=driver, async_connections=3)
    old_side_answers()

    async def write(tx: AsyncConnection) -> None:
        await tx.execute(WRITE)

    async def go() -> list[bool]:
        await _hold_two()
        async with aio.read() as conn:
            before = (await conn.execute(OLD_SIDE)).scalar_one()
            site.lead_to(site.cluster.primary)
            await aio.run(write)
            at_work = (await conn.execute(OLD_SIDE)).scalar_one()
        return [before, at_work, *[await old_side_answers_async() for _ in range(2)]]

    assert event_loop.run(go()) == [True, True, False, False]
    assert not old_side_answers()
    assert site.cluster.standby.all_left(site.database.name)


def test_run_goes_on_at_the_new_side(site: Site) -> None:
    """While another unit of the same pool is still at work on the old one."""
    site.lead_to(site.cluster.standby)
    site.configure(pool_size=3)
    with db.read() as one, db.read() as other:
        one.execute(OLD_SIDE)
        other.execute(OLD_SIDE)

    def write(tx: Connection) -> None:
        site.lead_to(site.cluster.primary)
        tx.execute(WRITE)

    with db.read() as conn:
        db.run(write)
        assert conn.execute(OLD_SIDE).scalar_one()
    assert [old_side_answers() for _ in range(2)] == [False, False]
    assert (site.held_by(site.cluster.standby), connects()) == (0, 4)


def test_run_waits_for_a_writer_that_takes_writes(
    site: Site, later: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For longer than six attempts last: a switchover takes seconds, and nothing has been done meanwhile."""
    monkeypatch.setattr("db.transactions.run.sleep", later)
    site.lead_to(site.cluster.standby)
    site.configure()
    attempts = 0

    def write(tx: Connection) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 9:
            site.lead_to(site.cluster.primary)
        tx.execute(WRITE)

    db.run(write)
    assert attempts == 10  # the ninth was on its way to the old side


def test_run_does_not_wait_for_ever_for_one(
    site: Site, later: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DB_CONNECT_WAIT_S bounds it, as it bounds the wait for a server that is away."""
    waited: list[float] = []

    def wait(delay_s: float) -> None:
        waited.append(delay_s)
        later(delay_s)

    monkeypatch.setattr("db.transactions.run.sleep", wait)
    site.lead_to(site.cluster.standby)
    site.configure(connect_wait_s=20)
    with pytest.raises(exc.DBAPIError, match="read-only transaction"):
        db.run(lambda tx: tx.execute(WRITE))
    assert len(waited) > ATTEMPTS
    assert sum(waited) < 20


def test_a_write_in_a_read_says_nothing_of_the_server(site: Site, later: Callable[[float], None]) -> None:
    """It is the reader's own doing, on psycopg as on asyncpg."""
    site.configure(async_driver="asyncpg")

    async def write() -> None:
        async with aio.read() as conn:
            await conn.execute(WRITE)

    with pytest.raises(exc.DBAPIError, match="read-only transaction"):
        event_loop.run(write())
    with pytest.raises(exc.DBAPIError, match="read-only transaction"), db.read() as conn:
        conn.execute(WRITE)
    later(SUSPECT_S)
    assert [old_side_answers(), event_loop.run(old_side_answers_async())] == [False, False]
    assert connects() == 2
