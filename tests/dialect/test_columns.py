"""A result's description is psycopg's own, in every attribute, though it is made otherwise."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest

from db.wire.psycopg_dialect import DRIVER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from .conftest import MakeEngine

QUERIES = {
    "types": "SELECT 1::numeric(5,2) AS price, 'a'::varchar(9), now()::timestamp(3), ARRAY[1], $1::text AS \"ü\"",
    "no columns": "SELECT WHERE $1::text IS NULL",
    "no rows": "CREATE TEMP TABLE described AS SELECT $1::text",
}


@pytest.fixture
def cursors(make_engine: MakeEngine, stock: Engine) -> Iterator[tuple[Any, Any]]:
    """One of ours and one of psycopg's own."""
    with make_engine(DRIVER).connect() as ours, stock.connect() as theirs:
        yield ours.connection.driver_connection.cursor(), theirs.connection.driver_connection.cursor()  # type: ignore[union-attr]


def described(cursor: Any, query: str) -> Any:
    cursor.execute(query.replace("$1", "%s"), ["x"])
    columns = cursor.description
    return columns if columns is None else [(repr(c), c[:], c[0], c[1], c[-1], len(c)) for c in columns]


@pytest.mark.parametrize("query", QUERIES)
def test_a_description_is_psycopgs(query: str, cursors: tuple[Any, Any]) -> None:
    """Names, types, sizes and precision, one by one and in slices."""
    ours, theirs = cursors
    assert ours.description is None
    assert described(ours, QUERIES[query]) == described(theirs, QUERIES[query])


def test_a_column_may_be_pickled(cursors: tuple[Any, Any]) -> None:
    """As psycopg's, and is one of these then."""
    ours, _ = cursors
    described(ours, QUERIES["types"])
    column = pickle.loads(pickle.dumps(ours.description))[0]  # noqa: S301 - what was pickled here
    assert (column.name, column.precision, column.scale) == ("price", 5, 2)
