"""One attempt at a whole batch: each record in a savepoint of its own, told its tenant and its limits before it.

Raises what ends the transaction, and with it the attempt; whatever else a record raises is the record's own failure.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from sqlalchemy import exc

from db.errors import ConfigurationError, DbError, DeadlineError, Verdict, sqlstate, verdict
from db.timing.deadline import limits, usable_s
from db.timing.invocation import current_invocation
from db.transactions.callables import WrongKindError, done
from db.transactions.driver import begun_by, is_failed, require_constraints, tell, tell_tenant
from db.transactions.prologue_sql import TENANT_SETTING
from db.wire.search_path import (
    CONSTRAINTS_FUNCTION,
    NO_FUNCTION,
    PROLOGUE_FUNCTION,
    no_constraints_function,
    qualified,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection

    from db.environment.process import Holder
    from db.settings import Settings

    from .event_records import Item


_SERIALIZATION_FAILURE = "40001"
_TOLD = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", TENANT_SETTING)
_SETS = (f"set_config('{name}', ${number}, true)" for number, name in enumerate(_TOLD, 1))
_TELL = f"SELECT {', '.join(_SETS)}".encode()


class UnprocessedError(DbError):
    """Why a record went back untouched: one before it failed, and they have an order. Reported, never raised."""

    def __init__(self) -> None:
        super().__init__("not run: one that it must not overtake failed")


class Attempt:
    """The whole batch in one transaction, once."""

    def __init__(
        self,
        holder: Holder,
        tx: Connection,
        record_handler: Callable[[Connection, Any], object],
        tenant: str | None,
        *,
        probe_constraints: bool,
        culprits: set[str] | None,
    ) -> None:
        """``culprits`` are the records that ended an attempt before: what they raise is their own now.

        None where there will be no other attempt: then that holds for all of them.
        """
        self._call = f"{holder.called}.batch"
        self._settings = holder.current().settings
        self._tx = tx
        self._handle = record_handler
        self._probe_constraints = probe_constraints
        self._culprits = culprits
        self._failed_here = False
        self._told = _Told(holder, tx, tenant)
        self._begun = max(begun_by(tx), 1)  # the first statement begins it

    def run(self, items: Sequence[Item]) -> dict[str, Exception]:
        failures: dict[str, Exception] = {}
        halted: set[str] = set()
        for number, item in enumerate(items):
            try:
                error = UnprocessedError() if item.order in halted else item.error or self._failure_of(item)
            except DeadlineError as late:
                return failures | dict.fromkeys((left.id for left in items[number:]), late)
            if error is not None:
                failures[item.id] = error
                if item.order is not None:
                    halted.add(item.order)
        return failures

    def _failure_of(self, item: Item) -> Exception | None:
        """Run one record. Raises what ends the transaction, and with it the attempt."""
        self._told.tell(item.tenant)
        error = self._caught(item.record)
        if error is None:
            return None
        if self._is_over():
            raise _origin(error)
        if self._may_be_of_the_transaction(error) and self._culprits is not None and item.id not in self._culprits:
            self._culprits.add(item.id)
            raise _origin(error)
        return error

    def _caught(self, record: Any) -> Exception | None:
        is_done = False
        try:
            with self._tx.begin_nested():
                self._failed_here = False
                try:
                    done(self._handle(self._tx, record), self._handle, call=self._call)
                except Exception:
                    # A connection that an exception of the handler's own has closed cannot be asked.
                    self._failed_here = not self._tx.invalidated and is_failed(self._tx)
                    raise
                self._check()
                is_done = True
        except WrongKindError:
            raise
        except Exception as error:
            if is_done:
                raise  # it came amid the savepoint's end, so that what the record did is not undone
            return error
        return None

    def _check(self) -> None:
        """Raise where the record cannot stand, though its handler returned."""
        if self._has_lost_the_transaction():
            raise exc.InvalidRequestError("the record handler ended the transaction of the batch")
        if is_failed(self._tx):
            # Here it undoes this record. Left to itself, it would refuse the next one's savepoint.
            raise exc.PendingRollbackError("the record handler caught the error of a statement and went on")
        if self._probe_constraints:
            with self._tx.begin_nested() as probe:
                _check_constraints(self._tx, self._settings)
                probe.rollback()  # what was deferred is so again

    def _is_over(self) -> bool:
        """Whether there is no transaction any more in which the next record could run."""
        return self._tx.invalidated or not self._tx.in_transaction() or self._has_lost_the_transaction()

    def _may_be_of_the_transaction(self, error: Exception) -> bool:
        """Whether ``error`` may be about the whole transaction, which a new one would mend.

        It has to come from this transaction: a handler has others, and a database of its own beside. And a trigger may
        raise the same at each attempt, so that twice is the record's own doing.
        """
        return self._failed_here and (
            sqlstate(error) == _SERIALIZATION_FAILURE or verdict(error) is Verdict.DISCARD_POOL
        )

    def _has_lost_the_transaction(self) -> bool:
        """Whether the records before this one were in another transaction: a handler ended that through the driver."""
        return begun_by(self._tx) > self._begun


def _check_constraints(tx: Connection, settings: Settings) -> None:
    """Raise what COMMIT would raise; behind RDS Proxy, ConfigurationError where the function for that is missing."""
    if settings.proxy != "rds-proxy":
        require_constraints(tx, settings.engine_kind)
        return
    try:
        tx.exec_driver_sql(f"SELECT {qualified(CONSTRAINTS_FUNCTION, settings.schema)}()")
    except exc.DBAPIError as error:
        # In the first line, for it stands in the context of what a constraint raises, too.
        if sqlstate(error) in NO_FUNCTION and CONSTRAINTS_FUNCTION in str(error.orig).partition("\n")[0]:
            raise ConfigurationError([no_constraints_function(settings.schema)]) from error
        raise


def _origin(error: Exception) -> Exception:
    """The lost connection behind an error that a handler made of it, for it says what may be tried again."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, exc.DBAPIError) and seen.connection_invalidated:
            return seen
        seen = seen.__cause__ or seen.__context__
    return error


class _Told:
    """What the server knows of tenant and time limits, and what it has to be told before a record.

    It is told outside of the record's savepoint, so that it still holds when that is rolled back.
    """

    def __init__(self, holder: Holder, tx: Connection, tenant: str | None) -> None:
        now = holder.current()
        self._tx = tx
        self._settings = now.settings
        self._clock = now.clock
        self._deadline = current_invocation().deadline
        # By the transaction's prologue.
        self._tenant = tenant
        self._statement_s = min(self._settings.statement_timeout_s, self._left_s())
        self._begun = False

    def tell(self, tenant: str | None) -> None:
        """Say what has changed. Raises DeadlineError where no time is left for a record."""
        left_s = self._left_s()
        # A statement must not outlast the invocation: that would undo its neighbours, too.
        too_long = left_s < self._statement_s and self._begun
        self._begun = True
        if tenant == self._tenant and not too_long:
            return
        if not self._settings.engine_kind.is_told_in_sql:
            tell_tenant(self._tx, tenant)
            self._tenant = tenant
            return
        if too_long:
            self._statement_s = left_s / 2  # not all of it: so it holds for some records more
        self._tenant = tenant
        self._send(left_s)

    def _left_s(self) -> float:
        reserve_s = self._settings.deadline_reserve_s
        return usable_s(self._deadline, now=self._clock(), reserve_s=reserve_s, at_most_s=math.inf)

    def _send(self, left_s: float) -> None:
        settings = self._settings
        told = limits(
            self._deadline,
            now=self._clock(),
            reserve_s=settings.deadline_reserve_s,
            statement_s=self._statement_s,
            lock_s=settings.lock_timeout_s,
            bounds_transaction=False,  # what the transaction was given at its beginning stands
        )
        # A handler may pause for as long as the transaction lasts: cut off in between, it would take all along.
        pause_s = min(left_s + settings.deadline_reserve_s / 2, settings.statement_timeout_s)
        times = (f"{max(int(seconds * 1000), 1)}ms" for seconds in (told.statement_s, told.lock_s, pause_s))
        text = _TELL
        if settings.proxy == "rds-proxy":  # as in a transaction's prologue
            function = qualified(PROLOGUE_FUNCTION, settings.schema)
            text = f"SELECT {function}($1, $2, $3, NULL, $4, NULL, NULL, NULL)".encode()
        tell(self._tx, self._tenant, (text, [value.encode() for value in (*times, self._tenant or "")]))
