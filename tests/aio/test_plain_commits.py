"""A COMMIT of the plain engine that is cut off, or interrupted, has an unknown outcome, whoever sent it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import exc, make_url, text

import db
from db import aio
from db.environment import event_loop
from db.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

    from devkit.network.faults import Cut
    from devkit.network.wire import Wire
    from devkit.plugin import Database, MakeWire
    from devkit.servers.postgres import Postgres
    from tests.aio.conftest import Use

INSERT = text("INSERT INTO ledger SELECT coalesce(max(n), 0) + 1, 'plain' FROM ledger")
SLOW_COMMIT = """
CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(30); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER linger AFTER INSERT ON ledger DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION linger()
"""
REFUSED_COMMIT = "ALTER TABLE ledger ADD CONSTRAINT alone UNIQUE (tenant) DEFERRABLE INITIALLY DEFERRED"


@pytest.fixture(params=["queue", "null"])
def proxy(request: pytest.FixtureRequest, ledger: None, database: Database, wire: MakeWire) -> Wire:
    """The layer goes through it, and it cuts."""
    proxy = wire()
    url = make_url(database.through(proxy).url())
    db.configure(Settings(url=url, sslmode="disable", pool=request.param))
    return proxy


@pytest.fixture
def on(proxy: Wire) -> Callable[[str], None]:
    """``on(driver)`` has ``db.aio`` stand on it."""

    def stand(driver: Any) -> None:
        settings = db.environment.process.current().settings
        db.configure(Settings(url=settings.url, sslmode="disable", pool=settings.pool, async_driver=driver))

    return stand


def by_sqlalchemy(conn: Connection) -> None:
    conn.commit()


def by_a_checkout(conn: Connection) -> None:
    conn.connection.commit()


def by_the_driver(conn: Connection) -> None:
    driver: Any = conn.connection.driver_connection
    driver.commit()


def as_text(conn: Connection) -> None:
    conn.exec_driver_sql("COMMIT")


@pytest.mark.parametrize("commit", [by_sqlalchemy, by_a_checkout, by_the_driver, as_text])
def test_a_commit_that_is_cut_off_is_unknown(commit: Callable[[Connection], None], proxy: Wire) -> None:
    """Also where what follows it, as the connection is given back, fails as well."""
    cut: list[Cut] = []
    with pytest.raises(exc.DBAPIError) as caught, db.engine().connect() as conn:
        conn.execute(INSERT)
        cut.append(proxy.cut_at(1, lost="answer"))
        commit(conn)
    assert cut[0].fired
    assert db.verdict(caught.value) is db.Verdict.OUTCOME_UNKNOWN


def test_what_is_cut_off_before_it_is_not(proxy: Wire) -> None:
    """Nothing was committed: the same work may be done again."""
    with pytest.raises(exc.DBAPIError) as caught, db.engine().connect() as conn:
        conn.execute(INSERT)
        proxy.cut_at(1, lost="request")
        conn.execute(INSERT)
    assert db.verdict(caught.value) is db.Verdict.RECONNECT


async def a_awaits(conn: AsyncConnection) -> None:
    await conn.commit()


async def a_by_a_checkout(conn: AsyncConnection) -> None:
    await conn.run_sync(by_a_checkout)


async def a_as_text(conn: AsyncConnection) -> None:
    await conn.exec_driver_sql("COMMIT")


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
@pytest.mark.parametrize("commit", [a_awaits, a_by_a_checkout, a_as_text])
def test_a_commit_that_is_cut_off_is_unknown_in_aio(
    commit: Callable[[AsyncConnection], Awaitable[None]], driver: str, proxy: Wire, on: Callable[[str], None]
) -> None:
    """With the answer lost. What was cut off before it is undone, and known to be."""
    on(driver)

    async def said(*, before: bool) -> db.Verdict:
        # asyncpg asks what a new text is before it sends it.
        asks = driver == "asyncpg" and commit is a_as_text and not before
        with pytest.raises(Exception, match="connection") as caught:  # by a checkout it is the driver's
            async with aio.engine().connect() as conn:
                await conn.execute(INSERT)
                cut = proxy.cut_at(2 if asks else 1, lost="answer")
                await (conn.execute(INSERT) if before else commit(conn))
        assert cut.fired
        return db.verdict(caught.value)

    assert event_loop.run(said(before=False)) is db.Verdict.OUTCOME_UNKNOWN
    assert event_loop.run(said(before=True)) is db.Verdict.RECONNECT


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_a_commit_that_a_time_limit_interrupts_is_unknown(
    driver: str, use: Use, ledger: None, database: Database, postgres: Postgres
) -> None:
    """Though the error of ``asyncio.timeout`` is its own: the cancellation is its cause."""
    use(async_driver=driver)
    postgres.execute(SLOW_COMMIT, database=database.name)

    async def scenario() -> None:
        async with asyncio.timeout(0.3), aio.engine().begin() as conn:
            await conn.execute(INSERT)

    with pytest.raises(TimeoutError) as caught:
        event_loop.run(scenario())
    assert db.verdict(caught.value) is db.Verdict.OUTCOME_UNKNOWN


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_a_commit_that_the_server_refuses_is_known(
    driver: str, use: Use, ledger: None, database: Database, postgres: Postgres
) -> None:
    """By the server's own error, which gives up; and the next commit is as any."""
    use(async_driver=driver, async_connections=1)
    postgres.execute(REFUSED_COMMIT, database=database.name)

    async def scenario() -> db.Verdict:
        with pytest.raises(exc.IntegrityError) as caught:
            async with aio.engine().begin() as conn:
                await conn.execute(INSERT)
                await conn.execute(INSERT)
        async with aio.engine().begin() as conn:
            await conn.execute(INSERT)
        return db.verdict(caught.value)

    assert event_loop.run(scenario()) is db.Verdict.GIVE_UP
    assert postgres.execute("SELECT n FROM ledger", database=database.name) == [(1,)]
