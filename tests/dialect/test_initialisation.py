"""What the dialect takes for granted is what the stock one is told by the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, inspect, text

import db
from db.wire.psycopg_dialect import DRIVER

if TYPE_CHECKING:
    from sqlalchemy import Dialect, Engine

    from devkit.plugin import Database, MakeWire

    from .conftest import MakeEngine, Use

LEARNT = (
    "server_version_info",
    "default_schema_name",
    "default_isolation_level",
    "max_identifier_length",
    "supports_smallserial",
    "supports_identity_columns",
    "supports_virtual_generated_columns",
    "insert_returning",
    "insert_executemany_returning",
    "_backslash_escapes",
    "_supports_drop_index_concurrently",
    "_supports_jsonb_subscripting",
)


def learnt(engine: Engine) -> dict[str, Any]:
    dialect: Dialect = engine.dialect
    with engine.connect():
        return {name: getattr(dialect, name) for name in LEARNT}


def test_it_knows_what_the_server_would_have_said(use: Use, stock: Engine) -> None:
    """All that initialize() finds out."""
    use()
    assert learnt(db.engine()) == learnt(stock)


@pytest.mark.parametrize("path", ["there", "there, public", "public, there", '"Über there"', "There"])
def test_so_it_does_with_a_schema(path: str, use: Use, make_engine: MakeEngine, stock: Engine) -> None:
    """DB_SCHEMA is the search path; where tables without a schema go is the first that it names."""
    with stock.begin() as conn:
        conn.execute(text('CREATE SCHEMA there; CREATE SCHEMA "Über there"'))
    use(schema=path)
    arguments = {"options": f"-c search_path={path.replace(' ', chr(92) + ' ')}"}
    assert learnt(db.engine()) == learnt(make_engine(connect_args=arguments))


@pytest.mark.parametrize("setting", ["search_path = there, public", "standard_conforming_strings = off"])
def test_so_it_does_with_a_default_of_the_role(
    setting: str, database: Database, make_engine: MakeEngine, stock: Engine
) -> None:
    """The server reports these of itself."""
    with stock.begin() as conn:
        conn.execute(text("CREATE SCHEMA there"))
        conn.execute(text(f"ALTER ROLE {database.owner} SET {setting}"))
    assert learnt(make_engine(DRIVER)) == learnt(make_engine())


@pytest.mark.parametrize("level", ["REPEATABLE READ", "AUTOCOMMIT"])
def test_so_it_does_with_an_isolation_level_of_the_engine(level: str, make_engine: MakeEngine) -> None:
    """It becomes the default that a connection goes back to."""
    ours, theirs = make_engine(DRIVER, isolation_level=level), make_engine(isolation_level=level)
    assert learnt(ours) == learnt(theirs)
    for engine in (ours, theirs):
        with engine.connect() as conn:
            conn.execution_options(isolation_level="SERIALIZABLE")
            conn.execute(text("SELECT 1"))
        with engine.connect() as conn:
            assert conn.get_isolation_level() == ("READ COMMITTED" if level == "AUTOCOMMIT" else level)


def test_a_default_that_is_told_is_not_looked_for(make_engine: MakeEngine) -> None:
    """For a server that does not report its search path."""
    found = learnt(make_engine(DRIVER, default_schema_name="told", default_isolation_level="LEVEL"))
    assert (found["default_schema_name"], found["default_isolation_level"]) == ("told", "LEVEL")


@pytest.mark.parametrize(("query", "arguments"), [("?client_encoding=latin1", {}), ("", {"client_encoding": "latin1"})])
def test_another_encoding_is_refused(query: str, arguments: dict[str, str]) -> None:
    """What rides in a flight is UTF-8, whatever the engine was told."""
    with pytest.raises(db.ConfigurationError, match="client_encoding=latin1"):
        create_engine(f"{DRIVER}://u@h/d{query}", **arguments).connect()


def test_it_costs_no_trip(use: Use, wire: MakeWire) -> None:
    """Three to connect, and nothing is asked."""
    proxy = wire()
    use(wire=proxy)
    learnt(db.engine())
    assert proxy.counts().trips == 3


TABLES = """
CREATE SCHEMA there;
CREATE TABLE accounts (id int PRIMARY KEY, name text NOT NULL DEFAULT 'x', UNIQUE (name));
CREATE TABLE there.orders (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account int REFERENCES public.accounts, amount numeric(8, 2)
);
CREATE INDEX orders_by_amount ON there.orders (amount DESC);
CREATE VIEW there.big AS SELECT * FROM there.orders WHERE amount > 1;
COMMENT ON TABLE there.orders IS 'what was ordered';
"""


def reflected(engine: Engine, schema: str | None) -> dict[str, Any]:
    found = inspect(engine)
    return {
        "schemas": found.get_schema_names(),
        "views": found.get_view_names(schema),
        "default": found.default_schema_name,
    } | {
        name: repr(getattr(found, f"get_multi_{name}")(schema=schema))  # types compare by identity
        for name in ("columns", "pk_constraint", "foreign_keys", "indexes", "unique_constraints", "table_comment")
    }


@pytest.mark.parametrize("setting", [None, "there"])
@pytest.mark.parametrize("schema", [None, "public", "there"])
def test_reflection_is_the_same(
    schema: str | None, setting: str | None, use: Use, make_engine: MakeEngine, stock: Engine
) -> None:
    """With a schema named and without, and with DB_SCHEMA and without."""
    with stock.begin() as conn:
        conn.exec_driver_sql(TABLES)
    use(schema=setting)
    arguments = {"options": f"-c search_path={setting}"} if setting else {}
    assert reflected(db.engine(), schema) == reflected(make_engine(connect_args=arguments), schema)
