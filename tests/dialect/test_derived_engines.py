"""Engines that were made of another: what they dispose of is their own, as it is with SQLAlchemy's."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

import db
from db import aio
from db.environment import event_loop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres

    from .conftest import Use


def backend_pid(engine: Engine) -> int:
    """The server process behind the one connection that the engine's pool keeps."""
    with engine.connect() as conn:
        return int(conn.execute(text("SELECT pg_backend_pid()")).scalar_one())


def test_a_copy_with_a_pool_of_its_own_leaves_the_originals_alone(either: Engine) -> None:
    """Disposed of, each connects anew for itself."""
    copied = copy.copy(either)
    copied.pool = either.pool.recreate()
    kept, others = backend_pid(either), backend_pid(copied)
    copied.dispose()
    assert backend_pid(either) == kept
    assert backend_pid(copied) not in {kept, others}
    pool = copied.pool
    either.dispose()
    assert copied.pool is pool
    assert backend_pid(either) != kept
    copied.dispose()


def test_a_copy_that_shares_the_pool_closes_what_it_keeps(either: Engine) -> None:
    """And has another from then on; the original goes on with the one that was emptied."""
    copied, pool = copy.copy(either), either.pool
    before = backend_pid(either)
    copied.dispose()
    assert (either.pool is pool, copied.pool is pool) == (True, False)
    assert backend_pid(either) != before
    copied.dispose()


def test_an_engine_with_options_disposes_of_the_pool_that_it_shares(either: Engine) -> None:
    """For it has none of its own."""
    derived, pool = either.execution_options(isolation_level="AUTOCOMMIT"), either.pool
    before = backend_pid(either)
    derived.dispose()
    assert derived.pool is either.pool is not pool
    assert backend_pid(derived) != before


@pytest.fixture
def closed_loop() -> Iterator[None]:
    yield
    db.dispose()
    event_loop.close()


@pytest.mark.usefixtures("closed_loop")
def test_so_it_is_on_the_event_loop(use: Use) -> None:
    """With the engine below the asynchronous one."""
    use()

    async def pid(engine: AsyncEngine) -> int:
        async with engine.connect() as conn:
            return int((await conn.execute(text("SELECT pg_backend_pid()"))).scalar_one())

    async def scenario() -> None:
        original = aio.engine()
        below = copy.copy(original.sync_engine)
        below.pool = original.sync_engine.pool.recreate()
        copied = AsyncEngine(below)
        kept, others = await pid(original), await pid(copied)
        await copied.dispose()
        assert await pid(original) == kept
        assert await pid(copied) not in {kept, others}
        await copied.dispose()

    event_loop.run(scenario())


def test_db_dispose_leaves_no_connection_of_a_copy(use: Use, database: Database, postgres: Postgres) -> None:
    """Whoever made it, it was opened here."""
    use()
    copied = copy.copy(db.engine())
    copied.pool = db.engine().pool.recreate()
    pid = backend_pid(copied)
    assert postgres.connections(database.name) == [pid]
    db.dispose()
    assert postgres.all_left(database.name)
    copied.dispose()
