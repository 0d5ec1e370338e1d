"""What the plain engine leaves on a session meets nobody after it; what listeners say stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, text

import db

from .conftest import Lines, Use, backend_pid
from .test_leftovers import KINDS, ORDINARY, SAID, answer, unwarned

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres

__all__ = ["unwarned"]
pytestmark = pytest.mark.usefixtures("ledger", "unwarned", "may_read_all")

SET = "SET work_mem = '77MB'"


@pytest.fixture
def may_read_all(ledger: None, postgres: Postgres, database: Database) -> None:
    """The role ``app`` may become ``pg_read_all_data``."""
    postgres.execute(f"GRANT pg_read_all_data TO {database.app}")


@pytest.mark.parametrize("said", SAID)
def test_the_next_unit_does_not_meet_it(said: str, lines: Lines) -> None:
    """The connection is not kept, and the log says once what kind of thing that was, and whose."""
    kind, question = KINDS[said]
    before, pid = answer(question), backend_pid()
    for _ in range(2):
        with db.engine().begin() as conn:
            conn.execute(text(said))
        assert answer(question) == before
    assert backend_pid() != pid
    assert [line["left"] for line in lines.of("leftovers")] == [[kind]]
    assert any("the plain engine left something" in record.getMessage() for record in lines.records)


@pytest.mark.parametrize("said", ORDINARY)
def test_what_ends_with_the_transaction_costs_no_connection(said: str, lines: Lines) -> None:
    """It is kept, and nothing is said."""
    pid = backend_pid()
    with db.engine().begin() as conn:
        conn.execute(text(said))
    assert backend_pid() == pid
    assert lines.of("leftovers") == []


def in_autocommit() -> None:
    with db.engine().connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.execute(text(SET))


def over_a_raw_connection() -> None:
    raw = db.engine().raw_connection()
    raw.cursor().execute(SET)
    raw.commit()
    raw.close()


def over_the_drivers() -> None:
    with db.engine().connect() as conn:
        driver: Any = conn.connection.driver_connection
        driver.execute(SET)
        driver.commit()


def by_the_orm() -> None:
    from sqlalchemy.orm import Session

    with Session(db.engine()) as session:
        session.execute(text(SET))
        session.commit()


def on_the_reader() -> None:
    with db.engine("reader").begin() as conn:
        conn.execute(text(SET))


WAYS = [
    in_autocommit,
    over_a_raw_connection,
    over_the_drivers,
    by_the_orm,
    on_the_reader,
]


@pytest.mark.parametrize("leave", WAYS)
def test_it_is_seen_however_it_is_said(leave: Callable[[], None]) -> None:
    """Once for all, as the connection is gone."""
    before = answer("SHOW work_mem")
    leave()
    assert answer("SHOW work_mem") == before
    assert db.status()["totals"]["closes"] >= 1


def test_it_is_seen_on_a_connection_that_took_the_place_of_a_dead_one(
    use: Use, database: Database, postgres: Postgres
) -> None:
    """The first flight is sent again over another one, and leaves it there."""
    use(pool_pre_ping=False)
    before = answer("SHOW work_mem")
    assert postgres.terminate(database.name) == 1
    with db.engine().begin() as conn:
        conn.execute(text(SET))
    assert answer("SHOW work_mem") == before


def test_what_is_said_for_the_time_of_a_checkout_holds_for_it() -> None:
    """It is not before the connection comes back that anything is done about it."""
    with db.engine().connect() as conn:
        conn.execute(text(SET))
        conn.commit()
        assert conn.scalar(text("SHOW work_mem")) == "77MB"


@pytest.mark.parametrize("name", ["connect", "checkout", "checkin"])
def test_what_a_listener_of_the_pools_says_is_the_connections_own(name: str, lines: Lines) -> None:
    """It stays, with the connection, for units and for the plain engine."""

    @event.listens_for(db.engine(), name)
    def say(connection: Any, *_: object) -> None:
        connection.execute(SET)
        connection.commit()

    db.dispose()
    answer("SELECT 1")
    pid = backend_pid()
    for _ in range(2):
        with db.engine().connect() as conn:
            assert conn.scalar(text("SHOW work_mem")) == "77MB"
        assert (answer("SHOW work_mem"), backend_pid()) == ("77MB", pid)
    assert lines.of("leftovers") == []


def test_what_is_said_to_each_connection_costs_a_unit_none() -> None:
    """A listener to ``engine_connect`` says it again to the next."""

    @event.listens_for(db.engine(), "engine_connect")
    def say(conn: Any) -> None:
        conn.exec_driver_sql(SET)
        conn.commit()

    pid = backend_pid()
    assert (answer("SHOW work_mem"), backend_pid()) == ("77MB", pid)


def test_a_detached_connection_leaves_nothing_to_the_pool(lines: Lines) -> None:
    """What is said over it is its holder's, and costs the pool no other."""
    with db.engine().connect() as detached:
        detached.detach()
        pid = backend_pid()
        detached.execute(text(SET))
        detached.commit()
        assert backend_pid() == pid
    assert backend_pid() == pid
    assert lines.of("leftovers") == []
