"""SQLite: a database in this process, for unit tests that call what production calls."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from db.errors import SQLSTATE_READERS

from .kinds import EngineKind, OnceSql

if TYPE_CHECKING:
    from sqlalchemy import URL

_MINE = "tenant_id = coalesce(:tenant, '') AND key = :key"
_NOW = "strftime('%Y-%m-%d %H:%M:%f', 'now')"
_NO_SERVER = "it is a file in this process, and there is no server"

# What SQLite's result codes are called on PostgreSQL, so that code that reads an SQLSTATE, and db.verdict, find the
# same. The extended code decides first, then its low byte, the primary one. https://sqlite.org/rescode.html
_SQLSTATES = {
    sqlite3.SQLITE_BUSY: "55P03",  # lock_not_available: the other writer did not end in time
    sqlite3.SQLITE_BUSY_SNAPSHOT: "40001",  # serialization_failure: it had read what another has changed since
    sqlite3.SQLITE_BUSY_RECOVERY: "55P03",
    sqlite3.SQLITE_LOCKED: "55P03",
    sqlite3.SQLITE_PROTOCOL: "55P03",  # a race for the lock of the write-ahead log
    sqlite3.SQLITE_READONLY: "42501",  # insufficient_privilege: the file; a transaction that only reads is 25006
    sqlite3.SQLITE_PERM: "42501",
    sqlite3.SQLITE_AUTH: "42501",
    sqlite3.SQLITE_INTERRUPT: "57014",  # query_canceled
    sqlite3.SQLITE_FULL: "53100",  # disk_full
    sqlite3.SQLITE_NOMEM: "53200",  # out_of_memory
    sqlite3.SQLITE_IOERR: "58030",  # io_error
    sqlite3.SQLITE_CANTOPEN: "58P01",  # undefined_file
    sqlite3.SQLITE_CORRUPT: "XX001",  # data_corrupted
    sqlite3.SQLITE_NOTADB: "XX001",
    sqlite3.SQLITE_TOOBIG: "54000",  # program_limit_exceeded
    sqlite3.SQLITE_MISMATCH: "22P02",  # invalid_text_representation
    sqlite3.SQLITE_RANGE: "07001",  # using_clause_does_not_match_dynamic_parameters
    sqlite3.SQLITE_CONSTRAINT: "23000",  # integrity_constraint_violation
    sqlite3.SQLITE_CONSTRAINT_NOTNULL: "23502",
    sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY: "23503",
    sqlite3.SQLITE_CONSTRAINT_UNIQUE: "23505",
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY: "23505",
    sqlite3.SQLITE_CONSTRAINT_ROWID: "23505",
    sqlite3.SQLITE_CONSTRAINT_CHECK: "23514",
    sqlite3.SQLITE_CONSTRAINT_TRIGGER: "P0001",  # raise_exception: RAISE(ABORT, …)
}
# SQLITE_ERROR is all that is wrong with a statement; which of it, the message says.
_BY_MESSAGE = (
    ("no such table", "42P01"),
    ("no such column", "42703"),
    ("has no column named", "42703"),
    ("already exists", "42P07"),
    ("syntax error", "42601"),
)


def sqlstate_of(error: BaseException) -> str | None:
    """The SQLSTATE that PostgreSQL has for what ``error``, of sqlite3, says."""
    said = getattr(error, "sqlstate", None)  # by the connection, where it knows better
    if isinstance(said, str):
        return said
    code = getattr(error, "sqlite_errorcode", None)
    if not isinstance(code, int):
        return None
    if code == sqlite3.SQLITE_ERROR:
        return next((state for part, state in _BY_MESSAGE if part in str(error)), None)
    return _SQLSTATES.get(code) or _SQLSTATES.get(code & 0xFF)


SQLSTATE_READERS["sqlite3"] = sqlstate_of


def in_memory(url: URL) -> bool:
    """Whether the database is gone with the connection: ``sqlite://``."""
    return url.database in {None, "", ":memory:"} or url.query.get("mode") == "memory"


def to_look_at(url: URL) -> URL:
    """``url`` for a connection that makes no file and changes none, those that SQLite keeps beside it among them."""
    if in_memory(url):
        return url
    named = str(url.database)
    by_uri = named.startswith("file:") and url.query.get("uri", "") not in {"", "0", "false", "no", "off"}
    path = unquote(named.removeprefix("file:")) if by_uri else os.path.abspath(named)  # noqa: PTH100 - as SQLAlchemy
    query = {**url.query, "uri": "true", "mode": "ro"}
    if _writes_ahead(path) and not os.path.exists(f"{path}-wal"):  # noqa: PTH110 - likewise
        # Without a log beside it, all is in the file and nobody is at work; its reader would make one, and leave it.
        query["immutable"] = "1"
    return url.set(database=named if by_uri else f"file:{quote(path)}", query=query)


def _writes_ahead(path: str) -> bool:
    """Whether the file is of the kind that has a log beside it: https://sqlite.org/fileformat.html#the_database_header."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - likewise
            return file.read(20)[18:] == b"\2\2"
    except OSError:
        return False


KIND = EngineKind(
    name="sqlite",
    title="SQLite",
    system="sqlite",
    dialect="sqlite_dialect",
    can={
        "statement limit": "a progress handler interrupts the statement",
        "lock limit": "`busy_timeout`, cut to the time that is left",
        "transaction limit": "no statement begins after the deadline",
        "read-only": "`PRAGMA query_only`",
        "isolation": "one writer at a time: each level is SERIALIZABLE",
        "savepoints": "`SAVEPOINT`",
        "once": "one writer at a time: `BEGIN IMMEDIATE` is the lock",
        "deferred constraints": "`PRAGMA foreign_key_check`",
        "advisory lock": "a lock on a file beside the database",
        "cancel": "the limits above",
        "prime": "as the library at hand takes them",
    },
    lacks={
        "tenant": (
            "it has no row-level security, so every row would be seen: test tenants on PostgreSQL, or let them pass "
            "unchecked in unit tests with DB_SQLITE_TENANTS=unchecked"
        ),
        "flights": "there is no round trip",
        "copy": "it has no COPY; db.copy_rows inserts",
        "binary copy": "it has no COPY, whose formats these are",
        "roles": "it has neither roles nor logins: whoever may open the file may do all",
        "prologue function": "it is for RDS Proxy, which does not stand before a file",
        "replica state": "it has no replicas",
        "aio": "it blocks the thread and so the event loop: take the plain functions of db, in def handlers",
    },
    unserved={
        "host": _NO_SERVER,
        "port": _NO_SERVER,
        "user": _NO_SERVER,
        "name": f"{_NO_SERVER}: the database is the file that DB_URL names",
        "reader_host": "it has no replicas",
        "reader_port": "it has no replicas",
        "reader_max_lag_s": "it has no replicas",
        "proxy": _NO_SERVER,
        "sslmode": _NO_SERVER,
        "sslrootcert": _NO_SERVER,
        "native_hstore": "it is for PostgreSQL only",
        "prepare": "sqlite3 keeps the statements of a connection by itself",
        "schema": "it has no search_path",
        "application_name": "it has no pg_stat_activity",
        "tenant_audit": "it has no row-level security that a migration could leave out",
        "tenant_required": "it has no row-level security: set DB_SQLITE_TENANTS=unchecked to require them unchecked",
    },
    differs={
        "db.begin": "takes the one writer's place (`BEGIN IMMEDIATE`) with its first statement",
        "db.check": "settings, packages, the way in, the version, `db_once`; the rest is said not to apply",
        "db.copy_rows": "inserts, 10,000 rows to an `executemany`; the limit holds for each of these",
        "db.fetch": "one statement after another, in one transaction",
        "db.write": "one statement after another, in one transaction",
        "db.read(fresh=…)": "there is no reader: always fresh",
        "db.begin(isolation=…)": "each level is SERIALIZABLE, which keeps them all",
        "db.write(isolation=…)": "each level is SERIALIZABLE, which keeps them all",
        "db.engine": 'the pool is one connection for `sqlite://`; `db.engine("reader")` is the writer',
        "operations.grant": "nothing to do: whoever may open the file may do all",
        "operations.create_once_table": "the same table, without policies and grants",
    },
    is_server=False,
    has_grants=False,
    in_one_connection=in_memory,
    to_look_at=to_look_at,
    has_one_writer=True,
    compares_json_as_text=True,
    once=OnceSql(
        insert=(
            "INSERT INTO db_once (tenant_id, key, payload_hash, expires_at) VALUES (coalesce(:tenant, ''), :key,"
            " :payload_hash, strftime('%Y-%m-%d %H:%M:%f', 'now', '+' || :expires_in_s || ' seconds'))"
            " ON CONFLICT (tenant_id, key) DO NOTHING RETURNING key"
        ),
        select=(
            "SELECT payload_hash, result, CAST(strftime('%s', expires_at) AS INTEGER) AS ends_at"  # noqa: S608 - constants
            f" FROM db_once WHERE expires_at > {_NOW} AND {_MINE}"
        ),
        delete_expired=f"DELETE FROM db_once WHERE expires_at <= {_NOW} AND {_MINE}",  # noqa: S608 - constants
        set_result=f"UPDATE db_once SET result = :result WHERE {_MINE}",  # noqa: S608 - constants
        purge=(
            "DELETE FROM db_once WHERE rowid IN"  # noqa: S608 - constants
            f" (SELECT rowid FROM db_once WHERE expires_at <= {_NOW} LIMIT :limit)"
        ),
        tenant_default="''",
    ),
    check_constraints="SELECT * FROM pragma_foreign_key_check",
    # By itself Alembic takes SQLite's DDL for what cannot be undone, as it is with sqlite3's own BEGIN.
    alembic={"transactional_ddl": True, "render_as_batch": True},
)
