"""What each unit of work costs on MariaDB's wire, in round trips, beside SQLAlchemy as people write it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, make_url, text

import db
from db.settings import Settings
from devkit.network.mysql_pinning import pins
from devkit.network.pinning import PinningError, no_pinning

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.network.mysql_statements import MySqlWire
    from devkit.plugin import Database

    from .conftest import Use

ONE = text("SELECT n FROM ledger")
WRITE = text("UPDATE ledger SET note = 'x'")


def write() -> None:
    with db.begin() as tx:
        tx.execute(WRITE)


def serializable() -> None:
    with db.begin(isolation="SERIALIZABLE") as tx:
        tx.execute(WRITE)


def three_statements() -> None:
    with db.begin() as tx:
        for _ in range(3):
            tx.execute(WRITE)


def three_savepoints() -> None:
    with db.begin() as tx:
        for _ in range(3):
            with tx.begin_nested():
                tx.execute(WRITE)


def read() -> None:
    with db.read() as conn:
        conn.execute(ONE)


def snapshot() -> None:
    with db.read(snapshot=True) as conn:
        conn.execute(ONE)
        conn.execute(ONE)


def three_reads() -> None:
    db.fetch(ONE, ONE, ONE)


def known_up_front() -> None:
    db.write(WRITE, WRITE, WRITE)


def bit_by_bit() -> None:
    with db.begin() as tx:
        rows = tx.execute(text("SELECT 1 UNION SELECT 2 UNION SELECT 3"), execution_options={"yield_per": 2})
        assert [*rows.scalars()] == [1, 2, 3]


def nothing() -> None:
    with db.begin():
        pass


def plain() -> None:
    with db.engine().begin() as conn:
        conn.execute(WRITE)


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize(
    ("work", "trips"),
    [
        (write, 2),
        (serializable, 2),
        (three_statements, 4),
        (three_savepoints, 4),
        (read, 1),
        (snapshot, 3),
        (three_reads, 4),
        (known_up_front, 4),
        (bit_by_bit, 2),
        (nothing, 0),
        (plain, 2),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_warm_unit_costs_so_many_trips(work: Callable[[], None], trips: int, wire: MySqlWire) -> None:
    """The opening goes with the first statement, and what ends the limits with COMMIT."""
    work()
    before = wire.counts()
    work()
    assert (wire.counts() - before).trips == trips
    assert (wire.counts() - before).connections == 0


@pytest.mark.usefixtures("ledger")
def test_a_transaction_costs_less_than_sqlalchemys(wire: MySqlWire, mariadb_database: Database) -> None:
    """Limits included, which SQLAlchemy's has not: at most 0.7 of the trips of one with ``pool_pre_ping``."""
    url = mariadb_database.through(wire).url()
    peer = create_engine(url, pool_pre_ping=True, connect_args={"ssl_disabled": True})

    def peers() -> None:
        with peer.begin() as conn:
            conn.execute(WRITE)

    trips = []
    for work in (write, peers):
        work()
        before = wire.counts()
        work()
        trips.append((wire.counts() - before).trips)
    peer.dispose()
    assert trips == [2, 4]  # a ping, the statement, COMMIT, and the pool's ROLLBACK
    assert trips[0] / trips[1] <= 0.7


@pytest.mark.usefixtures("ledger")
def test_the_first_transaction_of_a_process_takes_four_trips(wire: MySqlWire, use: Use) -> None:
    """The login, one for all that holds for the session and is asked of it, the opening flight, COMMIT."""
    use()
    before = wire.counts()
    write()
    assert (wire.counts() - before).trips == 4
    assert (wire.counts() - before).connections == 1


@pytest.mark.usefixtures("ledger")
def test_only_what_a_unit_is_told_would_pin_behind_rds_proxy(wire: MySqlWire, use: Use) -> None:
    """Which is why DB_PROXY is refused: not the connect, nor that it only reads, nor several statements in a packet."""
    use()
    with no_pinning(wire), db.engine().connect() as conn, conn.begin():
        conn.execute(WRITE)
    with pytest.raises(PinningError) as pinned, no_pinning(wire):
        serializable()
        read()
        three_savepoints()
    said = {part for text_ in wire.statements() for part in text_.split("\n;") if pins(part)}
    assert {pins(one) for one in said} == {
        "SET sets innodb_lock_wait_timeout",
        "SET TRANSACTION is for the next transaction alone",
    }
    assert "START TRANSACTION" in str(pinned.value)
    with pytest.raises(db.ConfigurationError, match="pins a session that is told a time limit"):
        Settings(url=make_url("mysql://u@h/d"), proxy="rds-proxy")


@pytest.mark.usefixtures("ledger")
def test_no_limit_outlives_its_unit(wire: MySqlWire) -> None:
    """Whoever has the plain engine next finds the server's own; a read that failed halfway leaves none either."""
    write()
    read()
    with pytest.raises(Exception, match="1054"), db.read() as conn:
        conn.execute(text("SELECT nothing FROM ledger"))
    with db.engine().connect() as conn:
        left = conn.execute(text("SELECT @@max_statement_time, @@tx_read_only, @@lock_wait_timeout")).one()
    assert tuple(left) == (0, 0, 86400)
    assert "max_statement_time = 30.000" in wire.statements()[-4]
