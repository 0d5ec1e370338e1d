"""What an application says of its engines: options of SQLAlchemy's, and listeners that stay."""

from __future__ import annotations

import datetime as dt
import functools
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import JSON, bindparam, cast, event, exc, select, text

import db
from db import aio
from db.environment import event_loop, process
from db.pool.engine_options import EngineOptions

from .conftest import Use

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from devkit.plugin import Database, MakeWire
    from devkit.servers.postgres import Postgres

LEVEL = text("SHOW transaction_isolation")
STORED = select(cast(bindparam("body", type_=JSON), JSON))


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What one test says of engines does not reach the next."""
    yield
    process.DEFAULT._options = EngineOptions()


def test_json_is_written_and_read_as_the_application_does(use: Use) -> None:
    """By both twins, and after the runtime was replaced."""
    options: dict[str, Any] = {
        "json_serializer": functools.partial(json.dumps, default=str),
        "json_deserializer": lambda stored: {"read": json.loads(stored)},
    }
    use()
    db.configure(process.current().settings, engine_options=options)
    use()
    body = {"on": dt.date(2026, 11, 28)}
    read = {"read": {"on": "2026-11-28"}}
    with db.begin() as tx:
        assert tx.execute(STORED, {"body": body}).scalar_one() == read

    async def later() -> Any:
        async with aio.begin() as tx:
            return (await tx.execute(STORED, {"body": body})).scalar_one()

    assert event_loop.run(later()) == read
    db.dispose()
    event_loop.close()


def test_a_level_is_that_of_every_unit_that_names_none(use: Use) -> None:
    """And of the plain engine, before and after units on the same connection."""
    use()
    db.configure(process.current().settings, engine_options={"isolation_level": "SERIALIZABLE"})
    for _ in range(2):
        with db.engine().begin() as conn:
            assert conn.execute(LEVEL).scalar_one() == "serializable"
        with db.begin() as tx:
            assert tx.execute(LEVEL).scalar_one() == "serializable"
        with db.begin(isolation="READ COMMITTED") as tx:
            assert tx.execute(LEVEL).scalar_one() == "read committed"
        with db.read(snapshot=True) as conn:
            assert conn.execute(LEVEL).scalar_one() == "repeatable read"
        with db.read() as conn:
            assert conn.execute(LEVEL).scalar_one() == "serializable"
        assert [found.scalar_one() for found in db.fetch(LEVEL, LEVEL)] == ["serializable"] * 2
    db.configure(process.current().settings, engine_options={})
    with db.begin() as tx:
        assert tx.execute(LEVEL).scalar_one() == "read committed"


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_a_level_is_that_of_the_units_of_aio(driver: str, use: Use) -> None:
    """Those that read, and those that leave together, too."""
    use(async_driver=driver)
    db.configure(process.current().settings, engine_options={"isolation_level": "REPEATABLE READ"})

    async def levels() -> set[Any]:
        found = [one.scalar_one() for one in await aio.fetch(LEVEL, LEVEL)]
        async with aio.begin() as tx:
            found.append(await tx.scalar(LEVEL))
        for _ in range(2):
            async with aio.read() as conn:
                found.append(await conn.scalar(LEVEL))
        async with aio.engine().connect() as conn:
            found.append(await conn.scalar(LEVEL))
        return set(found)

    assert event_loop.run(levels()) == {"repeatable read"}
    db.dispose()
    event_loop.close()


def test_reads_of_a_level_are_one_transaction(use: Use, database: Database, wire: MakeWire) -> None:
    """A trip each, and one to end; the tenant and the refusal to write hold as ever."""
    counted = wire()
    use(url=database.through(counted).url("app"))
    db.configure(process.current().settings, engine_options={"isolation_level": "REPEATABLE READ"})
    seen = text("SELECT current_setting('app.tenant_id'), now()")
    with db.read() as conn:
        conn.execute(seen)
    before = counted.counts()
    with db.read(tenant="acme") as conn:
        first, second = (conn.execute(seen).one() for _ in range(2))
        with pytest.raises(exc.InternalError, match="read-only"):
            conn.execute(text("CREATE TABLE t (n int)"))
    assert first == second
    assert first[0] == "acme"
    assert (counted.counts() - before).trips == 4


def test_listeners_stay_when_the_runtime_is_replaced(use: Use) -> None:
    """Each engine is told of before anything uses it; the listener may ask for it."""
    told: list[Engine] = []
    seen: list[str] = []

    def listen(engine: Engine) -> None:
        told.append(engine)
        assert db.engine() is engine
        event.listen(engine, "before_cursor_execute", lambda _conn, _cursor, statement, *_: seen.append(statement))

    use()
    db.configure(process.current().settings, on_engine=listen)
    for round_ in (1, 2):
        use()
        with db.begin() as tx:
            tx.execute(text(f"SELECT {round_}"))
    assert seen == ["SELECT 1", "SELECT 2"]
    assert len(told) == 2


def test_an_engine_that_could_not_be_listened_to_is_not_kept(use: Use, database: Database, postgres: Postgres) -> None:
    """What the function raises reaches each use until it raises no more, and no connection of it stays."""
    told: list[Engine] = []
    seen: list[str] = []

    def listen(engine: Engine) -> None:
        told.append(engine)
        with engine.connect() as conn:
            conn.execute(text("SELECT 0"))
        if len(told) < 3:
            raise LookupError
        event.listen(engine, "before_cursor_execute", lambda _conn, _cursor, statement, *_: seen.append(statement))

    use()
    db.configure(process.current().settings, on_engine=listen)
    with pytest.raises(LookupError), db.begin():
        pass
    with pytest.raises(LookupError):
        db.engine()
    assert db.status()["engines"] == {}
    assert postgres.connections(database.name, user=database.app) == []
    with db.begin() as tx:
        tx.execute(text("SELECT 1"))
    assert seen == ["SELECT 1"]
    assert len(set(told)) == 3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pool_size": 5}, "pool_size is said by DB_POOL_SIZE"),
        ({"connect_args": {}}, "connect_args is said by DB_CONNECT_ARGS"),
        ({"creator": print}, "creator is the layer's own"),
        ({"isolation_level": "AUTOCOMMIT"}, "isolation_level is one of"),
        ({"execution_options": {"isolation_level": "SERIALIZABLE"}}, "an option of its own"),
    ],
)
def test_what_has_another_place_is_refused(options: dict[str, Any], says: str, use: Use) -> None:
    """And the runtime stays as it was."""
    use()
    before = process.current()
    with pytest.raises(db.ConfigurationError, match=says):
        db.configure(before.settings, engine_options=options)
    assert process.current() is before


def test_the_dialect_is_found_without_importing_the_layer(database: Database) -> None:
    """By the entry point that is installed with it."""
    url = database.url().replace("postgresql+psycopg", "postgresql+serverless")
    program = (
        "import sys; from sqlalchemy import create_engine, text\n"
        f"with create_engine({url!r}).connect() as conn: print(conn.execute(text('SELECT 42')).scalar_one())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "42"
