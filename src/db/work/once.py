"""Work that is done once for a key, whoever asks again: ``once``. What it stores is in ``once_records``.

The record is a row of the table ``db_once`` (``db.migrations.operations``), written in the transaction of the work
itself: they commit together or not at all. The row's unique key is the lock, too: a duplicate that comes meanwhile
waits at it until the first has committed, and then reads its result, or has rolled back, and then is the first. On
SQLite, which has one writer at a time, it waits at BEGIN already.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, NoReturn, ParamSpec, TypeVar

from sqlalchemy import exc

from db.environment.process import DEFAULT
from db.errors import (
    AlreadyDoneError,
    KeyReusedError,
    OutcomeUnknownError,
    Verdict,
)
from db.telemetry.log import log_retry
from db.timing.backoff import Backoff
from db.timing.waiting import sleep
from db.transactions.begin import begin_on
from db.transactions.blocks import NotABlockError, warn_of_unused
from db.transactions.callables import done, own_connection, require_function, said_by_tx
from db.transactions.run import retry_budget_s, run_on

from .as_json import as_json
from .once_records import Stored, checked_key, claim, hash_of, store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from types import TracebackType

    from sqlalchemy import Connection

    from db.environment.process import Holder
    from db.transactions.unit_of_work import Isolation


DAY_S = 86_400.0
_LONGEST_S = 3650 * DAY_S
_BACKOFF = Backoff()
P = ParamSpec("P")
T = TypeVar("T")


class Once:
    """What ``db.once`` gives: a block to enter, or ``run`` for a function. For one use after another, by one thread.

    ``result`` is what the record stores: to be set in the block, anything that ``json.dumps`` takes. ``replayed`` tells
    afterwards whether the work had been done before.
    """

    _is_awaited: ClassVar = False

    def __init__(
        self,
        holder: Holder,
        key: str,
        *,
        tenant: str | None,
        payload: Any,
        expires_in_s: float,
        isolation: Isolation | None,
        tx: Connection | None,
    ) -> None:
        self._holder = holder
        self._call = call = f"{holder.called}.once"
        if tx is not None and not (tenant is None and isolation is None):
            raise TypeError(said_by_tx(call, "tenant and isolation"))
        given: object = expires_in_s
        if not hasattr(given, "__float__"):
            hint = ": take its total_seconds()" if hasattr(given, "total_seconds") else ""
            raise TypeError(f"expires_in_s is a number of seconds, not a {type(given).__name__}{hint}")
        if not 0 < expires_in_s <= _LONGEST_S:
            raise ValueError(f"expires_in_s is {expires_in_s}, not more than 0 and at most {_LONGEST_S:.0f}")
        with holder.named():
            self.key: str = checked_key(key)
        self.named = f"the key {self.key!r}"  # in errors
        self.result: Any = None
        self.replayed: bool = False
        self._tenant = tenant
        self._payload_hash = None if payload is None else hash_of(payload, of=f"the payload of {call}")
        self._expires_in_s = expires_in_s
        self._isolation = isolation
        self._tx = own_connection(holder, tx, call=call) if tx is not None else None
        self._entered: AbstractContextManager[Connection] | None = None

    def __enter__(self) -> Connection:
        """A transaction that holds the key. Raises AlreadyDoneError where the work has been done."""
        self.__class__ = Once
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

    def run(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``fn(tx, *args, **kwargs)`` once; gives what it returned, then and ever after.

        The result goes through JSON for the first caller, too, so that all get the same. To a type checker it is what
        ``fn`` returns, which holds but for what JSON changes, such as a tuple to a list. Tried again like ``db.run``,
        and where COMMIT got no answer as well: the record tells whether it took place, so ``fn`` commits exactly once.
        In a transaction of the caller's (``tx``) it is tried once. Errors are those of ``db.run`` and of ``db.once``;
        OutcomeUnknownError only where the deadline leaves no time to find out.
        """
        self.__class__ = Once
        require_function(fn, call=self._call)
        if self._tx is not None:
            with self._tx.begin_nested():
                return self._attempt(self._tx, fn, args, kwargs)
        now = self._holder.current()
        ends_at = now.clock() + retry_budget_s(now)
        attempt = 1
        while True:
            try:
                given: T = run_on(
                    self._holder, self._attempt, fn, args, kwargs, tenant=self._tenant, isolation=self._isolation
                )
            except OutcomeUnknownError as error:
                left_s = ends_at - now.clock()
                # Here it may be tried again like any lost connection: what has committed is found, not done twice.
                delay_s = _BACKOFF.delay_s(Verdict.RECONNECT, attempt, left_s=left_s)
                # Who was interrupted (a cancelled task, an alarm) is not to find out.
                if delay_s is None or not isinstance(error.__cause__, exc.DBAPIError):
                    raise
                log_retry(error, attempt=attempt, delay_s=delay_s)
            else:
                return given
            sleep(delay_s)
            attempt += 1

    def _attempt(self, tx: Connection, fn: Callable[..., T], args: Any, kwargs: Any) -> T:
        stored = self._claim(tx)
        if stored is None:
            result = done(fn(tx, *args, **kwargs), fn, call=self._call)
            stored = Stored(self._payload_hash, self._encoded(result))
            store(tx, self.key, stored.result)
        given: T = _decoded(stored.result)
        self.result = given
        return given

    @contextmanager
    def _block(self) -> Iterator[Connection]:
        with self._transaction() as tx:
            stored = self._claim(tx)
            if stored is not None:
                self.result = _decoded(stored.result)
                raise AlreadyDoneError(self.key, self.result)
            self.result = None
            yield tx
            store(tx, self.key, self._encoded(self.result))

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        if self._tx is None:
            with begin_on(self._holder, tenant=self._tenant, isolation=self._isolation) as tx:
                yield tx
        else:
            # What fails takes its record along, even if the caller then commits the rest.
            with self._tx.begin_nested():
                yield self._tx

    def _claim(self, tx: Connection) -> Stored | None:
        stored = claim(tx, self.key, payload_hash=self._payload_hash, expires_in_s=self._expires_in_s)
        if stored is not None and stored.payload_hash != self._payload_hash:
            raise KeyReusedError(f"{self.named} has been used with another payload")
        self.replayed = stored is not None
        return stored

    def _encoded(self, result: Any) -> str | None:
        return None if result is None else as_json(result, called=f"the result of {self._call}")

    def _with(self) -> str:
        return f"with {self._call}(key) as tx, or {self._call}(key).run(fn)"

    def _later(self) -> str:
        return f"{self._holder.called}.aio.once"

    if not TYPE_CHECKING:  # to a type checker they are mistakes as they stand

        def __getattr__(self, name: str) -> NoReturn:
            raise NotABlockError(f"{self._call}() gives a block, which has no {name!r}: {self._with()}")

        def __await__(self) -> NoReturn:
            raise NotABlockError(
                f"{self._call}() gives a block, and nothing to await: {self._with()}, or take {self._later()}"
            )

        def __aenter__(self) -> NoReturn:
            raise NotABlockError(f"{self._call}() gives a plain block: {self._with()}, or take {self._later()}")

        def __aexit__(self, *_: object) -> NoReturn:
            self.__aenter__()


class _UnusedOnce(Once):
    """One that nobody has used yet. Only this has a ``__del__``: see ``transactions.blocks``."""

    def __del__(self) -> None:
        warn_of_unused(f"{self._call}()", self._with())


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

    Raises InvalidKeyError, and TypeError for a payload that JSON cannot hold, before anything is sent; KeyReusedError;
    AlreadyDoneError; and the errors of ``begin``, where OutcomeUnknownError is settled by asking again under the same
    key. Needs the table that ``create_once_table`` of ``db.migrations.operations`` makes.
    """
    return once_on(DEFAULT, key, tenant=tenant, payload=payload, expires_in_s=expires_in_s, isolation=isolation, tx=tx)


def once_on(
    holder: Holder,
    key: str,
    *,
    tenant: str | None = None,
    payload: Any = None,
    expires_in_s: float = DAY_S,
    isolation: Isolation | None = None,
    tx: Connection | None = None,
) -> Once:
    """``once``, on the database of ``holder``."""
    work = Once(holder, key, tenant=tenant, payload=payload, expires_in_s=expires_in_s, isolation=isolation, tx=tx)
    work.__class__ = _UnusedOnce  # not before it has been made: what is refused is said already
    return work


def _decoded(result: str | None) -> Any:
    return None if result is None else json.loads(result)
