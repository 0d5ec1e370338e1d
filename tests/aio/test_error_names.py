"""One fault has one name on both drivers of ``db.aio``, that of psycopg: one ``except`` serves both."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import exc, text

import db
from db import aio
from db.environment import event_loop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncConnection

    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres
    from tests.aio.conftest import Use

    Work = Callable[[AsyncConnection], Awaitable[Any]]

RAISE = "DO $$ BEGIN RAISE EXCEPTION 'raised' USING ERRCODE = '{}'; END $$"
SQL = {
    "a unique value twice": "INSERT INTO ledger VALUES (1), (1)",
    "no such table": "SELECT FROM missing",
    "no such column": "SELECT missing",
    "a mistake in the syntax": "SELEC 1",
    "no privilege": "SELECT FROM pg_authid",
    "no number": "SELECT 'x'::int",
    "a division by zero": "SELECT 1 / 0",
    "beyond the range": "SELECT 3000000000::int",
    "not supported": "SELECT 1 FROM ledger GROUP BY n HAVING true FOR UPDATE",
    "a time limit": "SET LOCAL statement_timeout = 50; SELECT pg_sleep(5)",
    "its own end": "SELECT pg_terminate_backend(pg_backend_pid())",
    "a serialization failure": RAISE.format("40001"),
    "a deadlock": RAISE.format("40P01"),
    "a lock that is not to be had": RAISE.format("55P03"),
    "read-only": RAISE.format("25006"),
    "no memory": RAISE.format("53200"),
    "raised without a code": RAISE.format("P0001"),
    "a code of the user's own": RAISE.format("MY001"),
    "an internal error": RAISE.format("XX000"),
}


@pytest.fixture
def outcomes(ledger: None, use: Use) -> Callable[[Work], list[tuple[Any, ...]]]:
    """What comes of work on each driver: class of the error, SQLSTATE, whether the connection was lost, the advice."""

    async def met(work: Work) -> tuple[Any, ...]:
        try:
            async with aio.begin(tenant="acme") as tx:
                await work(tx)
        except exc.DBAPIError as error:
            return type(error), db.sqlstate(error), error.connection_invalidated, db.verdict(error)
        return ("done",)

    def both(work: Work) -> list[tuple[Any, ...]]:
        found = []
        for driver in ("psycopg", "asyncpg"):
            use(async_driver=driver)
            found.append(event_loop.run(met(work)))
        return found

    return both


@pytest.mark.parametrize("name", SQL)
def test_what_the_server_refuses_has_one_name(name: str, outcomes: Callable[[Work], list[Any]]) -> None:
    """With the same SQLSTATE and the same advice."""

    async def work(tx: AsyncConnection) -> None:
        for statement in SQL[name].split("; ") if name == "a time limit" else [SQL[name]]:
            await tx.exec_driver_sql(statement)

    of_psycopg, of_asyncpg = outcomes(work)
    assert of_psycopg == of_asyncpg
    assert issubclass(of_asyncpg[0], exc.DatabaseError)


def test_a_value_that_is_none_of_its_type_has_one_name(outcomes: Callable[[Work], list[Any]]) -> None:
    """psycopg leaves it to the server to say so, and asyncpg does not send it."""

    async def work(tx: AsyncConnection) -> None:
        await tx.execute(text("SELECT CAST(:n AS int)"), {"n": "x"})

    (of_psycopg, *_), (of_asyncpg, *_) = outcomes(work)
    assert of_psycopg is of_asyncpg is exc.DataError


# psycopg's stream whose connection was killed is closed by nobody.
@pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")
@pytest.mark.parametrize("rows", ["all", "some", "one"])
def test_a_connection_lost_amid_streamed_rows_has_one_name(
    rows: str, outcomes: Callable[[Work], list[Any]], database: Database, postgres: Postgres
) -> None:
    """However they are asked for; not that of the driver below."""

    async def work(tx: AsyncConnection) -> None:
        many = text("SELECT repeat('x', 10000) FROM generate_series(1, 10000)")
        async with tx.stream(many, execution_options={"yield_per": 10}) as streamed:
            await streamed.fetchone()
            postgres.terminate(database.name)
            match rows:
                case "all":
                    await streamed.fetchall()
                case "some":
                    await streamed.fetchmany(2000)
                case "one":
                    while await streamed.fetchone() is not None:
                        pass

    for outcome in outcomes(work):
        assert outcome == (exc.OperationalError, "57P01", True, db.Verdict.RECONNECT)
    gc.collect()  # here, where its warning is expected
