"""Each way in which a right database, role or setting goes wrong is named by ``db.check``; what is right, by nothing.

The ways in which tenants stop being apart are in ``test_tenancy_audit``, and are asked for here as well: most of them
show to nobody else.
"""
# ruff: noqa: F811 - the fixtures of another module

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import make_url

import db
from db.environment import process
from db.migrations.preflight.checking import on_connection
from db.settings import Settings

from .test_tenancy_audit import MUTATIONS, conn, place  # noqa: F401 - two of them are fixtures

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from db.migrations.preflight import Finding
    from devkit.plugin import Database

# What of a change in the schema or of a role, under which settings, is said of which subject and in which words.
OF_THE_SERVER: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "once without INSERT": ("once", "lacks INSERT", "REVOKE INSERT ON db_once FROM {app}", {}),
    "once without DELETE": ("once", "lacks DELETE", "REVOKE DELETE ON db_once FROM {app}", {}),
    "once of an earlier making": ("once", "no column result", "ALTER TABLE db_once DROP COLUMN result", {}),
    "once without a key": ("once", "is done twice", "ALTER TABLE db_once DROP CONSTRAINT pk_db_once", {}),
    "once with a key over all tenants": (
        "once",
        "is done twice",
        "ALTER TABLE db_once DROP CONSTRAINT pk_db_once; CREATE UNIQUE INDEX ON db_once (tenant_id, key, result)",
        {},
    ),
    "once in another schema": (
        "once",
        "in the schema elsewhere",
        "CREATE SCHEMA elsewhere; ALTER TABLE db_once SET SCHEMA elsewhere",
        {},
    ),
    "once is not on the path": ("once", "in the schema public", "CREATE SCHEMA shop", {"schema": "shop"}),
    "nothing granted": ("privileges", "none of 3", "REVOKE ALL ON notes, tags, db_once FROM {app}", {}),
    "a schema that is closed": (
        "privileges",
        "none of 3",
        "REVOKE USAGE ON SCHEMA public FROM PUBLIC, {app}",
        {},
    ),
    "a sequence that is closed": (
        "privileges",
        "counted_n_seq",
        "CREATE TABLE counted (n serial); GRANT INSERT ON counted TO {app}",
        {},
    ),
    "a superuser": ("privileges", "is a superuser", "ALTER ROLE {app} SUPERUSER", {}),
    "a password that ends": ("password", "ends in", "ALTER ROLE {app} VALID UNTIL 'tomorrow'", {}),
    "sessions that only read": ("writes", "begin read-only", "SET LOCAL default_transaction_read_only = on", {}),
    "sessions of a tenant": ("session", "by the server or a pooler", "SET LOCAL app.tenant_id = 'acme'", {}),
    "sessions without policies": ("session", "row_security off", "SET LOCAL row_security = off", {}),
    "a role of few connections": ("connections", "CONNECTION LIMIT of", "ALTER ROLE {app} CONNECTION LIMIT 0", {}),
    "a database of few connections": (
        "connections",
        "CONNECTION LIMIT of the database",
        "ALTER DATABASE {database} CONNECTION LIMIT 1",
        {"pool_size": 2},
    ),
    "a pool that is too large": ("connections", "this process alone may ask for", "", {"pool_size": 500}),
    "a schema that is not there": ("schema", "not there: shop", "", {"schema": "shop"}),
    "a second schema that is not there": ("schema", "not there: shop", "", {"schema": "public, shop"}),
    "a schema that is not granted": ("schema", "may not use shop", "CREATE SCHEMA shop", {"schema": "shop"}),
    "no prologue function": (
        "prologue function",
        "there is no function db_begin_unit",
        "DROP FUNCTION db_begin_unit",
        {"proxy": "rds-proxy"},
    ),
    "a prologue function of nobody's": (
        "prologue function",
        "may not call db_begin_unit",
        "REVOKE EXECUTE ON FUNCTION db_begin_unit FROM PUBLIC, {app}",
        {"proxy": "rds-proxy"},
    ),
    "a prologue function of another schema": (
        "prologue function",
        'there is no function "shop".db_begin_unit',
        "CREATE SCHEMA shop; GRANT USAGE ON SCHEMA shop TO {app}",
        {"proxy": "rds-proxy", "schema": "shop, public"},
    ),
    "no function of constraints": (
        "prologue function",
        "create_constraints_function",
        "DROP FUNCTION db_check_constraints",
        {"proxy": "rds-proxy"},
    ),
    "no pooler": ("proxy", "the server itself answers", "", {"proxy": "pgbouncer"}),
    "no tenants where one is required": (
        "tenants",
        "DB_TENANT_REQUIRED is set",
        "DROP TABLE notes, tags, db_once CASCADE",
        {"tenant_required": True},
    ),
}
# What of variables is said, by which subject.
LAMBDA = {"AWS_LAMBDA_FUNCTION_NAME": "orders"}
OF_SETTINGS: dict[str, tuple[str, str, dict[str, str]]] = {
    "a name that resembles one": ("settings", "is DB_HOST meant?", {"DB_HOTS": "h"}),
    "a name of another case": ("settings", "upper case", {"db_pool_size": "2"}),
    "no number": ("settings", "DB_POOL_SIZE is not a whole number", {"DB_POOL_SIZE": "many"}),
    "below its floor": ("settings", "below its floor", {"DB_POOL_SIZE": "0"}),
    "two ways in": ("settings", "are both set", {"DB_SECRET_ID": "orders/app"}),
    "another engine's": ("settings", "contradicts DB_URL", {"DB_ENGINE": "mysql"}),
    "what null keeps": ("settings", "DB_POOL=null", {"DB_POOL": "null", "DB_POOL_SIZE": "2"}),
    "no certificates": ("settings", "needs DB_SSLROOTCERT", {"DB_SSLMODE": "verify-full"}),
    "a name that is none": ("names", "DB_ZZTOP", {"DB_ZZTOP": "1"}),
    "a pool of many": ("pool size", "up to 5 connections", {**LAMBDA, "DB_POOL_SIZE": "5"}),
    "an overflow": ("pool size", "up to 3 connections", {**LAMBDA, "DB_MAX_OVERFLOW": "2"}),
    "no look before use": ("liveness", "fails the next unit", {**LAMBDA, "DB_POOL_PRE_PING": "false"}),
    "idle for long": ("liveness", "NAT gateway", {**LAMBDA, "DB_POOL_IDLE_S": "900"}),
    "no end": ("end", "nobody closes", {**LAMBDA, "DB_SHUTDOWN_HOOK": "false"}),
    "echo": ("log", "DB_ECHO", {**LAMBDA, "DB_ECHO": "on"}),
    "values in the log": ("log", "DB_HIDE_PARAMETERS", {**LAMBDA, "DB_HIDE_PARAMETERS": "false"}),
    "a tenant in the arguments": (
        "session",
        "by the options of DB_CONNECT_ARGS",
        {"DB_CONNECT_ARGS": '{"options": "-c geqo=on --APP.tenant-id=acme"}'},
    ),
    "names behind a proxy": (
        "prepared statements",
        "prepare_threshold is 5",
        {"DB_PROXY": "rds-proxy", "DB_CONNECT_ARGS": '{"prepare_threshold": 5}'},
    ),
    "a reader that writes": ("reader", "a writer answers", {"DB_READER_HOST": "127.0.0.1"}),
    "a reader that is away": ("reader", "stands in", {"DB_READER_HOST": "127.0.0.1", "DB_READER_PORT": "1"}),
    "a file that is not there": ("connect", "no such file", {"DB_URL": "sqlite:////nowhere/shop.db"}),
    "a port that is closed": ("connect", "refused", {"DB_PORT": "1"}),
    "a database that is not there": ("connect", "does not exist", {"DB_NAME": "nowhere"}),
    "a login that is none": ("connect", "password authentication failed", {"DB_USER": "nobody"}),
}


def faults(findings: Any) -> dict[str, Finding]:
    return {one.subject: one for one in findings if one.level in {"warning", "error"}}


def on_server(conn: Connection, place: Database, statements: str, settings: dict[str, Any]) -> dict[str, Finding]:
    """What is said of it to the functions' role, before all of it is undone."""
    conn.exec_driver_sql(statements.format(app=place.app, owner=place.owner, database=place.name) or "SELECT 1")
    given = Settings(url=make_url(place.url()), **settings)
    driver: Any = conn.connection.driver_connection
    driver.prepare_threshold = 5 if given.proxy == "none" else None  # as the layer connects
    if given.schema:
        conn.exec_driver_sql(f"SET LOCAL search_path = {given.schema}")
    conn.exec_driver_sql(f"SET LOCAL SESSION AUTHORIZATION {place.app}")
    return faults(on_connection(conn, given, {}))


def test_what_is_right_has_no_fault(conn: Connection, place: Database) -> None:
    """Nor behind RDS Proxy, with a schema and tenants that are required, all of which it is made for."""
    assert on_server(conn, place, "", {}) == {}
    all_of_it = {"proxy": "rds-proxy", "schema": "public", "tenant_required": True}
    assert on_server(conn, place, "RESET SESSION AUTHORIZATION", all_of_it) == {}


# What is right and out of the ordinary, under which settings.
RIGHT: dict[str, tuple[str, dict[str, Any]]] = {
    "a login that only writes": (
        "REVOKE SELECT, UPDATE, DELETE ON notes, tags FROM {app}; REVOKE ALL ON db_once FROM {app}",
        {},
    ),
    "a login that only deletes": ("REVOKE ALL ON notes, tags, db_once FROM {app}; GRANT DELETE ON notes TO {app}", {}),
    "a login of views alone": (
        "REVOKE ALL ON notes, tags, db_once FROM {app}; CREATE VIEW n AS SELECT 1 AS n; GRANT SELECT ON n TO {app}",
        {},
    ),
    "another application's table of once": (
        "DROP TABLE db_once; CREATE SCHEMA other; CREATE TABLE other.db_once ()",
        {},
    ),
    "before the first table": ("DROP TABLE notes, tags, db_once; CREATE TABLE alembic_version (version_num text)", {}),
    "temporary tables last": ("", {"schema": "public, pg_temp"}),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_in_another_way_has_no_fault(name: str, conn: Connection, place: Database) -> None:
    """A login has what its function does, and no more."""
    assert on_server(conn, place, *RIGHT[name]) == {}


@pytest.mark.parametrize(
    ("rights", "said"), [("ALL", "has no privilege on db_once"), ("INSERT, UPDATE", "may purge it")]
)
def test_a_login_that_does_nothing_once_has_no_fault(rights: str, said: str, conn: Connection, place: Database) -> None:
    """A report reads, and may be who purges: that is another function's promise."""
    conn.exec_driver_sql(f"REVOKE {rights} ON db_once FROM {place.app}")
    conn.exec_driver_sql(f"SET LOCAL SESSION AUTHORIZATION {place.app}")
    found = list(on_connection(conn, Settings(url=make_url(place.url())), {}))
    assert faults(found) == {}
    assert [said in one.seen for one in found if one.subject == "once"] == [True]


@pytest.mark.parametrize(
    ("catalogue", "subjects"), [("pg_stat_database", {"server", "tenants"}), ("pg_db_role_setting", {"tenants"})]
)
def test_a_catalogue_that_the_login_may_not_read_is_no_fault(
    catalogue: str, subjects: set[str], conn: Connection, place: Database
) -> None:
    """What cannot be looked at is said so, and not that there is no connection."""
    conn.exec_driver_sql(f"REVOKE SELECT ON pg_catalog.{catalogue} FROM PUBLIC")
    conn.exec_driver_sql(f"SET LOCAL SESSION AUTHORIZATION {place.app}")
    found = list(on_connection(conn, Settings(url=make_url(place.url())), {}))
    assert faults(found) == {}
    assert {one.subject for one in found if one.level == "not applicable"} >= subjects
    assert any(f"permission denied for {kind} {catalogue}" in one.seen for one in found for kind in ("view", "table"))


@pytest.mark.parametrize("mutation", OF_THE_SERVER)
def test_what_is_wrong_with_schema_or_role_is_named(mutation: str, conn: Connection, place: Database) -> None:
    """By its subject, with what to do about it."""
    subject, words, statements, settings = OF_THE_SERVER[mutation]
    found = on_server(conn, place, statements, settings)
    assert words in found[subject].seen + str(found[subject].remedy), found
    assert found[subject].remedy
    assert found[subject].page


@pytest.mark.parametrize("mutation", OF_SETTINGS)
def test_what_is_wrong_with_settings_is_named(mutation: str, place: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the variable, where it is one."""
    subject, words, variables = OF_SETTINGS[mutation]
    monkeypatch.setattr(process.DEFAULT, "_runtime", None)
    for name, value in {"DB_URL": place.url(), **variables}.items():
        monkeypatch.setenv(name, value)
    found = [one for one in db.check().findings if one.level in {"warning", "error"}]
    assert any(words in one.seen for one in found if one.subject == subject), found


@pytest.mark.parametrize("kind", sorted({kind for kind, _ in MUTATIONS.values()}))
def test_what_is_wrong_with_tenants_is_named(kind: str, conn: Connection, place: Database) -> None:
    """A finding of the audit, by the word for it."""
    statements = next(statements for of_kind, statements in MUTATIONS.values() if of_kind == kind)
    conn.exec_driver_sql(statements.format(app=place.app, owner=place.owner, database=place.name))
    conn.exec_driver_sql(f"SET LOCAL SESSION AUTHORIZATION {place.app}")
    found = on_connection(conn, Settings(url=make_url(place.url())), {})
    assert kind in {one.seen.partition(":")[0] for one in found if one.subject == "tenants"}


def test_there_are_enough_kinds_of_them() -> None:
    """Each of these three tables says one thing in a row; and one kind of the audit's has several rows."""
    of_tenants = {kind for kind, _ in MUTATIONS.values()}
    assert (len(OF_THE_SERVER), len(OF_SETTINGS), len(of_tenants)) >= (25, 20, 35)
