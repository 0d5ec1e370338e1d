"""``db.aio`` on MariaDB: the promises of the plain calls; and of tasks: others go on, and each can be cancelled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import exc, text

import db
from db import aio
from db.environment import event_loop

from .conftest import numbers
from .test_work import LEDGER, failed, record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

    from sqlalchemy.ext.asyncio import AsyncConnection

    from devkit.network.faults import Lost
    from devkit.network.mysql_statements import MySqlWire
    from devkit.plugin import MakeLambdaContext
    from devkit.servers.mariadb import MariaDb

    from .conftest import Use

ONE = text("SELECT n FROM ledger")
WRITE = text("UPDATE ledger SET note = 'x'")
INSERT = text("INSERT INTO ledger (n) VALUES (:n)")
SLEEP = text("SELECT sleep(30)")


@pytest.fixture(autouse=True)
def closed_loop(ledger: None, use: Use) -> Iterator[None]:
    """Each test begins on a loop of its own."""
    yield
    db.dispose()
    event_loop.close()


async def write() -> None:
    async with aio.begin() as tx:
        await tx.execute(WRITE)


async def savepoints() -> None:
    async with aio.begin() as tx:
        for _ in range(3):
            async with tx.begin_nested():
                await tx.execute(WRITE)


async def read() -> None:
    async with aio.read() as conn:
        await conn.execute(ONE)


async def snapshot() -> None:
    async with aio.read(snapshot=True) as conn:
        await conn.execute(ONE)
        await conn.execute(ONE)


async def fetch() -> None:
    await aio.fetch(ONE, ONE, ONE)


async def nothing() -> None:
    async with aio.begin():
        pass


async def add(n: int) -> None:
    async with aio.begin() as tx:
        await tx.execute(INSERT, {"n": n})


async def insert(tx: AsyncConnection, n: int) -> int:
    await tx.execute(INSERT, {"n": n})
    return n


@pytest.mark.parametrize(
    ("work", "trips"), [(write, 2), (savepoints, 4), (read, 1), (snapshot, 3), (fetch, 4), (nothing, 0)]
)
def test_a_warm_unit_costs_what_it_costs_without_a_loop(
    work: Callable[[], Awaitable[None]], trips: int, wire: MySqlWire
) -> None:
    """The opening goes with the first statement, and what ends the limits with COMMIT; the first unit logs in."""

    async def scenario() -> None:
        await write()
        before = wire.counts()
        await work()
        assert (wire.counts() - before).trips == trips
        assert (wire.counts() - before).connections == 0

    before = wire.counts()
    event_loop.run(write())
    assert (wire.counts() - before).trips == 4
    event_loop.run(scenario())


def test_the_work_that_is_built_of_units() -> None:
    """run, session, batch, copy_rows, reflect: each does what its plain twin does."""

    async def handle(tx: AsyncConnection, one: Any) -> None:
        await insert(tx, one.json_body)
        if one.json_body == 2:
            raise KeyError

    async def scenario() -> None:
        assert failed(await aio.batch({"Records": [record(n) for n in (1, 2, 3)]}, handle)) == ["m2"]
        assert await aio.copy_rows(LEDGER, [(n, "x") for n in range(10, 110)]) == 100
        assert await aio.run(insert, 4) == 4
        async with aio.session() as orm:
            await orm.execute(INSERT, {"n": 5})
        assert "ledger" in (await aio.reflect()).tables
        with pytest.raises(exc.OperationalError) as refused:
            async with aio.read() as conn:
                await conn.execute(INSERT, {"n": 6})
        assert db.sqlstate(refused.value) == "25006"

    event_loop.run(scenario())
    assert numbers() == [1, 3, 4, 5, *range(10, 110)]


def test_tasks_share_the_loop_and_not_a_connection(wire: MySqlWire) -> None:
    """Three that wait for the server do so at the same time, each in a transaction of its own."""

    async def one(n: int) -> None:
        async with aio.begin() as tx:
            await tx.execute(INSERT, {"n": n})
            while not released.is_set():
                arrived.add(n)
                if len(arrived) == 3:
                    released.set()
                await tx.execute(text("SELECT sleep(0.01)"))

    released, arrived = asyncio.Event(), set[int]()
    event_loop.run(aio.gather(*(one(n) for n in (1, 2, 3))))
    assert numbers() == [1, 2, 3]
    assert wire.counts().connections >= 3


@pytest.mark.parametrize("before", [(), (1,)], ids=["first flight", "later"])
def test_a_cancelled_statement_is_ended_on_the_server(before: tuple[int, ...], running: Callable[[], int]) -> None:
    """Its connection is given up, and the next unit of work has another."""

    async def scenario() -> None:
        await nothing()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3), aio.begin() as tx:
                for n in before:
                    await insert(tx, n)
                await tx.execute(SLEEP)
        assert sum(one["checked_out"] for one in db.status()["engines"].values()) == 0
        await add(2)

    event_loop.run(scenario())
    assert running() == 0
    assert numbers() == [2]


async def cancelled_once(come: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Await ``work``, and cancel it when it waits for the first time after ``come``."""
    task = asyncio.create_task(work)
    await come.wait()
    task.cancel()
    await task


def test_a_task_that_is_cancelled_between_statements_rolls_back(wire: MySqlWire) -> None:
    """And the connection is good for the next."""

    async def scenario() -> None:
        inserted = asyncio.Event()

        async def work() -> None:
            async with aio.begin() as tx:
                await insert(tx, 1)
                inserted.set()
                await asyncio.sleep(30)

        with pytest.raises(asyncio.CancelledError):
            await cancelled_once(inserted, work())
        await add(2)

    before = wire.counts()
    event_loop.run(scenario())
    assert (wire.counts() - before).connections == 1
    assert numbers() == [2]


def test_a_task_that_is_cancelled_while_it_commits_does_not_know(wire: MySqlWire) -> None:
    """COMMIT has been sent: whoever hears of a cancellation would take it for undone."""

    async def scenario() -> None:
        silent = asyncio.Event()

        async def work() -> None:
            async with aio.begin() as tx:
                await insert(tx, 1)
                wire.blackhole()
                silent.set()

        await cancelled_once(silent, work())

    with pytest.raises(db.OutcomeUnknownError, match="cancelled"):
        event_loop.run(scenario())
    assert numbers() == []


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_what_is_lost_is_replayed_or_unknown(lost: Lost, wire: MySqlWire) -> None:
    """A first flight is sent again; a COMMIT is not, and nobody knows what became of it."""

    async def scenario() -> None:
        await add(1)
        first = wire.cut_at(1, lost=lost)
        await add(2)
        second = wire.cut_at(2, lost=lost)
        with pytest.raises(db.OutcomeUnknownError):
            await add(3)
        assert first.fired
        assert second.fired

    event_loop.run(scenario())
    assert numbers() == ([1, 2] if lost == "request" else [1, 2, 3])


def test_a_connection_that_died_between_invocations_is_not_noticed(wire: MySqlWire, mariadb: MariaDb) -> None:
    """It is seen by the socket, before anything is sent; so is a server that has restarted."""
    event_loop.run(add(1))
    wire.cut()
    event_loop.run(add(2))
    mariadb.restart("fast")
    event_loop.run(add(3))
    assert numbers() == [1, 2, 3]


def test_what_the_server_does_not_limit_is_killed_from_outside(
    lambda_context: MakeLambdaContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As MySQL's writes: by a timer of the loop's, and over a connection that does not hold it up."""
    from db.wire.mysql_connections import MySqlConnection

    monkeypatch.setattr(MySqlConnection, "limits_writes", False)
    monkeypatch.setattr(MySqlConnection, "_limit_value", lambda *_: "0")
    event_loop.run(add(1))

    @db.invocation
    async def handler(_event: object, _context: object) -> None:
        async with aio.begin() as tx:
            await tx.execute(text("UPDATE ledger SET note = sleep(4)"))

    with pytest.raises(exc.OperationalError) as ended:
        handler({}, lambda_context(remaining_s=1.0))
    assert ended.value.orig is not None
    assert ended.value.orig.args[0] == 1317


def test_rows_are_streamed(wire: MySqlWire) -> None:
    """As they are asked for; what nobody reads any more is read to its end at COMMIT, or refuses what comes between."""

    async def scenario() -> None:
        await aio.copy_rows(LEDGER, [(n, "x") for n in range(300)])
        async with aio.read(snapshot=True) as conn:
            found = await conn.stream(text("SELECT n FROM ledger ORDER BY n"))
            assert [row.n async for row in found] == list(range(300))
        async with aio.begin() as tx:
            found = await tx.stream(ONE)
            await found.first()
            await insert(tx, 1000)
        with pytest.raises(db.ConfigurationError, match="streamed"):
            async with aio.begin() as tx:
                unread = await tx.stream(ONE)
                await tx.execute(WRITE)
        del unread
        await add(1001)

    event_loop.run(scenario())
    assert numbers()[-2:] == [1000, 1001]


def test_connections_belong_to_their_loop() -> None:
    """A second loop beside the first is refused; when that is closed, the pool begins anew."""
    with asyncio.Runner() as first:
        first.run(add(1))
        with asyncio.Runner() as second, pytest.raises(db.ConfigurationError, match="another event loop"):
            second.run(add(2))
    asyncio.run(add(3))
    assert numbers() == [1, 3]
