"""An answer of MariaDB's is that of the statement which was sent for it, whatever came in between."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import exc, text

import db
from db.wire.mysql_packets import Packets

from .conftest import add, numbers

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.network.mysql_statements import MySqlWire
    from devkit.servers.mariadb import MariaDb

    from .conftest import Use

pytestmark = pytest.mark.usefixtures("ledger")
ALL = text("SELECT n FROM ledger ORDER BY n")


class AlarmError(Exception):
    """What a handler of SIGALRM raises."""


@pytest.mark.parametrize("nested", [False, True])
def test_a_stream_is_not_cut_short_by_another_statement(nested: bool) -> None:
    """The driver would discard the rest of the rows; a savepoint took them for its own answer."""
    for n in range(3):
        add(n)
    with db.begin() as tx:
        rows = tx.execute(ALL, execution_options={"stream_results": True})
        assert next(rows).n == 0
        with pytest.raises(db.ConfigurationError, match="streamed"):
            tx.begin_nested() if nested else tx.execute(ALL)
        assert [row.n for row in rows] == [1, 2]
        assert len(tx.execute(ALL).all()) == 3


def test_a_stream_that_is_broken_off_ends_with_its_block() -> None:
    """Or with its savepoint, whose rollback reads the rest."""
    for n in range(3):
        add(n)
    kept = []
    with db.begin() as tx:
        with pytest.raises(KeyError), tx.begin_nested():
            kept.append(tx.execute(ALL, execution_options={"stream_results": True}))
            raise KeyError
        assert tx.execute(text("SELECT 'mine'")).scalar() == "mine"
        kept.append(tx.execute(ALL, execution_options={"stream_results": True}))
        next(kept[1])
    assert numbers() == [0, 1, 2]


def test_a_procedures_second_result_is_not_the_next_statements(use: Use) -> None:
    """A savepoint in between, which waits for that statement, has none of its own."""
    use(role="owner")
    with db.begin() as tx:
        tx.exec_driver_sql("CREATE PROCEDURE two() BEGIN SELECT 1; SELECT 2; END")
    with db.begin() as tx:
        cursor: Any = tx.connection.cursor()
        cursor.execute("CALL two()")
        with tx.begin_nested():
            assert tx.execute(text("SELECT 'mine'")).scalar() == "mine"


@pytest.mark.parametrize("moment", ["the first statement", "a later statement", "COMMIT"])
def test_what_a_signal_raises_between_sending_and_reading_ends_the_connection(
    moment: str, monkeypatch: pytest.MonkeyPatch, wire: MySqlWire
) -> None:
    """The answer is still to come, and would be taken for the next one's."""
    add(1)
    send = Packets._send

    def interrupted(self: Packets, packet: bytes) -> None:
        send(self, packet)
        monkeypatch.undo()
        raise AlarmError

    before = wire.counts()
    with pytest.raises((AlarmError, db.OutcomeUnknownError)), db.begin() as tx:
        if moment != "the first statement":
            tx.execute(text("UPDATE ledger SET note = 'a'"))
        monkeypatch.setattr(Packets, "_send", interrupted)
        if moment != "COMMIT":
            tx.execute(text("SELECT 'not mine'"))
    with db.read() as conn:
        assert conn.execute(text("SELECT 'mine'")).scalar() == "mine"
    assert (wire.counts() - before).connections == 2  # of the KILL, and another one


def test_what_a_signal_interrupts_is_ended_on_the_server(running: Callable[[], int]) -> None:
    """As where SIGTERM comes in a statement: the server would go on, and look for nobody until it has an answer."""

    def interrupt(*_: object) -> None:
        raise AlarmError

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(AlarmError), db.begin() as tx:
            tx.execute(text("UPDATE ledger SET note = 'a'"))
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            tx.execute(text("SELECT sleep(30)"))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert running() == 0


def test_a_row_that_changed_since_the_snapshot_undoes_the_transaction(use: Use, mariadb: MariaDb) -> None:
    """As a deadlock does: what a block that catches it had written before is gone, and so it cannot commit."""
    mariadb.execute("SET GLOBAL innodb_snapshot_isolation = ON")
    try:
        use(pool_size=2)
        add(1)
        with pytest.raises(exc.PendingRollbackError), db.begin() as tx:
            tx.execute(ALL).all()
            tx.execute(text("INSERT INTO ledger (n) VALUES (2)"))
            with db.begin() as other:
                other.execute(text("UPDATE ledger SET note = 'b' WHERE n = 1"))
            with pytest.raises(exc.DBAPIError) as refused:
                tx.execute(text("UPDATE ledger SET note = 'a' WHERE n = 1"))
    finally:
        mariadb.execute("SET GLOBAL innodb_snapshot_isolation = DEFAULT")
    assert db.sqlstate(refused.value) == "40001"
    assert numbers() == [1]
