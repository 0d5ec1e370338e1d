"""What the plain engine of ``db.aio`` leaves on a session meets nobody after it, on either driver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, text

from db import aio
from db.environment import event_loop
from db.telemetry import log
from tests.postgres.test_leftovers import KINDS

if TYPE_CHECKING:
    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres
    from tests.aio.conftest import Lines, Use

SET = "SET work_mem = '77MB'"
PID = text("SELECT pg_backend_pid()")
SAID = sorted(said for said in KINDS if "; SET" not in said)  # asyncpg takes one statement at a time


@pytest.fixture(params=["psycopg", "asyncpg"], autouse=True)
def driver(request: pytest.FixtureRequest, ledger: None, use: Use, postgres: Postgres, database: Database) -> str:
    """One connection, of a role that may become ``pg_read_all_data``; no kind has been warned of yet."""
    postgres.execute(f"GRANT pg_read_all_data TO {database.app}")
    log._said_to_be_left.clear()
    name: str = request.param
    use(async_driver=name, async_connections=1)
    return name


@pytest.mark.parametrize("said", SAID)
def test_the_next_unit_does_not_meet_it(said: str) -> None:
    """The connection is not kept."""
    _, question = KINDS[said]

    async def seen() -> tuple[Any, Any]:
        async with aio.begin() as tx:
            return await tx.scalar(text(question)), await tx.scalar(PID)

    async def scenario() -> None:
        before, pid = await seen()
        async with aio.engine().begin() as conn:
            await conn.execute(text(said))
        after, another = await seen()
        assert after == before
        assert another != pid

    event_loop.run(scenario())


def test_what_is_said_over_the_drivers_own_is_seen(lines: Lines) -> None:
    """LISTEN is, most often."""

    async def pid() -> Any:
        async with aio.begin() as tx:
            return await tx.scalar(PID)

    async def scenario() -> bool:
        before = await pid()
        async with aio.engine().connect() as conn:
            driver: Any = (await conn.get_raw_connection()).driver_connection
            await driver.execute("LISTEN news")
        return bool(before == await pid())

    assert not event_loop.run(scenario())
    assert [line["left"] for line in lines.of("leftovers")] == [["LISTEN"]]


@pytest.mark.parametrize("name", ["connect", "checkout", "checkin"])
def test_what_a_listener_of_the_pools_says_is_the_connections_own(name: str, lines: Lines) -> None:
    """For units and for the plain engine."""

    def say(connection: Any, *_: object) -> None:
        connection.cursor().execute(SET)
        connection.commit()

    async def scenario() -> set[tuple[Any, ...]]:
        event.listen(aio.engine().sync_engine, name, say)
        seen = set()
        question = text("SELECT current_setting('work_mem'), pg_backend_pid()")
        async with aio.begin() as tx:
            await tx.execute(question)
        for _ in range(2):
            async with aio.engine().connect() as conn:
                seen.add(tuple((await conn.execute(question)).one()))
            async with aio.begin() as tx:
                seen.add(tuple((await tx.execute(question)).one()))
        return seen

    assert [value for value, _ in event_loop.run(scenario())] == ["77MB"]
    assert lines.of("leftovers") == []
