"""The type hstore: arrays of it without the type's number, and all of it as dict where the number is looked up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, TypeDecorator, select, text
from sqlalchemy.dialects.postgresql import ARRAY, HSTORE

import db
from db import aio, migrations
from db.environment import event_loop
from db.wire.psycopg_dialect import DRIVER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from devkit.plugin import Database, MakeWire
    from devkit.servers.postgres import Postgres

    from .conftest import MakeEngine, Use


class OwnHstore(TypeDecorator[Any]):
    """A type of the user's, made of it."""

    impl = HSTORE
    cache_ok = True


BAGS = Table("bags", MetaData(), Column("n", Integer, primary_key=True), Column("held", ARRAY(HSTORE)))
# What is special to an array's text, and to an hstore's in it.
DIFFICULT = [{"a b": '"', "c,{d}": "\\", "é": None}, None, {"NULL": "NULL"}, {}]
HELD: list[Any] = [DIFFICULT, [], None, [[{"a": "1"}, {"b": "2"}], [{"c": "3"}, {"d": "4"}]]]


class MakeHstore(Protocol):
    """Makes a type that is called hstore, of the functions of ``text`` or of ``bytea``, and the table ``bags``.

    The embedded server brings no extensions. A text is what the real one's would be; as binary, text takes nothing that
    holds a zero, which every hstore does, and bytea takes all.
    """

    def __call__(self, made_of: Literal["text", "bytea"] = "text") -> None: ...


@pytest.fixture
def hstore(database: Database, postgres: Postgres) -> MakeHstore:
    def make(made_of: Literal["text", "bytea"] = "text") -> None:
        for statement in (
            "CREATE TYPE hstore",
            f"CREATE FUNCTION h_in(cstring) RETURNS hstore STRICT IMMUTABLE LANGUAGE internal AS '{made_of}in'",
            f"CREATE FUNCTION h_out(hstore) RETURNS cstring STRICT IMMUTABLE LANGUAGE internal AS '{made_of}out'",
            f"CREATE FUNCTION h_recv(internal) RETURNS hstore STRICT IMMUTABLE LANGUAGE internal AS '{made_of}recv'",
            f"CREATE TYPE hstore (INPUT = h_in, OUTPUT = h_out, RECEIVE = h_recv, LIKE = {made_of})",
            f"CREATE CAST (hstore AS {made_of}) WITHOUT FUNCTION",
            "CREATE TABLE bags (n int PRIMARY KEY, held hstore[])",
            f"ALTER TABLE bags OWNER TO {database.owner}",
        ):
            postgres.execute(statement, database=database.name)

    return make


@pytest.fixture
def closed_loop() -> Iterator[None]:
    yield
    db.dispose()
    event_loop.close()


def fill(conn: Connection, what: list[Any] = HELD) -> None:
    conn.execute(BAGS.insert(), [{"n": n, "held": held} for n, held in enumerate(what)])


def held(conn: Connection) -> list[Any]:
    return list(conn.execute(select(BAGS.c.held).order_by(BAGS.c.n)).scalars())


def test_an_array_that_was_written_is_read_again(hstore: MakeHstore, use: Use) -> None:
    """With NULLs, several dimensions, and all that is special in its text."""
    hstore()
    use()
    with db.begin() as tx:
        fill(tx)
    with db.read() as conn:
        assert held(conn) == HELD


@pytest.mark.parametrize(
    ("driver", "what"),
    # asyncpg 0.32 dies of the empty element that ends DIFFICULT: its list has a hole in that place.
    [("psycopg", HELD), ("asyncpg", [DIFFICULT[:-1], *HELD[1:]])],
)
@pytest.mark.usefixtures("closed_loop")
def test_so_it_is_on_the_event_loop(driver: str, what: list[Any], hstore: MakeHstore, use: Use) -> None:
    """asyncpg finds out for itself that it is an array."""
    hstore()
    use(async_driver=driver)

    async def scenario() -> list[Any]:
        async with aio.begin() as tx:
            await tx.run_sync(fill, what)
            return await tx.run_sync(held)

    assert event_loop.run(scenario()) == what


@pytest.mark.parametrize(
    "driver",
    [
        pytest.param((DRIVER, {}), id="ours"),
        pytest.param((DRIVER, {"use_native_hstore": True}), id="ours, native"),
        pytest.param(("postgresql+psycopg", {}), id="stock"),
    ],
)
@pytest.mark.parametrize(
    ("of", "expected"),
    [
        pytest.param(ARRAY(HSTORE), HELD, id="as list"),
        pytest.param(ARRAY(HSTORE, as_tuple=True, dimensions=1), [tuple(DIFFICULT), (), None], id="as tuple"),
        pytest.param(ARRAY(OwnHstore), HELD, id="decorated"),
    ],
)
def test_each_dialect_reads_the_same(
    driver: tuple[str, Any], of: Any, expected: list[Any], *, hstore: MakeHstore, make_engine: MakeEngine
) -> None:
    """Whether it knows the type's number or not."""
    hstore()
    with make_engine(DRIVER).begin() as conn:
        fill(conn)
    name, arguments = driver
    column = text("SELECT held FROM bags ORDER BY n").columns(held=of)
    with make_engine(name, **arguments).connect() as conn:
        assert [row.held for row in conn.execute(column).fetchmany(len(expected))] == expected


NATIVE = text("""SELECT '"a"=>"1", "b"=>NULL'::hstore, ARRAY['"c"=>"2"']::hstore[]""")


@pytest.mark.parametrize(
    ("native", "seen"),
    [(True, ({"a": "1", "b": None}, [{"c": "2"}])), (False, ('"a"=>"1", "b"=>NULL', '{"\\"c\\"=>\\"2\\""}'))],
)
def test_a_statement_without_types_gets_what_the_setting_says(
    native: bool, seen: tuple[Any, ...], hstore: MakeHstore, use: Use
) -> None:
    """A dict, or the text; from the first connection and from those after it."""
    hstore()
    use(native_hstore=native, pool="null")
    for unit in (db.begin, db.read, db.begin):
        with unit() as conn:
            assert conn.execute(NATIVE).one() == seen


@pytest.mark.usefixtures("closed_loop")
def test_so_does_one_on_the_event_loop(hstore: MakeHstore, use: Use) -> None:
    """Of psycopg."""
    hstore()
    use(native_hstore=True, pool="null")

    async def scenario() -> list[Any]:
        found = []
        for unit in (aio.begin, aio.read):
            async with unit() as conn:
                found.append((await conn.execute(NATIVE)).one())
        return found

    assert event_loop.run(scenario()) == [({"a": "1", "b": None}, [{"c": "2"}])] * 2


def test_a_dict_is_bound_as_one(hstore: MakeHstore, use: Use) -> None:
    """By psycopg, in its binary form."""
    hstore("bytea")
    use(native_hstore=True)
    with db.begin() as tx:
        bound = text("SELECT pg_typeof(:bag)::text, CAST(:bag AS bytea)")
        length = b"\x00\x00\x00\x01"
        assert tx.execute(bound, {"bag": {"a": "1"}}).one() == ("hstore", length + length + b"a" + length + b"1")


@pytest.mark.parametrize(("native", "trips"), [(False, [5, 2, 5]), (True, [7, 2, 5])])
def test_the_look_up_costs_two_trips_once(
    native: bool, trips: list[int], hstore: MakeHstore, use: Use, wire: MakeWire
) -> None:
    """At an engine's first connect; kept connections and later ones know."""
    hstore()
    proxy = wire()
    use(wire=proxy, native_hstore=native)
    db.engine()
    spent = []
    for again in (False, False, True):
        if again:
            db.engine().dispose()
        before = proxy.counts()
        with db.begin() as tx:
            tx.execute(text("SELECT 1"))
        spent.append((proxy.counts() - before).trips)
    assert spent == trips


def test_the_type_is_found_outside_of_the_search_path(
    hstore: MakeHstore, use: Use, database: Database, postgres: Postgres
) -> None:
    """Where each transaction sets the path for itself, the look-up has none."""
    hstore()
    postgres.execute(f"CREATE SCHEMA extensions AUTHORIZATION {database.owner}", database=database.name)
    postgres.execute("ALTER TYPE hstore SET SCHEMA extensions", database=database.name)
    use(native_hstore=True)
    with db.read() as conn:
        assert conn.scalar(text("""SELECT '"a"=>"1"'::extensions.hstore""")) == {"a": "1"}


def test_a_database_without_the_type_is_refused_until_it_has_it(
    hstore: MakeHstore, use: Use, database: Database, postgres: Postgres
) -> None:
    """A text where a dict was asked for would be another answer. No connection is left of the attempt."""
    use(native_hstore=True)
    with pytest.raises(db.ConfigurationError, match="DB_NATIVE_HSTORE"), db.begin():
        pass
    assert postgres.all_left(database.name)
    hstore()
    with db.begin() as tx:
        assert tx.execute(NATIVE).scalar() == {"a": "1", "b": None}


def test_a_migration_may_bring_the_type(hstore: MakeHstore, use: Use) -> None:
    """So its connection does not ask for it."""
    use(native_hstore=True)
    with migrations.locked_connection() as conn:
        hstore()
        assert conn.scalar(text("SELECT to_regtype('hstore')::text")) == "hstore"


@pytest.mark.usefixtures("closed_loop")
def test_asyncpg_is_refused_by_name(hstore: MakeHstore, use: Use) -> None:
    """What is not asynchronous is served."""
    hstore()
    use(native_hstore=True, async_driver="asyncpg")
    with pytest.raises(db.ConfigurationError, match="DB_NATIVE_HSTORE"):
        aio.engine()
    with db.read() as conn:
        assert conn.execute(NATIVE).scalar() == {"a": "1", "b": None}
