"""The event loop: one that outlives invocations, others, and what becomes of connections in between."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import exc, make_url, text

import db
from db import aio
from db.environment import event_loop, sigterm
from db.settings import Settings

if TYPE_CHECKING:
    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres
    from tests.aio.conftest import Lines, Use

SRC = Path(__file__).parents[2] / "src"
PID = text("SELECT pg_backend_pid()")


@pytest.fixture(params=["psycopg", "asyncpg"], autouse=True)
def driver(request: pytest.FixtureRequest, use: Use) -> str:
    name: str = request.param
    use(async_driver=name)
    return name


async def pid() -> int:
    async with aio.read() as conn:
        return int((await conn.execute(PID)).scalar_one())


@db.invocation
async def handler(_event: Any, _context: Any) -> int:
    return await pid()


@db.invocation
def handler_with_its_own_loop(_event: Any, _context: Any) -> int:
    return asyncio.run(pid())


def test_two_invocations_use_the_same_connection() -> None:
    """The loop that it belongs to is kept between them."""
    assert handler({}, None) == handler({}, None)
    assert db.status()["totals"]["connects"] == 1


def test_what_the_server_ended_between_two_invocations_is_replaced(database: Database, postgres: Postgres) -> None:
    """The loop did not run meanwhile, as in a frozen environment, and so could not notice."""
    first = handler({}, None)
    postgres.terminate(database.name)
    assert handler({}, None) != first


def test_a_loop_for_each_invocation_works_and_is_warned_of(lines: Lines) -> None:
    """Connections end with the loop that they were made on, so each invocation connects."""
    with warnings.catch_warnings():
        # asyncpg's transports were open when their loop was closed, and say so.
        warnings.simplefilter("ignore", ResourceWarning)
        assert handler_with_its_own_loop({}, None) != handler_with_its_own_loop({}, None)
        db.dispose()
        gc.collect()
    assert (lines.events().count("connect"), lines.events().count("close")) == (2, 2)
    assert len(lines.of("lost loop")) == 1


def test_a_second_loop_beside_an_open_one_is_refused() -> None:
    """Before anything is sent: a connection cannot be waited for on two loops."""
    handler({}, None)
    with pytest.raises(db.ConfigurationError, match="another event loop"):
        handler_with_its_own_loop({}, None)
    handler({}, None)
    assert db.status()["totals"]["connects"] == 1


def test_a_null_pool_serves_any_loop(use: Use, driver: str) -> None:
    """None of its connections outlives a loop."""
    use(pool="null", async_driver=driver)
    handler({}, None)
    handler_with_its_own_loop({}, None)
    assert db.status()["totals"]["closes"] == 2


def test_dispose_closes_from_plain_code(database: Database, postgres: Postgres) -> None:
    """The loop need not run for it, and the next invocation connects again."""
    first = handler({}, None)
    db.dispose()
    assert postgres.all_left(database.name, user=database.app)
    assert handler({}, None) != first


def test_dispose_closes_what_is_in_use() -> None:
    """Also under a statement: its task is told so."""

    async def scenario() -> None:
        async with aio.begin() as tx:
            await tx.execute(PID)
            under_way = asyncio.create_task(tx.execute(text("SELECT pg_sleep(30)")))
            await asyncio.sleep(0.2)
            db.dispose()
            await under_way

    with pytest.raises(exc.DBAPIError):
        event_loop.run(scenario())
    numbers = db.status()
    assert numbers["engines"]["aio writer"]["checked_out"] == 0
    assert numbers["totals"]["connects"] == numbers["totals"]["closes"]


def test_the_environments_end_closes_them(database: Database, postgres: Postgres, lines: Lines) -> None:
    """A signal handler has no greenlet to wait in."""
    handler({}, None)
    sigterm.close_connections()
    assert [(line["closed"], line["failed"]) for line in lines.of("shutdown")] == [(1, 0)]
    assert postgres.all_left(database.name, user=database.app)


IN_A_FORK = """
import asyncio, os, sys
import db
from db import aio
from db.environment import event_loop
from sqlalchemy import text

async def pid():
    async with aio.read() as conn:
        return await conn.scalar(text("SELECT pg_backend_pid()"))

parents = event_loop.run(pid())
if os.fork() == 0:
    other = event_loop.run(pid())
    event_loop.close()
    os._exit(other == parents)
print(os.waitstatus_to_exitcode(os.wait()[1]), event_loop.run(pid()) == parents)
db.dispose()
"""


def test_a_forked_child_has_connections_of_its_own(database: Database, driver: str) -> None:
    """And its parent's goes on working."""
    environment = {**os.environ, "PYTHONPATH": str(SRC), "DB_URL": database.url(), "DB_ASYNC_DRIVER": driver}
    done = subprocess.run(
        [sys.executable, "-c", IN_A_FORK], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert (done.stdout, complaints) == ("0 True\n", [])


def test_a_schema_is_the_search_path(database: Database, postgres: Postgres, driver: str) -> None:
    """Of every connection, by startup option or, behind a proxy, by each transaction's prologue."""

    async def path() -> Any:
        async with aio.begin() as tx:
            return await tx.scalar(text("SHOW search_path"))

    for proxy in ("none", "pgbouncer"):
        db.configure(Settings(url=make_url(database.url()), schema="shop", proxy=proxy, async_driver=driver))  # type: ignore[arg-type]
        assert event_loop.run(path()) == "shop"
        with db.begin() as tx:
            assert tx.scalar(text("SHOW search_path")) == "shop"


def test_another_database_is_refused(driver: str) -> None:
    """SQLite would block the event loop."""
    db.configure(Settings(url=make_url("sqlite://"), async_driver=driver))  # type: ignore[arg-type]
    with pytest.raises(db.ConfigurationError, match="on SQLite: it blocks"):
        event_loop.run(pid())
