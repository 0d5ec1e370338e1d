"""The table of ``db.once``, seen from a transaction: claim a key, find what is stored under it, store a result, purge.

Its rows are made by ``create_once_table`` of ``db.migrations.operations``.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import exc, text

from db.environment.process import DEFAULT
from db.errors import DOCUMENTATION, ConfigurationError, DbError, DeadlineError, InvalidKeyError, sqlstate
from db.settings.engines.kinds import kind_of, refusal_of
from db.telemetry.statement_events import OWN_STATEMENT
from db.transactions.driver import flight_of, ride, tenant_of
from db.transactions.run import run_on
from db.transactions.tenant_scope import NO_TENANT

from .as_json import as_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, CursorResult

    from db.environment.process import Holder
    from db.settings.engines.kinds import OnceSql


_NO_TABLE = (
    "a migration makes the table, and grants it to a role, by create_once_table(op, used_by=[role]) of "
    f"db.migrations.operations ({DOCUMENTATION}use/once/)"
)
KEY_MAX_CHARS = 255
_NO_GROUND = {"42P01", "42501", "42703"}  # undefined_table, insufficient_privilege, undefined_column
_PURGED_AT_ONCE = 10_000
# An expired record is deleted, and whoever else does so may be faster; more than that does not happen.
_CLAIMS = 4


class Stored(NamedTuple):
    """What a key's record holds: the hash of its payload, its result as JSON, and its end in epoch seconds."""

    payload_hash: str | None
    result: str | None
    expires_at: int | None = None


def purge_once(*, limit: int = _PURGED_AT_ONCE) -> int:
    """Delete the expired records that this login may see, ``limit`` to a transaction; gives how many.

    Nothing depends on it but the size of the table, so it ends quietly with the invocation's time. For a schedule, as
    the role that ``create_once_table`` calls ``purged_by``, which sees the expired records of all tenants: it is for no
    tenant, whatever is bound or required. A ``limit`` of 0 deletes nothing; raises ValueError for one below.
    """
    return purge_once_on(DEFAULT, limit=limit)


def purge_once_on(holder: Holder, *, limit: int = _PURGED_AT_ONCE) -> int:
    """``purge_once``, on the database of ``holder``."""
    if limit <= 0:
        if limit < 0:
            raise ValueError(f"limit is {limit}: there is no such number of records")
        return 0
    limit = min(limit, holder.current().settings.engine_kind.most_rows or limit)
    purged = 0
    while True:
        try:
            deleted = run_on(holder, _purge, limit, tenant=NO_TENANT)
        except DeadlineError:
            return purged
        purged += deleted
        if deleted < limit:
            return purged


def _purge(tx: Connection, limit: int) -> int:
    with _table_named():
        return _run(tx, _sql(tx).purge, {"limit": limit}).rowcount


def _sql(tx: Connection) -> OnceSql:
    """The statements, as the engine of ``tx`` takes them."""
    kind = kind_of(tx.dialect)
    if kind is None:
        raise ConfigurationError([f"db.once {refusal_of(tx.dialect.name)}"])
    return kind.once


@functools.cache
def _text(statement: str) -> tuple[Any, bool]:
    """``statement`` for SQLAlchemy, and whether it names the tenant itself."""
    made = text(statement).execution_options(**{OWN_STATEMENT: True})
    return made, "tenant" in made._bindparams  # noqa: SLF001 - it has no public name


def _run(tx: Connection, statement: str, values: dict[str, Any]) -> CursorResult[Any]:
    made, names_tenant = _text(statement)
    return tx.execute(made, values | {"tenant": tenant_of(tx)} if names_tenant else values)


@contextmanager
def _table_named() -> Iterator[None]:
    """Name the migration that is missing, where the server has only the table's name to say."""
    try:
        yield
    except exc.DBAPIError as error:
        if sqlstate(error) in _NO_GROUND and "db_once" in str(error.orig):
            raise ConfigurationError([f"{str(error.orig).partition(chr(10))[0]}: {_NO_TABLE}"]) from error
        raise


def claim(tx: Connection, key: str, *, payload_hash: str | None, expires_in_s: float) -> Stored | None:
    """None where the key is ours now, by a record that nobody else sees before ``tx`` commits; else what it holds."""
    with _table_named():
        return _claim(tx, key, payload_hash=payload_hash, expires_in_s=expires_in_s)


def _claim(tx: Connection, key: str, *, payload_hash: str | None, expires_in_s: float) -> Stored | None:
    row = {"key": key, "payload_hash": payload_hash, "expires_in_s": float(expires_in_s)}
    sql = _sql(tx)
    for _ in range(_CLAIMS):
        made = _run(tx, sql.insert, row)
        if made.one_or_none() is not None if made.returns_rows else made.rowcount > 0:
            return None
        stored = find(tx, key)
        if stored is not None:
            return stored
        _run(tx, sql.delete_expired, {"key": key})
    raise DbError(
        f"the record of the key {key!r} is neither seen nor can be made: look at db_once for triggers and policies"
    )


def find(tx: Connection, key: str) -> Stored | None:
    """What is stored under ``key``, if it has not expired."""
    row = _run(tx, _sql(tx).select, {"key": key}).one_or_none()
    return None if row is None else Stored(row.payload_hash, row.result, row.ends_at)


def store(tx: Connection, key: str, result: str | None) -> None:
    """Write the result, as JSON, into the record that ``tx`` has made, on the way to COMMIT. None is there already."""
    if result is None:
        return
    flight, sql = flight_of(tx), _sql(tx)
    if sql.riding is not None and (flight is None or not flight.must_open()):
        ride(tx, (sql.riding.encode(), [key.encode(), result.encode()]))
    elif _run(tx, sql.set_result, {"key": key, "result": result}).rowcount == 0:
        # The work ended the transaction of its claim through the driver; a rollback took the record along.
        raise DbError(f"the record of the key {key!r} is gone: what was to be done once ended its transaction")


def checked_key(key: str) -> str:
    """``key`` if it can stand in an index and be sent. Raises InvalidKeyError."""
    if not isinstance(key, str):
        raise InvalidKeyError(f"a key is a string, not {type(key).__name__}")
    if not key.strip() or "\x00" in key or len(key) > KEY_MAX_CHARS:
        raise InvalidKeyError(
            f"a key is 1 to {KEY_MAX_CHARS} characters, not all of them blank, none of them NUL; this one "
            f"has {len(key)}"
        )
    if any("\ud800" <= char <= "\udfff" for char in key):
        raise InvalidKeyError("a key holds no lone surrogates: they cannot be sent as UTF-8")
    return key


def hash_of(value: Any, *, of: str) -> str:
    """The SHA-256 of ``value`` as JSON, whatever the order of its keys; ``of`` is what it is, for a TypeError."""
    import hashlib  # loads OpenSSL, where nothing else has

    written = as_json(value, called=of, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(written.encode()).hexdigest()
