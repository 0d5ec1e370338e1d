"""``batch``: the records of one SQS, Kinesis or DynamoDB-stream event in one transaction, a savepoint for each.

What fails is undone by itself and reported; the rest commits together. Which records may run after a failure follows
from the source: in a standard queue all, in a FIFO queue those of other message groups, in a stream none.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from sqlalchemy import exc

from db.environment import process
from db.errors import ConfigurationError, CredentialsError, DbError, DeadlineError, Verdict, sqlstate, verdict
from db.telemetry.log import logger
from db.timing.deadline import limits, usable_s
from db.timing.invocation import current_invocation
from db.transactions.sending import is_failed, ride
from db.transactions.tenant_scope import PROLOGUE_FUNCTION, TENANT_SETTING
from db.transactions.unit_of_work import run

from .event_records import is_stream, items_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
    from sqlalchemy import Connection

    from db.transactions.unit_of_work import Isolation

    from .event_records import Item

_SERIALIZATION_FAILURE = "40001"
_TOLD = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", TENANT_SETTING)
_SETS = (f"set_config('{name}', ${number}, true)" for number, name in enumerate(_TOLD, 1))
_TELL = f"SELECT {', '.join(_SETS)}".encode()
# Behind RDS Proxy, as in a transaction's prologue.
_TELL_THROUGH_FUNCTION = f"SELECT {PROLOGUE_FUNCTION}($1, $2, $3, NULL, $4, NULL, NULL, NULL)".encode()
_LOGGED_IDS = 10


class UnprocessedError(DbError):
    """Why a record went back untouched: one before it failed, and they have an order. Reported, never raised."""


def batch(
    event: Mapping[str, Any],
    record_handler: Callable[[Connection, Any], object],
    *,
    tenant: str | Callable[[Any], str | None] | None = None,
    model: Any = None,
    isolation: Isolation | None = None,
    skip_group_on_error: bool = True,
    raise_on_entire_batch_failure: bool = False,
) -> PartialItemFailureResponse:
    """Call ``record_handler(tx, record)`` for each record of ``event``, all in one transaction; gives what has failed.

    The answer is the partial batch response that Lambda takes with ReportBatchItemFailures, as Powertools' processors
    give it. ``record`` is Powertools' data class (SQSRecord, KinesisStreamRecord, DynamoDBRecord), or
    ``model.model_validate(record)`` of a parser model. ``tx`` is an ordinary ``sqlalchemy.Connection``, in a savepoint
    of the record's own: what raises is undone and reported, whatever the error, and its neighbours commit.

    ``tenant``, a name or a function of the record, holds for the record alone. ``isolation`` is as in ``db.begin``.

    - A FIFO queue's record that fails takes the rest of its message group along, untouched; the rest of the batch with
      ``skip_group_on_error=False``. A stream's record that fails ends the batch: Lambda goes on from it.
    - A record that comes twice runs once. Two that share an id and differ are both reported.
    - With the invocation's time used up, less DB_DEADLINE_RESERVE_S, the rest is reported and what was done commits.
    - A lost connection undoes all; all is run again where that is safe (``db.run``), else all is reported. So is all
      where COMMIT got no answer. Both mean that a record may run twice: ``db.once(key, tx=tx)`` makes that harmless.
    - A deferred constraint that fails at COMMIT has all run again, and each record checked by itself.

    With ``raise_on_entire_batch_failure`` an ExceptionGroup is raised where nothing was done. Raises ValueError for an
    event that is none of these, or a record without an id; reports all else.
    """
    items = list(items_of(event, tenant=tenant, model=model, skip_group_on_error=skip_group_on_error))
    failures = _failures(items, record_handler, isolation)
    failed = [item.id for item in items if item.id in failures]
    _log(items, failures)
    if raise_on_entire_batch_failure and failed and len(failed) == len(items):
        raise ExceptionGroup(f"all {len(items)} records of the batch failed", list(failures.values()))
    if is_stream(event):
        del failed[1:]  # Lambda goes on from the lowest sequence number
    return {"batchItemFailures": [{"itemIdentifier": identifier} for identifier in failed]}


def _failures(
    items: Sequence[Item], record_handler: Callable[[Connection, Any], object], isolation: Isolation | None
) -> dict[str, Exception]:
    """What failed, by id. All did, where the transaction did."""
    first = next((item for item in items if item.error is None), None)
    if first is None:
        return {item.id: item.error for item in items if item.error is not None}

    done = False

    def all_of_them(tx: Connection, *, probe_constraints: bool) -> dict[str, Exception]:
        nonlocal done
        done = False
        failures = _Attempt(tx, record_handler, first.tenant, probe_constraints=probe_constraints).run(items)
        done = True
        return failures

    try:
        try:
            return run(all_of_them, tenant=first.tenant, isolation=isolation, probe_constraints=False)
        except exc.DBAPIError as error:
            if not done or error.connection_invalidated or verdict(error).transient:
                raise
            # COMMIT was refused: somebody's deferred constraint.
            return run(all_of_them, tenant=first.tenant, isolation=isolation, probe_constraints=True)
    except Exception as error:  # noqa: BLE001 - nothing was committed, or nobody knows: either way all come again
        return dict.fromkeys((item.id for item in items), error)


class _Attempt:
    """The whole batch in one transaction, once."""

    def __init__(
        self,
        tx: Connection,
        record_handler: Callable[[Connection, Any], object],
        tenant: str | None,
        *,
        probe_constraints: bool,
    ) -> None:
        self._tx = tx
        self._handle = record_handler
        self._probe_constraints = probe_constraints
        self._told = _Told(tx, tenant)

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
        if error is not None and self._ended_by(error):
            raise _origin(error)
        return error

    def _caught(self, record: Any) -> Exception | None:
        try:
            with self._tx.begin_nested():
                self._handle(self._tx, record)
                self._check()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this record's
            return error
        return None

    def _check(self) -> None:
        """Raise where the record cannot stand, though its handler returned."""
        if is_failed(self._tx):
            # Here it undoes this record. Left to itself, it would refuse the next one's savepoint.
            raise exc.PendingRollbackError("the record handler caught the error of a statement and went on")
        if self._probe_constraints:
            with self._tx.begin_nested() as probe:
                self._tx.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")
                probe.rollback()  # what was deferred is so again

    def _ended_by(self, error: Exception) -> bool:
        if self._tx.invalidated or not self._tx.in_transaction():
            return True
        return sqlstate(error) == _SERIALIZATION_FAILURE or verdict(error) is Verdict.DISCARD_POOL


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

    def __init__(self, tx: Connection, tenant: str | None) -> None:
        now = process.current()
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
        if self._tx.dialect.name != "postgresql" or (tenant == self._tenant and not too_long):
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
        text = _TELL_THROUGH_FUNCTION if settings.proxy == "rds-proxy" else _TELL
        ride(self._tx, (text, [value.encode() for value in (*times, self._tenant or "")]))


def _log(items: Sequence[Item], failures: Mapping[str, Exception]) -> None:
    """A line for the batch."""
    # These name what is to be mended, and no value of a record.
    to_mend = {str(e) for e in failures.values() if isinstance(e, ConfigurationError | CredentialsError)}
    line = {
        "batch_records": len(items),
        "batch_failed": len(failures),
        "reasons": dict(Counter(_named(error) for error in failures.values())),
        "first_failed": list(failures)[:_LOGGED_IDS],
        "to_mend": sorted(to_mend) or None,
        "request_id": current_invocation().request_id,
    }
    (logger.warning if failures else logger.info)(
        "batch", extra={key: value for key, value in line.items() if value is not None}
    )


def _named(error: Exception) -> str:
    """An error by type and SQLSTATE: its message may repeat values of the record."""
    code = sqlstate(error)
    return f"{type(error).__name__} {code}" if code else type(error).__name__
