"""What had done nothing when its connection died is done again on asyncpg; what may have done something is not."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import exc, make_url, text

import db
from db import aio
from db.environment import event_loop
from db.settings import Settings
from devkit.network.rds_proxy import error
from tests.aio.test_driver_below import below, in_use

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from sqlalchemy.ext.asyncio import AsyncConnection

    from devkit.network.faults import Lost
    from devkit.plugin import Database, MakePgBouncer, MakeRdsProxy, MakeWire
    from devkit.servers.ports import Endpoint
    from devkit.servers.postgres import Postgres
    from tests.aio.conftest import Lines, Use

    Door = Callable[[Callable[[Any], Awaitable[Any]]], Coroutine[Any, Any, Any]]

INSERT = text("INSERT INTO ledger (n) VALUES (:n)")


@pytest.fixture(autouse=True)
def asyncpg(ledger: None, use: Use) -> None:
    # What goes over a connection, it has seen before: one trip a statement.
    use(async_driver="asyncpg", pool_pre_ping=False)


@pytest.fixture
def stored(database: Database, postgres: Postgres) -> Callable[[], list[int]]:
    return lambda: [n for (n,) in postgres.execute("SELECT n FROM ledger ORDER BY n", database=database.name)]


@pytest.fixture
def kill(database: Database, postgres: Postgres) -> Callable[[], int]:
    return lambda: postgres.terminate(database.name)


async def in_begin(work: Callable[[Any], Awaitable[Any]]) -> Any:
    async with aio.begin() as tx:
        return await work(tx)


async def in_nested(work: Callable[[Any], Awaitable[Any]]) -> Any:
    async with aio.begin() as tx, tx.begin_nested(), tx.begin_nested():
        return await work(tx)


async def in_read(work: Callable[[Any], Awaitable[Any]]) -> Any:
    async with aio.read(fresh=True) as conn:
        return await work(conn)


async def in_session(work: Callable[[Any], Awaitable[Any]]) -> Any:
    async with aio.session() as session:
        return await work(session)


async def in_engine(work: Callable[[Any], Awaitable[Any]]) -> Any:
    async with aio.engine().begin() as conn:
        return await work(conn)


async def in_nested_engine(work: Callable[[Any], Awaitable[Any]]) -> Any:
    async with aio.engine().begin() as conn, conn.begin_nested():
        return await work(conn)


DOORS: dict[str, Door] = {
    "begin": in_begin,
    "nested": in_nested,
    "read": in_read,
    "session": in_session,
    "run": aio.run,
    "engine": in_engine,
    "nested, engine": in_nested_engine,
}


@pytest.mark.parametrize("way", ["direct", "pgbouncer", "relay"])
def test_a_backend_that_dies_ahead_of_the_first_statement_is_not_noticed(
    way: str,
    *,
    database: Database,
    kill: Callable[[], int],
    pgbouncer: MakePgBouncer,
    rds_proxy: MakeRdsProxy,
    lines: Lines,
    stored: Callable[[], list[int]],
) -> None:
    """Behind the prologue, and behind savepoints: whatever the unit is called."""
    fronts: dict[str, Callable[[], Endpoint]] = {
        "direct": lambda: database,
        "pgbouncer": pgbouncer,
        "relay": rds_proxy,
    }
    front = fronts[way]()
    url = make_url(database.url()).set(port=front.port)
    db.configure(
        Settings(
            url=url,
            async_driver="asyncpg",
            sslmode="disable",
            proxy="pgbouncer" if way == "pgbouncer" else "none",
        )
    )
    killed: list[str] = []

    async def through(name: str, n: int) -> int:
        async def work(tx: Any) -> int:
            if name not in killed:
                # For what has not begun yet, PgBouncer has no backend: it finds out itself that those at rest died.
                assert kill() >= (way != "pgbouncer")
                killed.append(name)
            statement = text("SELECT CAST(:n AS int)") if name == "read" else INSERT
            return int((await tx.execute(statement, {"n": n})).rowcount)

        return int(await DOORS[name](work))

    assert [event_loop.run(through(name, n)) for n, name in enumerate(DOORS, 1)] == [1] * len(DOORS)
    assert (killed, in_use()) == ([*DOORS], 0)
    assert stored() == [n for n, name in enumerate(DOORS, 1) if name != "read"]
    assert lines.events().count("replay") >= (len(DOORS) - 1 if way != "pgbouncer" else 0)


async def one(conn: Any) -> None:
    await conn.execute(INSERT, {"n": 1})


async def many(conn: Any) -> None:
    await conn.execute(INSERT, [{"n": 1}, {"n": 2}])


async def streamed(conn: Any) -> None:
    async with conn.stream(text("INSERT INTO ledger (n) VALUES (1) RETURNING n")) as rows:
        await rows.all()


# Each flight in turn is cut: what opens the transaction, preparing, executing, what ends it; then none.
DONE, UNKNOWN = "done", "OUTCOME_UNKNOWN"
SAID = [DONE, DONE, DONE, UNKNOWN, DONE]  # over the plain engine by its verdict, as it has no error of its own for that


@pytest.mark.parametrize("lost", ["request", "answer"])
@pytest.mark.parametrize("name", ["begin", "session", "run", "nested", "engine"])
def test_all_up_to_the_answer_to_the_first_statement_is_done_again(
    name: str, lost: Lost, *, database: Database, postgres: Postgres, wire: MakeWire, stored: Callable[[], list[int]]
) -> None:
    """Whichever flight it is that does not arrive, or has no answer."""
    proxy = wire()
    url = make_url(database.through(proxy).url())
    db.configure(Settings(url=url, async_driver="asyncpg", sslmode="disable"))

    async def said(n: int) -> str:
        try:
            await DOORS[name](lambda tx: tx.execute(text(f"INSERT INTO ledger (n) VALUES ({n})")))
        except (exc.OperationalError, db.OutcomeUnknownError) as error:
            return db.verdict(error).name
        return DONE

    found = []
    for flight in itertools.count(1):
        event_loop.run(said(-flight))
        cut = proxy.cut_at(flight, lost=lost)
        found.append(event_loop.run(said(flight)))
        if found[-1] == UNKNOWN:
            assert postgres.all_left(database.name)
        is_committed = found[-1] == DONE or (lost == "answer" and flight == len(SAID) - 1)
        assert ((flight in stored()), in_use()) == (is_committed, 0)
        if not cut.fired:
            break
    assert found == SAID


@pytest.mark.parametrize("first", [one, many, streamed])
def test_a_first_statement_of_any_kind_is_sent_again(
    first: Callable[[Any], Awaitable[None]], kill: Callable[[], int], stored: Callable[[], list[int]]
) -> None:
    """One with values, with many of them, and one whose rows are streamed."""

    async def scenario() -> None:
        async with aio.begin() as tx:
            kill()
            await first(tx)

    event_loop.run(scenario())
    assert stored() == ([1, 2] if first is many else [1])


def test_savepoints_are_where_they_were(kill: Callable[[], int], stored: Callable[[], list[int]]) -> None:
    """What was undone before is not there again, and what is undone after is gone."""

    async def scenario() -> None:
        async with aio.begin() as tx:
            async with tx.begin_nested():
                gone = await tx.begin_nested()
                await gone.rollback()
                inner = await tx.begin_nested()
                kill()
                await tx.execute(INSERT, {"n": 1})
                await inner.rollback()
                await tx.execute(INSERT, {"n": 2})
            await tx.execute(INSERT, {"n": 3})

    event_loop.run(scenario())
    assert stored() == [2, 3]


def test_a_replay_leaves_no_doubt_behind(
    database: Database, wire: MakeWire, kill: Callable[[], int], stored: Callable[[], list[int]]
) -> None:
    """The server is not asked whether the transaction has failed: its end is one trip, as ever."""
    proxy = wire()
    db.configure(Settings(url=make_url(database.through(proxy).url()), async_driver="asyncpg", sslmode="disable"))

    async def scenario() -> int:
        async with aio.begin() as tx:
            kill()
            await tx.execute(INSERT, {"n": 1})
            before = proxy.counts()
        return (proxy.counts() - before).trips

    assert event_loop.run(scenario()) == 1
    assert stored() == [1]


def test_a_unit_that_sent_nothing_has_nothing_to_lose(kill: Callable[[], int]) -> None:
    """Its COMMIT is one of nothing, so no outcome is unknown; its rollback likewise."""

    async def scenario() -> None:
        for _ in range(2):
            async with aio.begin():
                kill()
        async with aio.begin() as tx:
            kill()
            await tx.rollback()

    event_loop.run(scenario())
    assert in_use() == 0


def test_a_plain_transaction_that_sent_nothing_has_nothing_to_lose(kill: Callable[[], int]) -> None:
    """A savepoint alone is nothing either."""

    async def scenario() -> None:
        async with aio.engine().begin() as conn:
            await conn.begin_nested()
            assert kill() == 1

    event_loop.run(scenario())


# What is left to fail.


async def answered(tx: AsyncConnection) -> None:
    await tx.execute(INSERT, {"n": 1})


async def answered_in_a_savepoint(tx: AsyncConnection) -> None:
    async with tx.begin_nested():
        await tx.execute(INSERT, {"n": 1})


async def answered_over_the_driver(tx: AsyncConnection) -> None:
    await (await below(tx)).execute("INSERT INTO ledger (n) VALUES (1)")


async def in_the_drivers_savepoint(tx: AsyncConnection) -> None:
    await (await below(tx)).transaction().start()


async def copied(tx: AsyncConnection) -> None:
    await (await below(tx)).copy_records_to_table("ledger", records=[(1, None)])


async def refused_and_caught(tx: AsyncConnection) -> None:
    await tx.begin_nested()
    with pytest.raises(exc.ProgrammingError):
        await tx.exec_driver_sql("SELECT missing")


FIRST = [
    answered,
    answered_in_a_savepoint,
    answered_over_the_driver,
    in_the_drivers_savepoint,
    copied,
    refused_and_caught,
]


@pytest.mark.parametrize("door", [in_begin, in_engine])
@pytest.mark.parametrize("first", FIRST)
def test_what_follows_a_statement_is_left_to_fail(
    first: Callable[[AsyncConnection], Awaitable[None]],
    door: Door,
    *,
    kill: Callable[[], int],
    stored: Callable[[], list[int]],
) -> None:
    """In whatever way that one was sent: without it, the rest would be half of the work."""

    async def work(tx: AsyncConnection) -> None:
        await first(tx)
        kill()
        await tx.execute(INSERT, {"n": 9})

    with pytest.raises(exc.OperationalError) as caught:
        event_loop.run(door(work))
    assert caught.value.connection_invalidated
    # What the driver sends by itself over the plain engine is committed by itself.
    by_itself = {1} if door is in_engine and first in {answered_over_the_driver, copied} else set()
    assert (set(stored()), in_use()) == (by_itself, 0)


def test_what_was_lost_over_the_driver_is_not_left_out(
    kill: Callable[[], int], stored: Callable[[], list[int]]
) -> None:
    """Whoever caught that error would commit the rest without it."""

    async def scenario() -> None:
        async with aio.begin() as tx:
            kill()
            with pytest.raises(Exception, match="clos"):
                await (await below(tx)).execute("INSERT INTO ledger (n) VALUES (1)")
            await tx.execute(INSERT, {"n": 2})

    with pytest.raises(exc.OperationalError):
        event_loop.run(scenario())
    assert stored() == []


def test_autocommit_is_left_to_fail(kill: Callable[[], int]) -> None:
    """Each statement commits there, so the lost one may have."""

    async def scenario() -> None:
        async with aio.engine().connect() as conn:
            await conn.execution_options(isolation_level="AUTOCOMMIT")
            kill()
            await conn.execute(INSERT, {"n": 1})

    with pytest.raises(exc.OperationalError):
        event_loop.run(scenario())


def test_a_detached_connection_is_left_to_fail(kill: Callable[[], int]) -> None:
    """It is no longer the pool's to replace."""

    def detach(conn: Any) -> None:
        conn.detach()

    async def scenario() -> None:
        async with aio.engine().connect() as conn:
            await conn.run_sync(detach)
            kill()
            await conn.execute(INSERT, {"n": 1})

    with pytest.raises(exc.OperationalError):
        event_loop.run(scenario())


def test_it_is_tried_twice(database: Database, wire: MakeWire) -> None:
    """Where two new connections are lost as well, the caller hears of it."""
    proxy = wire()
    db.configure(Settings(url=make_url(database.through(proxy).url()), async_driver="asyncpg", sslmode="disable"))

    async def scenario() -> None:
        async with aio.begin() as tx:
            await tx.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(exc.OperationalError, match="terminating connection") as caught:
        event_loop.run(scenario())
    assert caught.value.connection_invalidated
    assert proxy.counts().connections == 3


def test_a_connection_that_the_server_has_left_is_not_sent_a_commit(stored: Callable[[], list[int]]) -> None:
    """asyncpg has heard the server's goodbye, and not yet the end of the line: what it refuses to send is undone."""

    async def scenario() -> None:
        async with aio.begin() as tx:
            await tx.execute(INSERT, {"n": 1})
            driver = await below(tx)
            driver.door._protocol.data_received(error(b"terminating connection due to administrator command"))

    with pytest.raises(exc.OperationalError, match="closed the connection") as caught:
        event_loop.run(scenario())
    assert db.verdict(caught.value) is db.Verdict.RECONNECT
    assert (stored(), in_use()) == ([], 0)
