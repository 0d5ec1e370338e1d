"""Connections that end: before a unit's first statement, in the middle of it, at COMMIT; and a server that restarts."""

from __future__ import annotations

from threading import Timer
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import exc, text

import db

from .conftest import add, numbers

if TYPE_CHECKING:
    from devkit.network.faults import Lost
    from devkit.network.mysql_statements import MySqlWire
    from devkit.plugin import Database
    from devkit.servers.mariadb import MariaDb

    from .conftest import Use

pytestmark = pytest.mark.usefixtures("ledger")
INSERT = text("INSERT INTO ledger (n) VALUES (:n)")


def test_a_dead_connection_is_seen_before_anything_is_sent(
    wire: MySqlWire, mariadb: MariaDb, mariadb_database: Database
) -> None:
    """The handler notices nothing, and no statement is sent twice."""
    add(1)
    wire.cut()
    sent = len(wire.statements())
    add(2)
    assert len([one for one in wire.statements()[sent:] if "INSERT" in one]) == 1
    mariadb.terminate(mariadb_database.name)
    assert numbers() == [1, 2]


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_a_first_flight_that_is_lost_is_sent_again(lost: Lost, wire: MySqlWire) -> None:
    """It had no COMMIT with it, so nothing of it stands."""
    add(1)
    cut = wire.cut_at(1, lost=lost)
    add(2)
    assert cut.fired
    cut = wire.cut_at(1, lost=lost)
    assert numbers() == [1, 2]
    assert cut.fired


def test_a_savepoint_is_made_again_with_the_flight_that_was_lost(wire: MySqlWire) -> None:
    """It waits for the statement behind it, and is due over the new connection, too."""
    add(1)
    cut = wire.cut_at(1, lost="answer")
    with db.begin() as tx:
        with tx.begin_nested():
            tx.execute(INSERT, {"n": 2})
        part = tx.begin_nested()
        tx.execute(INSERT, {"n": 3})
        part.rollback()
    assert cut.fired
    assert numbers() == [1, 2]


@pytest.mark.parametrize("level", ["SERIALIZABLE", "AUTOCOMMIT"])
def test_a_level_of_the_plain_engines_ends_with_its_connection(level: str, wire: MySqlWire) -> None:
    """It was said over that one, which then had proved alive: what is lost behind it is an error."""
    add(1)
    statement = text("SELECT @@tx_isolation, @@autocommit FROM ledger")
    with db.engine().connect().execution_options(isolation_level=level) as conn:
        wire.cut()
        with pytest.raises(exc.OperationalError):
            conn.execute(statement)
    with db.begin() as tx:
        assert tuple(tx.execute(statement).one()) == ("REPEATABLE-READ", 0)


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_a_lost_commit_is_an_unknown_outcome(lost: Lost, wire: MySqlWire) -> None:
    """Nobody tries it again blindly; ``db.once`` looks."""
    add(1)
    cut = wire.cut_at(2, lost=lost)
    with pytest.raises(db.OutcomeUnknownError):
        add(2)
    assert cut.fired
    assert numbers() == ([1] if lost == "request" else [1, 2])


def test_what_is_lost_in_the_middle_is_run_again_by_run(wire: MySqlWire) -> None:
    """Not by itself: the first statement was answered."""
    add(1)

    def work(tx: object) -> int:
        tx.execute(INSERT, {"n": 2})  # type: ignore[attr-defined]
        return int(tx.execute(text("SELECT count(*) FROM ledger")).scalar())  # type: ignore[attr-defined]

    cut = wire.cut_at(2, lost="request")
    with pytest.raises(exc.OperationalError) as ended, db.begin() as tx:
        work(tx)
    assert cut.fired
    assert db.verdict(ended.value) is db.Verdict.RECONNECT
    cut = wire.cut_at(2, lost="answer")
    assert db.run(work) == 2
    assert cut.fired
    assert numbers() == [1, 2]


def test_ddl_is_not_sent_again(use: Use, wire: MySqlWire) -> None:
    """It may have been done: it commits at once."""
    use(role="owner")
    numbers()
    cut = wire.cut_at(2, lost="answer")
    with pytest.raises(exc.OperationalError), db.begin() as tx:
        tx.execute(text("CREATE TABLE other (n int)"))
    assert cut.fired
    assert len([one for one in wire.statements() if "TABLE other" in one]) == 1


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_that_has_restarted_or_crashed_meanwhile_is_not_noticed(mode: str, mariadb: MariaDb) -> None:
    """What was committed is there, and what comes next is done over a new connection."""
    add(1)
    mariadb.restart(mode)
    add(2)
    assert numbers() == [1, 2]


def test_a_server_that_is_away_is_waited_for(wire: MySqlWire) -> None:
    """A connect that is refused has done nothing, so it is tried again."""
    add(1)
    wire.cut()
    wire.refuse()
    later = Timer(0.3, wire.accept)
    later.start()
    add(2)
    later.join()
    assert numbers() == [1, 2]


def test_a_connection_that_the_server_may_be_about_to_end_is_asked(use: Use, mariadb: MariaDb, wire: MySqlWire) -> None:
    """It says at connect how long it lets one idle."""
    mariadb.execute("SET GLOBAL wait_timeout = 60")
    try:
        use()
        with db.read() as conn:
            kept: Any = conn.connection.driver_connection
            conn.execute(text("SELECT 1"))
    finally:
        mariadb.execute("SET GLOBAL wait_timeout = DEFAULT")
    before = wire.counts()
    numbers()
    assert (wire.counts() - before).connections == 0
    kept._last_used -= 59.5  # what lies behind it, were that a minute's rest
    numbers()
    assert (wire.counts() - before).trips == 3
