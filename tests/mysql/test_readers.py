"""DB_READER_HOST on MariaDB: reads go there, see writes where they have to, and find the writer where it is away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

import db

from .conftest import add, numbers

if TYPE_CHECKING:
    from devkit.network.mysql_statements import MySqlWire
    from devkit.plugin import MakeMariaDbWire

    from .conftest import Use


@pytest.fixture
def reader(ledger: None, use: Use, mariadb_wire: MakeMariaDbWire) -> MySqlWire:
    """The reader's end: another wire, before the same server."""
    wire = mariadb_wire()
    use(reader_host=wire.host, reader_port=wire.port)
    return wire


def test_reads_go_to_the_reader(reader: MySqlWire, wire: MySqlWire) -> None:
    """In one trip; those that have to be fresh, and those behind a write of the same invocation, do not."""
    numbers()
    before = wire.counts()
    numbers()
    with db.session(read_only=True) as orm:
        orm.execute(text("SELECT 1"))
    assert wire.counts() == before
    told = reader.counts()

    @db.invocation
    def handler(_event: object, _context: object) -> list[int]:
        add(1)
        return numbers()

    assert handler({}, None) == [1]
    with db.read(fresh=True) as conn:
        assert conn.execute(text("SELECT count(*) FROM ledger")).scalar() == 1
    assert reader.counts() == told


def test_the_writer_stands_in_for_a_reader_that_is_away(reader: MySqlWire, wire: MySqlWire) -> None:
    """And what it is asked is as read-only there."""
    numbers()
    reader.refuse()
    reader.cut()
    before = wire.counts()
    assert numbers() == []
    with pytest.raises(Exception, match="1792"), db.read() as conn:
        conn.execute(text("INSERT INTO ledger (n) VALUES (1)"))
    assert (wire.counts() - before).trips > 0


def test_how_far_behind_it_is_nobody_can_say(reader: MySqlWire, use: Use) -> None:
    """Not in the same trip, so the setting is refused by name."""
    with pytest.raises(db.ConfigurationError, match="DB_READER_MAX_LAG_S on MySQL"):
        use(reader_host=reader.host, reader_max_lag_s=1.0)
