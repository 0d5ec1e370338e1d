"""``aio.copy_rows`` on asyncpg, by its own COPY: all rows or none, as on psycopg."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import (
    ARRAY,
    JSON,
    Column,
    DateTime,
    Integer,
    MetaData,
    Numeric,
    Table,
    Text,
    Uuid,
    exc,
    make_url,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

import db
from db import aio
from db.environment import event_loop
from db.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devkit.plugin import Database, MakeWire
    from devkit.servers.postgres import Postgres
    from tests.aio.conftest import Use

LOADED = Table(
    "loaded",
    MetaData(),
    Column("n", Integer, primary_key=True),
    Column("Mixed Case", Text),
    Column("body", JSON),
    Column("more", JSONB),
    Column("price", Numeric(10, 2)),
    Column("at", DateTime(timezone=True)),
    Column("id", Uuid),
    Column("tags", ARRAY(Text)),
)
AT = datetime.datetime(2026, 11, 28, 12, tzinfo=datetime.UTC)
FULL = (1, "tab\tand\n\\N", {"a": [1]}, {"b": "é"}, decimal.Decimal("9.90"), AT, uuid.UUID(int=7), ["x", "y,z"])


@pytest.fixture(autouse=True)
def table(use: Use, database: Database, postgres: Postgres) -> None:
    """The table ``loaded``, empty, which the role ``app`` may write and not read."""
    use(role="owner")
    with db.begin() as tx:
        LOADED.create(tx)
        tx.execute(text(f"GRANT INSERT ON loaded TO {database.app}"))
    use(async_driver="asyncpg")


@pytest.fixture
def loaded(database: Database, postgres: Postgres) -> Callable[..., list[tuple[Any, ...]]]:
    return lambda what="n": postgres.execute(f"SELECT {what} FROM loaded ORDER BY n", database=database.name)


def copied(*arguments: Any, **named: Any) -> int:
    return event_loop.run(aio.copy_rows(*arguments, **named))


def test_rows_arrive_as_the_types_of_the_table_bind_them(use: Use) -> None:
    """As from an INSERT: what is special to COPY's format is data, and None is NULL."""
    nulls = (2, *[None] * 7)
    assert copied(LOADED, [FULL, nulls]) == 2
    use(role="owner", async_driver="asyncpg")

    async def read() -> list[Any]:
        async with aio.read() as conn:
            return [tuple(row) for row in await conn.execute(select(LOADED).order_by(LOADED.c.n))]

    assert event_loop.run(read()) == [FULL, nulls]


def test_columns_are_named_or_come_from_mappings(loaded: Callable[..., list[Any]]) -> None:
    """The rest of the table keeps its defaults."""
    assert copied("loaded", [{"Mixed Case": "x", "n": 1}]) == 1
    assert copied(LOADED, [("y", 2)], columns=["Mixed Case", "n"]) == 1
    assert copied("public.loaded", iter([[3, "z"]]), columns=["n", "Mixed Case"]) == 1
    assert copied("loaded", []) == 0
    assert loaded('n, "Mixed Case"') == [(1, "x"), (2, "y"), (3, "z")]


def test_without_names_the_columns_are_those_of_copy(database: Database, postgres: Postgres) -> None:
    """One that is generated is not among them."""
    postgres.execute(
        f"CREATE TABLE twice (n int, dropped int, m int GENERATED ALWAYS AS (n * 2) STORED, t text);"
        f"ALTER TABLE twice DROP COLUMN dropped; GRANT INSERT ON twice TO {database.app}",
        database=database.name,
    )
    assert copied("twice", [(4, "x")]) == 1
    assert postgres.execute("SELECT * FROM twice", database=database.name) == [(4, 8, "x")]


@pytest.mark.parametrize(
    ("bad", "error", "says"),
    [
        ((2, "b", "more"), exc.DataError, "row 2 has 3 values for 2 columns"),
        ((2,), exc.DataError, "row 2 has 1 values for 2 columns"),
        (("two", "b"), exc.DataError, "row 2: .*integer"),
        ((2**40, "b"), exc.DataError, "row 2: .*out of"),
        ((2, "nul\0"), exc.DataError, "0x00"),
        ((1, "b"), exc.IntegrityError, "loaded_pkey"),
        (None, ValueError, "row 2 is None"),
        (7, TypeError, "row 2 is a int"),
    ],
)
def test_a_row_that_does_not_fit_fails_the_load(
    bad: Any, error: type[Exception], says: str, loaded: Callable[..., list[Any]]
) -> None:
    """By its number, and nothing is loaded."""
    with pytest.raises(error, match=says):
        copied("loaded", [(1, "a"), bad], columns=["n", "Mixed Case"])
    assert loaded() == []


def test_chunks_number_their_rows_among_all(loaded: Callable[..., list[Any]]) -> None:
    """And stay, each as it was committed."""
    for bad in ("x", "b"), (3, "b", "c"):
        with pytest.raises(exc.DataError, match=r"row 3\b"):
            copied(
                "loaded", [(len(loaded()) + n, "a") for n in (1, 2)] + [bad], columns=["n", "Mixed Case"], chunk_rows=2
            )
    assert loaded() == [(1,), (2,), (3,), (4,)]


def test_rows_that_cannot_be_read_on_leave_nothing(loaded: Callable[..., list[Any]]) -> None:
    """Their error is raised as it is; within a unit that caught it, nothing is committed."""

    def rows() -> Iterator[tuple[int]]:
        yield (1,)
        raise ValueError("no more")

    async def caught() -> None:
        async with aio.begin() as tx:
            with pytest.raises(ValueError, match="no more"):
                await aio.copy_rows("loaded", rows(), columns=["n"], tx=tx)

    with pytest.raises(ValueError, match="no more"):
        copied("loaded", rows(), columns=["n"])
    with pytest.raises(exc.PendingRollbackError):
        event_loop.run(caught())
    assert loaded() == []


def test_it_streams_as_a_part_of_a_transaction(loaded: Callable[..., list[Any]]) -> None:
    """Progress is told every 10,000 rows, and at the end."""
    told: list[int] = []

    async def scenario() -> None:
        async with aio.begin() as tx:
            await tx.execute(text("INSERT INTO loaded (n) VALUES (-1)"))
            many = ((n,) for n in range(25_000))
            assert await aio.copy_rows("loaded", many, columns=["n"], tx=tx, progress=told.append) == 25_000
        with pytest.raises(LookupError):
            async with aio.begin() as tx:
                await aio.copy_rows("loaded", [(-2,)], columns=["n"], tx=tx)
                raise LookupError

    event_loop.run(scenario())
    assert told == [10_000, 20_000, 25_000]
    assert [n for (n,) in loaded()] == list(range(-1, 25_000))


def test_what_it_costs(database: Database, wire: MakeWire) -> None:
    """BEGIN, COPY, COMMIT; one more where its columns are new, and maybe one, as COPY may be answered ahead of rows."""
    proxy = wire()
    db.configure(Settings(url=make_url(database.through(proxy).url()), sslmode="disable", async_driver="asyncpg"))

    def cost(n: int) -> int:
        before = proxy.counts()
        copied("loaded", [(n,)], columns=["n"])
        return (proxy.counts() - before).trips

    assert cost(1) in {7, 8}  # three to connect
    assert cost(2) in {3, 4}


def test_a_kept_connection_that_died_is_replaced_before_the_first_row(
    use: Use, database: Database, postgres: Postgres, loaded: Callable[..., list[Any]]
) -> None:
    """As rows can be read once."""
    use(async_driver="asyncpg", pool_pre_ping=False)

    def rows() -> Iterator[tuple[int]]:
        yield (1,)

    copied("loaded", [(0,)], columns=["n"])
    postgres.terminate(database.name)
    assert copied("loaded", rows(), columns=["n"]) == 1
    assert loaded() == [(0,), (1,)]


def test_a_load_that_is_cancelled_or_late_leaves_nothing(use: Use, loaded: Callable[..., list[Any]]) -> None:
    """A time-out of the caller's, and the statement's own limit."""

    async def slowly(seconds: float) -> None:
        def rows() -> Iterator[tuple[int]]:
            for n in range(1_000_000):
                yield (n,)

        async with asyncio.timeout(seconds):
            await aio.copy_rows("loaded", rows(), columns=["n"])

    with pytest.raises(TimeoutError):
        event_loop.run(slowly(0.1))
    assert loaded() == []
    use(async_driver="asyncpg", statement_timeout_s=0.1)
    with pytest.raises(exc.OperationalError, match="statement timeout"):
        event_loop.run(slowly(60))
    assert loaded() == []
