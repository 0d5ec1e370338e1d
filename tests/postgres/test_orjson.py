"""DB_JSON=orjson: JSON columns by another library, with the values that they had."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.types.json import Json, Jsonb
from sqlalchemy import JSON, Column, Integer, MetaData, Table, exc, insert, make_url, select, text
from sqlalchemy.dialects.postgresql import JSONB

import db
from db import aio
from db.environment import event_loop, process
from db.pool.engine_options import EngineOptions
from db.wire import orjson_codec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.plugin import Database

    from .conftest import Use

DOCUMENTS = Table(
    "documents", MetaData(), Column("n", Integer, primary_key=True), Column("as_text", JSON), Column("parsed", JSONB)
)
BODY = {"id": 2**70, "x": [0.1, -1, True], "name": "é\u2028"}
COMPACT = '{"x":[0.1,-1,true],"name":"é"}'
COMPACT_BODY = {"x": [0.1, -1, True], "name": "é"}


@pytest.fixture(autouse=True)
def _documents(use: Use, database: Database) -> Iterator[None]:
    use(role="owner")
    with db.begin() as tx:
        DOCUMENTS.create(tx)
        tx.execute(text(f"GRANT ALL ON documents TO {database.app}"))
    yield
    db.dispose()
    event_loop.close()
    process.DEFAULT._options = EngineOptions()


@pytest.fixture
def read_by_orjson(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was read by ``orjson_codec``: the values tell no difference."""
    found: list[Any] = []
    loads = orjson_codec.loads

    def noting(given: str | bytes) -> Any:
        found.append(given)
        return loads(given)

    monkeypatch.setattr(orjson_codec, "loads", noting)
    return found


def row(n: int, body: Any) -> dict[str, Any]:
    return {"n": n, "as_text": body, "parsed": body}


def texts(n: int) -> str:
    return str(db.run(lambda tx: tx.scalar(text("SELECT as_text::text FROM documents WHERE n = :n"), {"n": n})))


def test_rows_and_parameters_are_orjsons(use: Use, read_by_orjson: list[Any]) -> None:
    """In units of work, in COPY, and on the driver's own cursors; in db.read as in db.fetch."""
    use(json="orjson")
    with db.begin() as tx:
        tx.execute(insert(DOCUMENTS), [row(1, BODY), row(2, COMPACT_BODY)])
        db.copy_rows(DOCUMENTS, [row(3, COMPACT_BODY)], tx=tx)
        cursor: Any = tx.connection.cursor()
        cursor.execute("INSERT INTO documents VALUES (4, %s, %s)", (Json(COMPACT_BODY), Jsonb(COMPACT_BODY)))
        cursor.execute("SELECT as_text, parsed FROM documents WHERE n = 4")
        assert cursor.fetchall() == [(COMPACT_BODY, COMPACT_BODY)]
    assert [texts(n) for n in (2, 3, 4)] == [COMPACT] * 3
    read_by_orjson.clear()
    with db.read() as conn:
        assert conn.execute(select(DOCUMENTS).where(DOCUMENTS.c.n == 1)).one() == (1, BODY, BODY)
        assert conn.execute(text("SELECT parsed FROM documents WHERE n = 2")).scalar_one() == COMPACT_BODY
    (found,) = db.fetch(select(DOCUMENTS.c.parsed).where(DOCUMENTS.c.n == 3))
    assert found.scalar_one() == COMPACT_BODY
    assert len(read_by_orjson) == 4


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_rows_and_parameters_of_aio_are_orjsons(driver: str, use: Use, read_by_orjson: list[Any]) -> None:
    """With either driver."""
    use(json="orjson", async_driver=driver)

    async def written_and_read() -> list[Any]:
        async with aio.begin() as tx:
            await tx.execute(insert(DOCUMENTS), [row(1, BODY), row(2, COMPACT_BODY)])
            await aio.copy_rows(DOCUMENTS, [row(3, COMPACT_BODY)], tx=tx)
        async with aio.read() as conn:
            return [tuple(one) for one in await conn.execute(select(DOCUMENTS).order_by(DOCUMENTS.c.n))]

    assert event_loop.run(written_and_read()) == [
        (n, body, body) for n, body in enumerate((BODY, COMPACT_BODY, COMPACT_BODY), 1)
    ]
    assert len(read_by_orjson) == 6
    assert [texts(n) for n in (2, 3)] == [COMPACT] * 2


def test_what_postgresql_refuses_it_refuses_still(use: Use) -> None:
    """NaN is no null, as it would be to orjson alone."""
    use(json="orjson")
    with pytest.raises(exc.DataError, match="NaN"), db.begin() as tx:
        tx.execute(insert(DOCUMENTS), row(1, {"x": float("nan")}))


def test_sqlite_is_read_by_it_and_written_as_before(use: Use, read_by_orjson: list[Any]) -> None:
    """There a document is found by its text."""
    use(url=make_url("sqlite://"), json="orjson")
    table = Table("documents", MetaData(), Column("n", Integer, primary_key=True), Column("body", JSON))
    with db.begin() as tx:
        table.create(tx)
        tx.execute(text("""INSERT INTO documents VALUES (1, '{"a": [1, 2]}')"""))
        assert tx.execute(select(table).where(table.c.body == {"a": [1, 2]})).one() == (1, {"a": [1, 2]})
    assert read_by_orjson == ['{"a": [1, 2]}']


def test_without_the_package_it_is_refused_by_name(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the page that says how to get it."""
    monkeypatch.delitem(sys.modules, "db.wire.orjson_codec")
    monkeypatch.delattr(db.wire, "orjson_codec")
    monkeypatch.setitem(sys.modules, "orjson", None)
    use(json="orjson")
    with pytest.raises(db.ConfigurationError, match=r"DB_JSON=orjson needs the package orjson: see .*/reads/#json"):
        db.engine()


def test_functions_given_in_code_are_refused_beside_it(use: Use) -> None:
    """Either would be without effect."""
    use(json="orjson")
    db.configure(process.current().settings, engine_options={"json_serializer": str})
    with pytest.raises(db.ConfigurationError, match="json_serializer: DB_JSON=orjson says it already"):
        db.engine()
