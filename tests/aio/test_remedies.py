"""What is refused inside of a unit of work, and what to write instead: by both twins, over both drivers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import exc, text

import db
from db import aio
from db.environment import event_loop

from .conftest import Twin

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from .conftest import Use

ONE = text("SELECT 1")
AUTOCOMMIT = 'db.engine().connect().execution_options(isolation_level="AUTOCOMMIT")'


@pytest.fixture(params=["db", "aio", "asyncpg"])
def twin(request: pytest.FixtureRequest, use: Use) -> Twin:
    """A twin, with an engine that connects."""
    driver = "asyncpg" if request.param == "asyncpg" else "psycopg"
    use(async_driver=driver)
    return Twin("db" if request.param == "db" else "aio", driver=driver)


async def in_unit(twin: Twin, work: Callable[[Any], Coroutine[Any, Any, object]]) -> None:
    async with twin.begin() as tx:
        await tx.execute(ONE)
        await work(tx)


def notes_of(error: BaseException) -> str:
    return " ".join(getattr(error, "__notes__", ()))


@pytest.mark.parametrize("level", ["SERIALIZABLE", "AUTOCOMMIT"])
def test_a_level_that_comes_too_late_names_the_argument(twin: Twin, level: str) -> None:
    """And the engine, for what runs in no transaction; the unit goes on."""

    async def work(tx: Any) -> None:
        with pytest.raises(exc.InvalidRequestError, match=r"db\.begin\(isolation=") as caught:
            tx.sync_connection.execution_options(isolation_level=level)
        assert AUTOCOMMIT in str(caught.value)
        assert (await tx.execute(text("SHOW transaction_isolation"))).scalar_one() == "read committed"

    event_loop.run(in_unit(twin, work))


@pytest.mark.parametrize(("name", "told"), [("SERIALIZABLE", "serializable"), ("AUTOCOMMIT", "read committed")])
@pytest.mark.usefixtures("twin")
def test_a_plain_connection_is_given_any_level(name: str, told: str) -> None:
    """Before its transaction, as SQLAlchemy has it."""

    async def scenario() -> None:
        async with aio.engine().connect() as conn:
            await conn.execution_options(isolation_level=name)
            assert (await conn.execute(text("SHOW transaction_isolation"))).scalar_one() == told

    event_loop.run(scenario())


def test_what_runs_in_no_transaction_is_shown_the_engine(twin: Twin) -> None:
    """In a note, as the error is SQLAlchemy's own."""

    async def work(tx: Any) -> None:
        await tx.execute(text("VACUUM"))

    with pytest.raises(exc.DBAPIError) as caught:
        event_loop.run(in_unit(twin, work))
    assert notes_of(caught.value).count(AUTOCOMMIT) == 1


def test_a_write_in_a_read_is_shown_where_it_belongs(twin: Twin) -> None:
    """In a note as well."""

    async def scenario() -> None:
        async with twin.read() as conn:
            await conn.execute(text("CREATE TABLE t (n int)"))

    with pytest.raises(exc.DBAPIError) as caught:
        event_loop.run(scenario())
    assert "db.begin()" in notes_of(caught.value)


@pytest.mark.parametrize("said", ["SET TRANSACTION READ ONLY", "SET transaction_read_only = on"])
def test_a_write_behind_read_only_is_not_waited_for(twin: Twin, said: str) -> None:
    """It is the function's own doing, and no switchover, which run would wait for."""
    runs: list[str] = []

    async def write(tx: Any) -> None:
        runs.append(said)
        await tx.execute(text(said))
        await tx.execute(text("CREATE TABLE written (n int)"))

    with pytest.raises(exc.DBAPIError, match="read-only transaction") as refused:
        event_loop.run(twin.run(write))
    assert (runs, db.verdict(refused.value)) == ([said], db.Verdict.GIVE_UP)


def test_a_fetch_of_no_rows_says_which_statement(twin: Twin) -> None:
    """What it said for its transaction is gone with that."""
    with pytest.raises(exc.InvalidRequestError, match="statement 2 gives none"):
        event_loop.run(twin.fetch(ONE, text("SET LOCAL work_mem = '64MB'")))
    assert event_loop.run(twin.fetch(ONE))[0].scalar_one() == 1


def test_the_runtime_is_not_replaced_while_a_unit_is_at_work(twin: Twin) -> None:
    """Whoever is in it would lose its connection."""

    async def work(tx: Any) -> None:
        with pytest.raises(db.ConfigurationError, match=r"db\.configure\(\) closes every connection"):
            db.configure()
        await tx.execute(ONE)

    event_loop.run(in_unit(twin, work))


def test_a_unit_that_is_disposed_of_commits_nothing_and_says_why(twin: Twin) -> None:
    """A signal's handler may have to dispose of it; the next unit connects again."""

    async def disposes(tx: Any) -> None:
        await tx.execute(text("CREATE TEMPORARY TABLE t ON COMMIT DROP AS SELECT 1"))
        db.dispose()

    async def goes_on(tx: Any) -> None:
        await disposes(tx)
        await tx.execute(ONE)

    for work in (disposes, goes_on):
        with pytest.raises(exc.DBAPIError) as caught:
            event_loop.run(in_unit(twin, work))
        assert caught.value.connection_invalidated
        assert "db.dispose()" in notes_of(caught.value)
    assert event_loop.run(twin.fetch(ONE))[0].scalar_one() == 1
