"""Units of work on asyncpg: what its adapter would not notice, and what asyncpg does beside a statement."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import exc, text
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_connection

from db import aio
from db.environment import event_loop
from tests.aio.test_driver_below import INSERT, PID, TENANT, below, in_use, pid

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres
    from tests.aio.conftest import Lines, Use


@pytest.fixture(autouse=True)
def asyncpg(ledger: None, use: Use) -> None:
    use(async_driver="asyncpg")


@pytest.fixture
def stored(database: Database, postgres: Postgres) -> Callable[[], list[tuple[Any, ...]]]:
    return lambda: postgres.execute("SELECT n, tenant FROM ledger ORDER BY n", database=database.name)


async def add(n: int) -> None:
    async with aio.begin(tenant="acme") as tx:
        await tx.execute(INSERT, {"n": n})


@pytest.mark.parametrize("words", ["COMMIT", "END TRANSACTION", "ROLLBACK", "SELECT 1; COMMIT", "COMMIT; SELECT 1"])
def test_asyncpg_is_not_sent_what_ends_a_unit_behind_it(
    words: str, use: Use, stored: Callable[[], list[tuple[Any, ...]]]
) -> None:
    """The error says what to call; the transaction stands, and commits at the end of the block."""

    async def scenario() -> None:
        async with aio.begin(tenant="acme") as tx:
            await tx.execute(INSERT, {"n": 1})
            with pytest.raises(exc.InterfaceError, match=r"tx\.commit\(\)"):
                await tx.exec_driver_sql(words)
            with pytest.raises(Exception, match=r"tx\.commit\(\)"):
                await (await below(tx)).execute(words)
            await tx.execute(INSERT, {"n": 2})

    event_loop.run(scenario())
    assert stored() == [(1, "acme"), (2, "acme")]


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("SAVEPOINT a;COMMIT", exc.InterfaceError),
        ("SAVEPOINT a;SET/**/app.tenant_id='globex'", exc.ProgrammingError),
    ],
)
def test_a_savepoint_has_nothing_behind_it(
    said: str, error: type[Exception], stored: Callable[[], list[tuple[Any, ...]]]
) -> None:
    """What waits goes in a text that may hold several commands; the text of one statement may not."""

    async def scenario() -> None:
        async with aio.begin(tenant="acme") as tx:
            await tx.execute(INSERT, {"n": 1})
            await tx.exec_driver_sql(said)
            await tx.execute(INSERT, {"n": 2})

    with pytest.raises(error):
        event_loop.run(scenario())
    assert stored() == []


def test_a_comment_ends_with_its_command(stored: Callable[[], list[tuple[Any, ...]]]) -> None:
    """It would hide the prologue, or COMMIT, which go behind it in one text."""

    async def scenario() -> None:
        async with aio.begin(tenant="acme") as tx:
            await tx.exec_driver_sql("SET TRANSACTION READ WRITE -- for once")
            await tx.execute(INSERT, {"n": 1})
            assert await tx.scalar(TENANT) == "acme"

    event_loop.run(scenario())
    assert stored() == [(1, "acme")]


@pytest.mark.parametrize("said", ["SET TRANSACTION READ MORE", "SAVEPOINT select"])
@pytest.mark.parametrize("savepoint", [False, True])
def test_what_follows_an_opening_that_cannot_be_read_is_refused(
    said: str, savepoint: bool, stored: Callable[[], list[tuple[Any, ...]]]
) -> None:
    """The server runs nothing of such a text, not BEGIN either: the rest would commit by itself, without tenant."""

    async def scenario() -> None:
        async with aio.begin(tenant="acme") as tx:
            await tx.exec_driver_sql(said)
            with pytest.raises(exc.ProgrammingError, match="syntax error"):
                await tx.execute(INSERT, {"n": 1})
            with pytest.raises(exc.InternalError, match="refused as it began"):
                await tx.execute(INSERT, {"n": 2})
            if savepoint:
                with pytest.raises(exc.SQLAlchemyError):
                    async with tx.begin_nested():
                        await tx.execute(INSERT, {"n": 3})

    with pytest.raises(exc.PendingRollbackError, match="had failed"):
        event_loop.run(scenario())
    assert stored() == []
    event_loop.run(add(4))
    assert stored() == [(4, "acme")]


def test_autocommit_of_the_drivers_is_refused_in_a_unit_and_ends_with_it(
    use: Use, stored: Callable[[], list[tuple[Any, ...]]]
) -> None:
    """A statement in it would be committed by itself, without tenant."""

    def switch(conn: Any) -> None:
        conn.connection.rollback()
        conn.connection.dbapi_connection.autocommit = True

    async def scenario() -> Any:
        with pytest.raises(exc.ProgrammingError, match="AUTOCOMMIT"):
            async with aio.begin(tenant="acme") as tx:
                await tx.run_sync(switch)
                await tx.execute(INSERT, {"n": 1})
        async with aio.begin(tenant="acme") as tx:
            await tx.execute(INSERT, {"n": 2})
            await tx.rollback()

    event_loop.run(scenario())
    assert stored() == []


def test_what_is_still_under_way_when_its_unit_ends_takes_the_connection_along(use: Use) -> None:
    """A task that was left behind would read, or wait for, another unit's answer."""
    use(async_driver="asyncpg", async_connections=1)

    async def scenario() -> tuple[Any, Any]:
        with pytest.raises(LookupError):
            async with aio.begin() as tx:
                before = await tx.scalar(PID)
                left_behind = asyncio.create_task((await below(tx)).execute("SELECT pg_sleep(30)"))
                await asyncio.sleep(0.1)
                raise LookupError
        async with aio.begin() as tx:
            after = await tx.scalar(PID)
        assert (await asyncio.gather(left_behind, return_exceptions=True))[0] is not None
        return before, after

    before, after = event_loop.run(scenario())
    assert before != after
    assert in_use() == 0


def test_a_source_that_fails_amid_a_copy_fails_the_unit(stored: Callable[[], list[tuple[Any, ...]]], use: Use) -> None:
    """By its own error; where that is caught, nothing is committed, and the next unit works."""

    async def rows() -> Any:
        yield b"1\tacme\n"
        raise LookupError

    async def scenario(*, caught: bool) -> None:
        async with aio.begin() as tx:
            await tx.execute(text("SELECT 1"))
            try:
                await (await below(tx)).copy_to_table("ledger", source=rows())
            except LookupError:
                if not caught:
                    raise

    with pytest.raises(LookupError):
        event_loop.run(scenario(caught=False))
    with pytest.raises(exc.PendingRollbackError):
        event_loop.run(scenario(caught=True))
    assert event_loop.run(pid())
    assert (stored(), in_use()) == ([], 0)


def test_a_listener_of_asyncpgs_that_raises_disturbs_no_answer(use: Use) -> None:
    """asyncpg calls it beside the statement, and its error is the loop's to report, once."""
    reported: list[Any] = []

    def raising(*_: Any) -> None:
        raise LookupError

    async def scenario() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
        async with aio.begin(tenant="acme") as tx:
            (await below(tx)).add_log_listener(raising)
            await tx.exec_driver_sql("DO $$ BEGIN RAISE NOTICE 'heard'; END $$")
            return await tx.scalar(TENANT)

    assert event_loop.run(scenario()) == "acme"
    assert [type(error) for error in reported] == [LookupError]


def test_a_connection_that_dies_between_begin_and_prologue_is_replaced(
    use: Use, lines: Lines, database: Database, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the driver has heard of it in the meantime, and refuses to send the prologue."""
    start: Any = AsyncAdapt_asyncpg_connection._start_transaction
    killed: list[int] = []

    async def start_and_die(adapter: Any) -> None:
        await start(adapter)
        if not killed:
            killed.append(postgres.terminate(database.name))
            await asyncio.sleep(0.1)

    monkeypatch.setattr(AsyncAdapt_asyncpg_connection, "_start_transaction", start_and_die)
    assert event_loop.run(pid())
    assert (killed, lines.events().count("replay"), in_use()) == ([1], 1, 0)
