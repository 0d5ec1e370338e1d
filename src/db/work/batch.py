"""``batch``: the records of one SQS, Kinesis or DynamoDB-stream event in one transaction, a savepoint for each.

What fails is undone by itself and reported; the rest commits together. Which records may run after a failure follows
from the source: in a standard queue all, in a FIFO queue those of other message groups, in a stream none.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from sqlalchemy import exc

from db.environment.process import DEFAULT
from db.errors import ConfigurationError, CredentialsError, claim, verdict
from db.telemetry.failures import in_words
from db.telemetry.log import logger
from db.telemetry.statement_events import named
from db.timing.invocation import current_invocation
from db.transactions.callables import WrongKindError, require_plain
from db.transactions.run import ATTEMPTS, run_on

from .batch_attempt import Attempt
from .event_records import is_stream, items_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
    from aws_lambda_powertools.utilities.data_classes.dynamo_db_stream_event import DynamoDBRecord
    from aws_lambda_powertools.utilities.data_classes.kinesis_stream_event import KinesisStreamRecord
    from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
    from sqlalchemy import Connection

    from db.environment.process import Holder
    from db.transactions.unit_of_work import Isolation

    from .event_records import Item


_LOGGED_IDS = 10
_LOGGED_ERRORS = 5


class Model(Protocol):
    """A parser model's class, as pydantic makes them."""

    @classmethod
    def model_validate(cls, obj: Any, /) -> Self: ...


# What a record is: by its source, or as the model has it.
RecordT = TypeVar("RecordT", "SQSRecord", "KinesisStreamRecord", "DynamoDBRecord")
ModelT = TypeVar("ModelT", bound=Model)


@overload
def batch(
    event: Mapping[str, Any],
    record_handler: Callable[[Connection, RecordT], object],
    *,
    tenant: str | Callable[[RecordT], str | None] | None = None,
    model: None = None,
    isolation: Isolation | None = None,
    skip_group_on_error: bool = True,
    raise_on_entire_batch_failure: bool = False,
) -> PartialItemFailureResponse: ...
@overload
def batch(
    event: Mapping[str, Any],
    record_handler: Callable[[Connection, ModelT], object],
    *,
    tenant: str | Callable[[ModelT], str | None] | None = None,
    model: type[ModelT],
    isolation: Isolation | None = None,
    skip_group_on_error: bool = True,
    raise_on_entire_batch_failure: bool = False,
) -> PartialItemFailureResponse: ...
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
    - A serialization failure has all run again; the record that meets it a second time fails alone. What comes from
      another transaction or database is the record's own at once.
    - A deferred constraint that fails at COMMIT has all run again, and each record checked by itself.

    Aurora DSQL has no savepoints: there each record is a transaction of its own (``db.run``), and each is refused,
    undone and tried again by itself.

    With ``raise_on_entire_batch_failure`` an ExceptionGroup is raised where nothing was done. Raises ValueError for an
    event that is none of these, or a record without an id; reports all else.
    """
    return batch_on(
        DEFAULT,
        event,
        record_handler,
        tenant=tenant,
        model=model,
        isolation=isolation,
        skip_group_on_error=skip_group_on_error,
        raise_on_entire_batch_failure=raise_on_entire_batch_failure,
    )


def batch_on(
    holder: Holder,
    event: Mapping[str, Any],
    record_handler: Callable[[Connection, Any], object],
    *,
    tenant: str | Callable[[Any], str | None] | None = None,
    model: Any = None,
    isolation: Isolation | None = None,
    skip_group_on_error: bool = True,
    raise_on_entire_batch_failure: bool = False,
) -> PartialItemFailureResponse:
    """``batch``, on the database of ``holder``."""
    require_plain(record_handler, call=f"{holder.called}.batch")
    items = list(items_of(holder, event, tenant=tenant, model=model, skip_group_on_error=skip_group_on_error))
    with holder.named():
        _require_engine(holder, items)
    if _has_savepoints(holder):
        failures = _failures(holder, items, record_handler, isolation)
    else:
        from .batch_one_by_one import failures_of

        failures = failures_of(holder, items, record_handler, isolation)
    for failure in failures.values():
        claim(failure, database=holder.database, prefix=holder.prefix)
    failed = [item.id for item in items if item.id in failures]
    _log(holder, items, failures)
    if raise_on_entire_batch_failure and failed and len(failed) == len(items):
        raise ExceptionGroup(f"all {len(items)} records of the batch failed", list(failures.values()))
    if is_stream(event):
        del failed[1:]  # Lambda goes on from the lowest sequence number
    return {"batchItemFailures": [{"itemIdentifier": identifier} for identifier in failed]}


def _require_engine(holder: Holder, items: Sequence[Item]) -> None:
    """Raise ConfigurationError where the engine serves no such batch: reported, all would come again and again."""
    try:
        settings = holder.current().settings
    except ConfigurationError:
        return  # there is no engine yet: that is reported, and all come again when it is mended
    if settings.engine_kind.lacks:
        from db.transactions.refusals import require_call

        require_call(settings, tenant=next((item.tenant for item in items if item.tenant is not None), None))


def _has_savepoints(holder: Holder) -> bool:
    try:
        return "savepoints" not in holder.current().settings.engine_kind.lacks
    except ConfigurationError:
        return True  # there is no engine yet: that is reported


def _failures(
    holder: Holder,
    items: Sequence[Item],
    record_handler: Callable[[Connection, Any], object],
    isolation: Isolation | None,
) -> dict[str, Exception]:
    """What failed, by id. All did, where the transaction did."""
    first = next((item for item in items if item.error is None), None)
    if first is None:
        return {item.id: item.error for item in items if item.error is not None}

    done = False
    attempts = 0
    culprits: set[str] = set()

    def all_of_them(tx: Connection, *, probe_constraints: bool) -> dict[str, Exception]:
        nonlocal done, attempts
        done = False
        attempts += 1
        attempt = Attempt(
            holder,
            tx,
            record_handler,
            first.tenant,
            probe_constraints=probe_constraints,
            culprits=culprits if attempts < ATTEMPTS else None,
        )
        failures = attempt.run(items)
        done = True
        return failures

    try:
        try:
            return run_on(holder, all_of_them, tenant=first.tenant, isolation=isolation, probe_constraints=False)
        except exc.DBAPIError as error:
            if not done or error.connection_invalidated or verdict(error).transient:
                raise
            # COMMIT was refused: somebody's deferred constraint.
            return run_on(holder, all_of_them, tenant=first.tenant, isolation=isolation, probe_constraints=True)
    except WrongKindError:
        raise
    except Exception as error:  # noqa: BLE001 - nothing was committed, or nobody knows: either way all come again
        return dict.fromkeys((item.id for item in items), error)


def _log(holder: Holder, items: Sequence[Item], failures: Mapping[str, Exception]) -> None:
    """A line for the batch."""
    # These name what is to be mended, and no value of a record.
    to_mend = {str(e) for e in failures.values() if isinstance(e, ConfigurationError | CredentialsError)}
    line = {
        "database": holder.database,
        "batch_records": len(items),
        "batch_failed": len(failures),
        "reasons": dict(Counter(named(error) for error in failures.values())),
        "first_failed": list(failures)[:_LOGGED_IDS],
        # One of each, as a lost database fails all records alike.
        "errors": list(dict.fromkeys(map(in_words, failures.values())))[:_LOGGED_ERRORS] or None,
        "to_mend": sorted(to_mend) or None,
        "request_id": current_invocation().request_id,
    }
    (logger.warning if failures else logger.info)(
        "batch", extra={key: value for key, value in line.items() if value is not None}
    )
