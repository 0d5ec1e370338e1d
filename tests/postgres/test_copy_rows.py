"""Many rows over COPY: all of them or none, streamed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import JSON, Column, Integer, MetaData, Table, Text, exc, func, select, text

import db
from db.settings import Settings
from db.work.copy_plan import PART_ROWS

from .conftest import Use, backend_pid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres

LOADED = Table(
    "loaded", MetaData(), Column("n", Integer, primary_key=True), Column("Mixed Case", Text), Column("body", JSON)
)


@pytest.fixture(autouse=True)
def table(use: Use, database: Database) -> None:
    """The table ``loaded``, empty, which the role ``app`` may write."""
    use(role="owner")
    with db.begin() as tx:
        LOADED.create(tx)
        tx.execute(text(f"GRANT ALL ON loaded TO {database.app}"))
    use()


def loaded() -> list[tuple[Any, ...]]:
    with db.read() as conn:
        return [tuple(row) for row in conn.execute(select(LOADED).order_by(LOADED.c.n))]


def test_rows_arrive_as_the_types_of_the_table_bind_them() -> None:
    """As from an INSERT: what is special to COPY's format is data, and None is NULL."""
    rows = [(1, "tab\tand\nline", {"a": [1]}), (2, "\\N", None), (3, None, {"b": "é"})]
    assert db.copy_rows(LOADED, rows) == 3
    assert loaded() == rows


def test_columns_are_named_or_come_from_mappings() -> None:
    """The rest of the table keeps its defaults."""
    assert db.copy_rows("loaded", [{"Mixed Case": "x", "n": 1}]) == 1
    assert db.copy_rows(LOADED, [("y", 2)], columns=["Mixed Case", "n"]) == 1
    assert [row[:2] for row in loaded()] == [(1, "x"), (2, "y")]
    with pytest.raises(exc.IntegrityError) as failed:
        db.copy_rows("loaded", [(3,), (4,), (1,)], columns=["n"], chunk_rows=2)
    assert "2 rows" in failed.value.__notes__[0]
    assert len(loaded()) == 4


ODD = Table("odd", MetaData(), Column("100 %", Integer, key="share"), Column("a%%b", Text, key="note"))


@pytest.mark.parametrize(
    ("target", "rows"),
    [
        (ODD, [(1, "x")]),
        (ODD, [{"share": 1, "note": "x"}]),
        (ODD, [{"100 %": 1, "a%%b": "x"}]),
        ("odd", [{"100 %": 1, "a%%b": "x"}]),
    ],
    ids=["in order", "by key", "by name", "without a Table"],
)
def test_columns_may_have_keys_and_percent_signs(target: Table | str, rows: list[Any], use: Use) -> None:
    """The names are the database's, as they are."""
    use(role="owner")
    with db.begin() as tx:
        ODD.create(tx)
    assert db.copy_rows(target, rows) == 1
    with db.read() as conn:
        assert conn.execute(select(ODD)).one() == (1, "x")


def test_a_first_row_of_none_is_no_end() -> None:
    """It is said, and not taken for a table without rows."""
    with pytest.raises(ValueError, match="row 1"):
        db.copy_rows("loaded", [None, (2, "y")])  # type: ignore[list-item]
    assert db.copy_rows("loaded", []) == 0


@pytest.mark.parametrize(
    ("bad", "error", "says"),
    [
        ((2, "only two"), exc.DataError, 'line 2: "2'),
        ((2, "x", None, "a fourth"), exc.DataError, "line 2"),
        (("no number", "x", None), exc.DataError, "line 2, column n"),
        ((1, "again", None), exc.IntegrityError, "duplicate key"),
        ((2, "x", object()), TypeError, "serializable"),
    ],
)
def test_a_row_that_does_not_fit_fails_the_load(bad: Any, error: type[Exception], says: str) -> None:
    """The server names the line, no row stays, and the connection is as good as before."""
    with pytest.raises(error, match=says):
        db.copy_rows(LOADED, [(1, "good", None), bad])
    assert loaded() == []
    assert db.status()["totals"]["invalidations"] == 0


def test_a_mapping_without_a_column_is_named() -> None:
    """Before the server could."""
    with pytest.raises(ValueError, match="row 2 has no value"):
        db.copy_rows("loaded", [{"n": 1}, {"m": 2}])
    assert loaded() == []


def test_rows_that_cannot_be_read_on_leave_nothing() -> None:
    """The source may fail in the middle."""

    def rows() -> Iterator[tuple[int, str, None]]:
        yield 1, "x", None
        raise RuntimeError("the file ends here")

    with pytest.raises(RuntimeError, match="the file ends"):
        db.copy_rows(LOADED, rows())
    assert loaded() == []


def test_it_can_be_a_part_of_a_transaction() -> None:
    """And is undone with it."""
    with pytest.raises(RuntimeError), db.begin() as tx:
        db.copy_rows(LOADED, [(1, "x", None)], tx=tx)
        assert tx.execute(select(func.count()).select_from(LOADED)).scalar_one() == 1
        raise RuntimeError
    assert loaded() == []


def test_any_number_of_rows_is_read_as_it_is_sent() -> None:
    """Progress is told while the source is still being read, and no more than some rows ahead."""
    read, told = 0, []

    def rows() -> Iterator[tuple[int, str, None]]:
        nonlocal read
        for read in range(1, 25_001):
            yield read, "x", None

    assert db.copy_rows(LOADED, rows(), progress=lambda sent: told.append((sent, read))) == 25_000
    assert [sent for sent, _ in told] == [10_000, 20_000, 25_000]
    assert all(sent <= was_read <= sent + PART_ROWS for sent, was_read in told)


def test_no_rows_are_no_error() -> None:
    """Nothing was asked for."""
    assert db.copy_rows("loaded", []) == 0


def test_a_kept_connection_that_died_is_replaced_before_the_first_row(database: Database, postgres: Postgres) -> None:
    """A source can be read once only."""
    pid = backend_pid()
    db.engine().pool._pre_ping = False
    assert postgres.terminate(database.name) == 1
    assert db.copy_rows(LOADED, iter([(1, "x", None)])) == 1
    assert backend_pid() != pid


def test_a_connection_lost_in_the_middle_is_not_kept(database: Database, postgres: Postgres) -> None:
    """Nothing was loaded, and the next unit of work has another."""

    def rows() -> Iterator[tuple[int, str, None]]:
        yield 1, "x", None
        postgres.terminate(database.name)
        for n in range(2, 500_000):
            yield n, "x" * 100, None

    with pytest.raises(exc.OperationalError) as caught:
        db.copy_rows(LOADED, rows())
    assert db.verdict(caught.value) is db.Verdict.RECONNECT
    assert loaded() == []


def test_chunks_commit_one_by_one(database: Database, postgres: Postgres) -> None:
    """A connection that is lost between two of them is replaced; who counts is told what has committed."""
    told: list[int] = []

    def rows() -> Iterator[tuple[int, str]]:
        for n in range(5):
            if n == 3:
                assert postgres.terminate(database.name)
            yield n, "x"

    assert db.copy_rows(LOADED, rows(), columns=["n", "Mixed Case"], chunk_rows=2, progress=told.append) == 5
    assert (told, [row[0] for row in loaded()]) == ([2, 4, 5], [0, 1, 2, 3, 4])


@pytest.mark.parametrize(
    ("rows", "error", "says"),
    [
        ([(1,), (2,), (3,), {"n": 4}], ValueError, "row 4 is a dict"),
        ([{"n": 1}, {"n": 2}, {"m": 3}], ValueError, "row 3 has no value"),
        ([(1,), (2,), None], ValueError, "row 3 is None"),
        ([(1,), (2,), ("x",)], exc.DataError, "line 1, column n"),
    ],
)
def test_a_row_is_numbered_among_all_and_not_in_its_chunk(rows: list[Any], error: type[Exception], says: str) -> None:
    """The server alone counts the lines of one COPY. The chunks before it stay, and the note says so."""
    with pytest.raises(error, match=says) as failed:
        db.copy_rows(LOADED, rows, columns=["n"], chunk_rows=2)
    assert failed.value.__notes__ == ["2 rows had been loaded and committed before, by chunk_rows=2"]
    assert [row[0] for row in loaded()] == [1, 2]


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (True, TypeError), (2.0, TypeError), ("2", TypeError)])
def test_a_chunk_has_rows(size: Any, error: type[Exception]) -> None:
    """Nothing is loaded by a size that is none."""
    with pytest.raises(error, match="chunk_rows is"):
        db.copy_rows(LOADED, [(1, "x", None)], chunk_rows=size)
    assert loaded() == []


def test_sqlite_gets_inserts() -> None:
    """So that a handler's unit test needs no server."""
    db.configure(Settings.from_env({"DB_URL": "sqlite://"}))
    with db.begin() as tx:
        LOADED.create(tx)
    assert db.copy_rows(LOADED, [(1, "x", {"a": 1}), (2, "y", None)]) == 2
    assert [row[:2] for row in loaded()] == [(1, "x"), (2, "y")]
