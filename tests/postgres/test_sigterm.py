"""Closing every connection at once, as at the end of an execution environment."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import exc, make_url, text

import db
from db.environment import sigterm

from .conftest import Lines, Use

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from devkit.network.statements import PostgresWire
    from devkit.plugin import Database, MakeWire
    from devkit.servers.postgres import Postgres


def sleep_on_the_server() -> None:
    with db.engine().connect() as conn:
        conn.execute(text("SELECT pg_sleep(60)"))


@pytest.fixture
def proxied(use: Use, database: Database, wire: MakeWire) -> PostgresWire:
    """What stands between the layer and its server."""
    proxy = wire()
    use(url=make_url(database.through(proxy).url()))
    return proxy


@pytest.fixture
def start_statement(database: Database, postgres: Postgres) -> Iterator[Callable[[], Future[None]]]:
    """Starts one in another thread; returns when the server is at work on it."""
    at_work = "state = 'active' AND query LIKE '%%pg_sleep(60)%%'"
    active = f"SELECT pid FROM pg_stat_activity WHERE datname = %(name)s AND {at_work}"
    with ThreadPoolExecutor(1) as pool:

        def start() -> Future[None]:
            running = pool.submit(sleep_on_the_server)
            while not postgres.execute(active, {"name": database.name}):
                assert not running.done()
                time.sleep(0.01)
            return running

        yield start
        postgres.terminate(database.name)


def outcome(lines: Lines) -> tuple[int, int, int]:
    (line,) = lines.of("shutdown")
    return line["closed"], line["cancelled"], line["failed"]


def test_a_statement_under_way_is_cancelled(
    use: Use, lines: Lines, database: Database, postgres: Postgres, start_statement: Callable[[], Future[None]]
) -> None:
    """Whoever waits for it gets an error, and its backend ends."""
    use()
    running = start_statement()
    sigterm.close_connections()
    with pytest.raises(exc.OperationalError):
        running.result()
    assert outcome(lines) == (0, 1, 0)
    assert postgres.all_left(database.name)


@pytest.mark.parametrize("answers", [False, True], ids=["refused", "unanswered"])
def test_a_cancel_that_does_not_arrive_is_given_up(
    proxied: PostgresWire, lines: Lines, start_statement: Callable[[], Future[None]], *, answers: bool
) -> None:
    """In time to say so; the connection is closed, and its backend is left to the limits that it has."""
    running = start_statement()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        if answers:
            proxied.retarget(*silent.getsockname())
        else:
            proxied.refuse()
        sigterm.close_connections()
        with pytest.raises(exc.OperationalError):
            running.result()
    assert outcome(lines) == (0, 0, 1)
    assert lines.of("shutdown")[0]["duration_ms"] < 300


def test_connections_at_rest_are_closed_and_may_be_opened_again(
    use: Use, lines: Lines, database: Database, postgres: Postgres
) -> None:
    """Where a handler of the user's lets the process go on, the pool finds out and connects."""
    use()
    with db.begin() as tx:
        tx.execute(text("SELECT 1"))
    sigterm.close_connections()
    assert postgres.all_left(database.name)
    assert outcome(lines) == (1, 0, 0)
    with db.begin() as tx:
        assert tx.execute(text("SELECT 1")).scalar() == 1


def test_without_connections_it_says_so(use: Use, lines: Lines) -> None:
    """A line with zeros tells a shutdown from a kill."""
    use()
    sigterm.close_connections()
    assert outcome(lines) == (0, 0, 0)
