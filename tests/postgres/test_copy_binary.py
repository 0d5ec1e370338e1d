"""``copy_rows(binary=True)``: the values that arrive are those that were given, or it says why not."""

from __future__ import annotations

import datetime as dt
import math
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Column, MetaData, Table, exc, make_url, select, text
from sqlalchemy.dialects.postgresql import JSONB

import db
from db import aio
from db.environment import event_loop

from .conftest import Use

if TYPE_CHECKING:
    from devkit.plugin import Database, MakeWire

NOW = dt.datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=dt.UTC)
# By the type of the column, values that it is to give back.
VALUES: dict[str, list[Any]] = {
    "boolean": [True, False],
    "smallint": [-(2**15), 2**15 - 1],
    "integer": [-(2**31), 2**31 - 1],
    "bigint": [-(2**63), 2**63 - 1],
    "float8": [1 / 3, math.inf],
    "numeric": [Decimal("1.20"), 7],
    "text": ["tab\tand\nline é", "\\N"],
    "varchar(5)": ["x", ""],
    "char(3)": ["abc", "d  "],
    "bytea": [b"\x00a", b""],
    "uuid": [uuid.UUID(int=7), uuid.UUID(int=2**128 - 1)],
    "date": [NOW.date(), dt.date(1, 1, 1)],
    "time": [NOW.time(), dt.time(0)],
    "timestamp": [NOW.replace(tzinfo=None), dt.datetime(1970, 1, 1)],  # noqa: DTZ001 - without a zone
    "timestamptz": [NOW, dt.datetime(1, 1, 2, tzinfo=dt.UTC)],
    "interval": [dt.timedelta(days=1, seconds=2), dt.timedelta(0)],
    "json": [{"a": [1]}, None],
    "jsonb": [{"k": "é"}, [1, 2.5]],
    "mood": ["calm", "wild"],
    "share": [1, 100],
}
COLUMNS = [f"c{number}" for number in range(len(VALUES))]
_OF_JSON = {name for name, kind in zip(COLUMNS, VALUES, strict=True) if "json" in kind}
KEPT = Table("kept", MetaData(), *(Column(name, JSONB if name in _OF_JSON else None) for name in COLUMNS))
_ROWS = [tuple(values[place] for values in VALUES.values()) for place in (0, 1)]


@pytest.fixture(autouse=True)
def table(use: Use, database: Database) -> None:
    """The table ``kept`` with a column of each type, and one that the server makes."""
    use(role="owner")
    columns = ", ".join(f"{name} {kind}" for name, kind in zip(COLUMNS, VALUES, strict=True))
    with db.begin() as tx:
        tx.execute(text("CREATE TYPE mood AS ENUM ('calm', 'wild')"))
        tx.execute(text("CREATE DOMAIN share AS int CHECK (value BETWEEN 0 AND 100)"))
        tx.execute(text(f"CREATE TABLE kept ({columns}, made int GENERATED ALWAYS AS (c2) STORED, many int[])"))
        tx.execute(text(f"GRANT ALL ON kept TO {database.app}"))
    use()


def kept(column: Any = None) -> list[Any]:
    with db.read() as conn:
        if column is not None:
            return list(conn.execute(select(KEPT.c[column])).scalars())
        return [tuple(row) for row in conn.execute(text(f"SELECT {', '.join(COLUMNS)} FROM kept"))]


def test_each_type_gives_back_what_it_was_given() -> None:
    """NULL among them, in any column."""
    empty = tuple(None for _ in COLUMNS)
    assert db.copy_rows(KEPT, [*_ROWS, empty], binary=True) == 3
    assert kept() == [*_ROWS, empty]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("smallint", 2**15),
        ("integer", -(2**31) - 1),
        ("bigint", 2**63),
        ("integer", 1.5),
        ("integer", "7"),
        ("boolean", "f"),
        ("boolean", 0),
        ("float8", "1"),
        ("numeric", 1.5),
        ("text", 7),
        ("bytea", "x"),
        ("uuid", "x"),
        ("date", "2026-01-01"),
        ("timestamp", NOW),
        ("timestamptz", NOW.replace(tzinfo=None)),
        ("jsonb", '{"a": 1}'),
    ],
)
def test_what_a_type_does_not_hold_is_refused_with_its_row(kind: str, value: Any) -> None:
    """psycopg alone would make 0 of 2**40, and true of "f"; nothing of the load is there."""
    column = COLUMNS[list(VALUES).index(kind)]
    rows = [(VALUES[kind][0],)] * 50 + [(value,)]
    with pytest.raises(exc.DataError, match="row 51: "):
        db.copy_rows("kept", rows, columns=[column], binary=True)
    assert kept(column) == []


def test_a_type_that_nobody_has_looked_at_is_refused() -> None:
    """Before anything is sent, by the name of its column."""
    with pytest.raises(db.ConfigurationError, match=r"copy_rows\(binary=True\).* column many "):
        db.copy_rows("kept", [([1],)], columns=["many"], binary=True)


def test_what_is_refused_has_its_line() -> None:
    """As in text: the rule of a domain, a row that is too short or too long, a column that is none."""
    share = COLUMNS[list(VALUES).index("share")]
    with pytest.raises(exc.IntegrityError, match="line 2"):
        db.copy_rows("kept", [(1,), (101,)], columns=[share], binary=True)
    for length in (1, 3):
        with pytest.raises(exc.DataError, match=f"row 2: expected 2 values in row, got {length}"):
            db.copy_rows("kept", [(1, None), (1,) * length], columns=[share, "c2"], binary=True)
    with pytest.raises(exc.ProgrammingError, match="nope"):
        db.copy_rows(KEPT, [(1,)], columns=["nope"], binary=True)


def test_the_types_cost_no_round_trip_where_a_connection_is_tried(database: Database, wire: MakeWire, use: Use) -> None:
    """So that a load takes as many as in text."""
    proxy = wire()
    use(url=make_url(database.through(proxy).url()), sslmode="disable")
    taken = []
    for binary in (False, True):
        db.copy_rows("kept", [(1,)], columns=["c2"], binary=binary)
        before = proxy.counts()
        db.copy_rows("kept", [(1,)], columns=["c2"], binary=binary)
        taken.append((proxy.counts() - before).trips)
    assert taken[0] == taken[1]


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_async(driver: str, use: Use) -> None:
    """asyncpg's own COPY is binary anyway."""
    use(async_driver=driver)
    assert event_loop.run(aio.copy_rows("kept", [(NOW,), (None,)], columns=["c14"], binary=True)) == 2
    assert kept("c14") == [NOW, None]


def test_chunks() -> None:
    """Each of them is a load of its own, and a row has its number among all."""
    with pytest.raises(exc.DataError, match="row 3: "):
        db.copy_rows("kept", [(1,), (2,), (2**40,)], columns=["c2"], chunk_rows=2, binary=True)
    assert kept("c2") == [1, 2]


def test_without_names_the_columns_are_those_of_copy() -> None:
    """What the server makes itself is none of them."""
    with db.begin() as tx:
        columns = "a int, b int GENERATED ALWAYS AS (a) STORED, c mood"
        tx.execute(text(f"CREATE TEMPORARY TABLE few ({columns}) ON COMMIT DROP"))
        assert db.copy_rows("few", [(1, "calm")], tx=tx, binary=True) == 1
        assert tx.execute(text("SELECT a, b, c FROM few")).all() == [(1, 1, "calm")]
