"""Work that is done once for a key, whoever asks again: ``once``, and ``purge_once`` for the records that it leaves.

The record is a row of the table ``db_once`` (``db.migrations.operations``), written in the transaction of the work
itself: they commit together or not at all. The row's unique key is the lock, too: a duplicate that comes meanwhile
waits at it until the first has committed, and then reads its result, or has rolled back, and then is the first.
PostgreSQL only.
"""

from __future__ import annotations

import asyncio  # SQLAlchemy has loaded it
import json
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from sqlalchemy import text

from db.environment import process
from db.errors import (
    AlreadyDoneError,
    DbError,
    DeadlineError,
    InvalidKeyError,
    KeyReusedError,
    OutcomeUnknownError,
    Verdict,
)
from db.telemetry.log import log_retry
from db.telemetry.statement_events import OWN_STATEMENT
from db.timing.backoff import Backoff
from db.timing.deadline import usable_s
from db.timing.invocation import current_invocation
from db.timing.waiting import sleep
from db.transactions.sending import ride
from db.transactions.unit_of_work import begin, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from types import TracebackType

    from sqlalchemy import Connection

    from db.transactions.unit_of_work import Isolation

KEY_MAX_CHARS = 255
DAY_S = 86_400.0
_LONGEST_S = 3650 * DAY_S
_PURGED_AT_ONCE = 10_000
# A lost COMMIT is looked into for as long as most failovers take, where no deadline says otherwise.
_NO_DEADLINE_S = 30.0
# An expired record is deleted, and whoever else does so may be faster; more than that does not happen.
_CLAIMS = 4
_BACKOFF = Backoff()

# Row-level security says the same; a role that bypasses it must not meet another tenant's key either.
_MINE = "tenant_id = coalesce(current_setting('app.tenant_id', true), '') AND key = :key"


def _own(statement: str) -> Any:
    return text(statement).execution_options(**{OWN_STATEMENT: True})


_INSERT = _own(
    "INSERT INTO db_once (key, payload_hash, expires_at)"
    " VALUES (:key, :payload_hash, now() + make_interval(secs => :expires_in_s))"
    " ON CONFLICT (tenant_id, key) DO NOTHING RETURNING key"
)
_SELECT = _own("SELECT payload_hash, result FROM db_once WHERE expires_at > now() AND " + _MINE)  # noqa: S608 - two constants
_DELETE_EXPIRED = _own("DELETE FROM db_once WHERE expires_at <= now() AND " + _MINE)  # noqa: S608 - two constants
_SET_RESULT = f"UPDATE db_once SET result = $2 WHERE {_MINE}".replace(":key", "$1").encode()  # noqa: S608 - constants
_PURGE = _own(
    "DELETE FROM db_once"
    " WHERE ctid = ANY (ARRAY(SELECT ctid FROM db_once WHERE expires_at <= now() LIMIT :limit)) AND expires_at <= now()"
)

T = TypeVar("T")


class Stored(NamedTuple):
    """What a key's record holds: the hash of its payload, and its result as JSON; None for none."""

    payload_hash: str | None
    result: str | None


class Once:
    """What ``db.once`` gives: a block to enter, or ``run`` for a function. For one use after another, by one thread.

    ``result`` is what the record stores: to be set in the block, anything that ``json.dumps`` takes. ``replayed`` tells
    afterwards whether the work had been done before.
    """

    def __init__(
        self,
        key: str,
        *,
        tenant: str | None,
        payload: Any,
        expires_in_s: float,
        isolation: Isolation | None,
        tx: Connection | None,
    ) -> None:
        if tx is not None and not (tenant is None and isolation is None):
            raise TypeError("tenant and isolation are those of tx")
        if not 0 < expires_in_s <= _LONGEST_S:
            raise ValueError(f"expires_in_s is {expires_in_s}, not more than 0 and at most {_LONGEST_S:.0f}")
        self.key = checked_key(key)
        self.result: Any = None
        self.replayed = False
        self._tenant = tenant
        self._payload_hash = None if payload is None else hash_of(payload)
        self._expires_in_s = expires_in_s
        self._isolation = isolation
        self._tx = tx
        self._entered: AbstractContextManager[Connection] | None = None

    def __enter__(self) -> Connection:
        """A transaction that holds the key. Raises AlreadyDoneError where the work has been done."""
        entered = self._block()
        conn = entered.__enter__()
        self._entered = entered
        return conn

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Store the result and commit; roll back what raises, the record included."""
        entered, self._entered = self._entered, None
        assert entered is not None  # noqa: S101 - `with` enters first
        return entered.__exit__(kind, error, traceback)

    def run(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """``fn(tx, *args, **kwargs)`` once; gives what it returned, then and ever after.

        The result goes through JSON for the first caller, too, so that all get the same. Tried again like ``db.run``,
        and where COMMIT got no answer as well: the record tells whether it took place, so ``fn`` commits exactly once.
        In a transaction of the caller's (``tx``) it is tried once. Errors are those of ``db.run`` and of ``db.once``;
        OutcomeUnknownError only where the deadline leaves no time to find out.
        """
        if self._tx is not None:
            with self._tx.begin_nested():
                return self._attempt(self._tx, fn, args, kwargs)
        ends_at = process.current().clock() + _budget_s()
        attempt = 1
        while True:
            try:
                return run(self._attempt, fn, args, kwargs, tenant=self._tenant, isolation=self._isolation)
            except OutcomeUnknownError as error:
                left_s = ends_at - process.current().clock()
                # Here it may be tried again like any lost connection: what has committed is found, not done twice.
                delay_s = _BACKOFF.delay_s(Verdict.RECONNECT, attempt, left_s=left_s)
                # A task that was cancelled meanwhile is not to find out.
                if delay_s is None or isinstance(error.__cause__, asyncio.CancelledError):
                    raise
                log_retry(error, attempt=attempt, delay_s=delay_s)
            sleep(delay_s)
            attempt += 1

    def _attempt(self, tx: Connection, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        stored = self._claim(tx)
        if stored is None:
            stored = Stored(self._payload_hash, _encoded(fn(tx, *args, **kwargs)))
            store(tx, self.key, stored.result)
        self.result = _decoded(stored.result)
        return self.result

    @contextmanager
    def _block(self) -> Iterator[Connection]:
        with self._transaction() as tx:
            stored = self._claim(tx)
            if stored is not None:
                self.result = _decoded(stored.result)
                raise AlreadyDoneError(self.key, self.result)
            self.result = None
            yield tx
            store(tx, self.key, _encoded(self.result))

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        if self._tx is None:
            with begin(tenant=self._tenant, isolation=self._isolation) as tx:
                yield tx
        else:
            # What fails takes its record along, even if the caller then commits the rest.
            with self._tx.begin_nested():
                yield self._tx

    def _claim(self, tx: Connection) -> Stored | None:
        stored = claim(tx, self.key, payload_hash=self._payload_hash, expires_in_s=self._expires_in_s)
        if stored is not None and stored.payload_hash != self._payload_hash:
            raise KeyReusedError(f"the key {self.key!r} has been used with another payload")
        self.replayed = stored is not None
        return stored


def once(
    key: str,
    *,
    tenant: str | None = None,
    payload: Any = None,
    expires_in_s: float = DAY_S,
    isolation: Isolation | None = None,
    tx: Connection | None = None,
) -> Once:
    """Work that takes place at most once per key and tenant, in one transaction with the record of it.

    As a function, which is tried again until it is certain: ``db.once(key).run(fn, *args)`` gives what
    ``fn(tx, *args)`` returned, the first time and every other. As a block::

        with db.once(key) as tx:      # an ordinary sqlalchemy.Connection, as from db.begin
            tx.execute(...)

    A block cannot be skipped, so for a duplicate, concurrent or later, ``with`` raises AlreadyDoneError instead of
    entering it; ``contextlib.suppress(db.AlreadyDoneError)`` around it makes that a skip. A duplicate that comes while
    the first is at work waits for it, no longer than for any lock (DB_LOCK_TIMEOUT_S).

    ``key`` has 1 to 255 characters. ``payload``, anything that ``json.dumps`` takes, is what the key stands for: only
    its hash is kept, and the same key with another payload raises KeyReusedError. The record expires after
    ``expires_in_s`` seconds, a day unless told otherwise; then the key is new again. ``tx`` takes part in a transaction
    of the caller's, in a savepoint of its own, and commits with that. ``tenant`` and ``isolation`` are as in ``begin``.

    Raises InvalidKeyError before anything is sent; KeyReusedError; AlreadyDoneError; and the errors of ``begin``, where
    OutcomeUnknownError is settled by asking again under the same key. Needs the table that ``create_once_table`` of
    ``db.migrations.operations`` makes.
    """
    return Once(key, tenant=tenant, payload=payload, expires_in_s=expires_in_s, isolation=isolation, tx=tx)


def purge_once(*, limit: int = _PURGED_AT_ONCE) -> int:
    """Delete the expired records that this login may see, ``limit`` to a transaction; gives how many.

    Nothing depends on it but the size of the table, so it ends quietly with the invocation's time. For a schedule, as
    the role that ``create_once_table`` calls ``purged_by``, which sees the expired records of all tenants.
    """
    purged = 0
    while True:
        try:
            deleted = run(_purge, limit)
        except DeadlineError:
            return purged
        purged += deleted
        if deleted < limit:
            return purged


def _purge(tx: Connection, limit: int) -> int:
    return tx.execute(_PURGE, {"limit": limit}).rowcount


def claim(tx: Connection, key: str, *, payload_hash: str | None, expires_in_s: float) -> Stored | None:
    """None where the key is ours now, by a record that nobody else sees before ``tx`` commits; else what it holds."""
    row = {"key": key, "payload_hash": payload_hash, "expires_in_s": float(expires_in_s)}
    for _ in range(_CLAIMS):
        if tx.execute(_INSERT, row).one_or_none() is not None:
            return None
        stored = find(tx, key)
        if stored is not None:
            return stored
        tx.execute(_DELETE_EXPIRED, {"key": key})
    raise DbError(
        f"the record of the key {key!r} is neither seen nor can be made: look at db_once for triggers and policies"
    )


def find(tx: Connection, key: str) -> Stored | None:
    """What is stored under ``key``, if it has not expired."""
    row = tx.execute(_SELECT, {"key": key}).one_or_none()
    return None if row is None else Stored(row.payload_hash, row.result)


def store(tx: Connection, key: str, result: str | None) -> None:
    """Write the result, as JSON, into the record that ``tx`` has made, on the way to COMMIT. None is there already."""
    if result is not None:
        ride(tx, (_SET_RESULT, [key.encode(), result.encode()]))


def checked_key(key: str) -> str:
    """``key`` if it can stand in an index and be sent. Raises InvalidKeyError."""
    if not isinstance(key, str):
        raise InvalidKeyError(f"a key is a string, not {type(key).__name__}")
    if not key.strip() or "\x00" in key or len(key) > KEY_MAX_CHARS:
        raise InvalidKeyError(f"a key is 1 to {KEY_MAX_CHARS} characters, not all of them blank, none of them NUL")
    if any("\ud800" <= char <= "\udfff" for char in key):
        raise InvalidKeyError("a key holds no lone surrogates: they cannot be sent as UTF-8")
    return key


def hash_of(value: Any) -> str:
    """The SHA-256 of ``value`` as JSON, whatever the order of its keys. Raises TypeError for what JSON cannot hold."""
    import hashlib  # loads OpenSSL, where nothing else has

    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _encoded(result: Any) -> str | None:
    return None if result is None else json.dumps(result)


def _decoded(result: str | None) -> Any:
    return None if result is None else json.loads(result)


def _budget_s() -> float:
    now, deadline = process.current(), current_invocation().deadline
    reserve_s, at_most_s = now.settings.deadline_reserve_s, _NO_DEADLINE_S if deadline is None else math.inf
    return usable_s(deadline, now=now.clock(), reserve_s=reserve_s, at_most_s=at_most_s)
