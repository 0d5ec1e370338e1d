"""What Powertools answers for a batch, and what ``db.batch`` does: the same event, through both, gives the same answer.

The events and the kinds of failures are those of its functional tests of batches. Where the two differ by intent, the
test says how. Powertools' processors are its own, as installed.
"""

from __future__ import annotations

import asyncio
import itertools
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from aws_lambda_powertools.utilities.batch import (
    AsyncBatchProcessor,
    BatchProcessor,
    EventType,
    SqsFifoPartialProcessor,
    async_process_partial_response,
    process_partial_response,
)
from aws_lambda_powertools.utilities.batch.exceptions import BatchProcessingError, UnexpectedBatchTypeError
from aws_lambda_powertools.utilities.parser.models import SqsRecordModel

import db
from db import aio
from db.environment import event_loop

from .fix_once import effects  # noqa: F401 - a fixture
from .test_batch import message, note_image, note_it, note_kinesis, of_dynamodb, on_kinesis
from .test_once import note, noted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("effects")]


class Source(NamedTuple):
    """A kind of event: how a record of it is made and noted, where its note stands, and Powertools' name for it."""

    record: Callable[[int, str], dict[str, Any]]
    note: Callable[[Any, Any], None]
    text_of: Callable[[Any], str]
    event_type: EventType


SOURCES = {
    "queue": Source(
        lambda number, what: message(str(number), {"note": what}),
        note_it,
        lambda record: str(record.json_body["note"]),
        EventType.SQS,
    ),
    "Kinesis": Source(
        on_kinesis,
        note_kinesis,
        lambda record: str(record.kinesis.data_as_json()["note"]),
        EventType.KinesisDataStreams,
    ),
    "DynamoDB": Source(
        of_dynamodb, note_image, lambda record: str(record.dynamodb.new_image["note"]), EventType.DynamoDBStreams
    ),
}
# Which of three records fail: none, one at each place, two, all.
FAILURES = [failing for size in range(4) for failing in itertools.combinations(range(3), size)]


def refuse(note: str) -> None:
    """As the table does."""
    if note == "bad":
        raise ValueError(note)


def event_of(source: Source, failing: Sequence[int], *, kept: str) -> dict[str, Any]:
    """Three records, which note ``kept`` and their number, or cannot."""
    return {"Records": [source.record(101 + n, "bad" if n in failing else f"{kept}{n}") for n in range(3)]}


def failed(answer: Any) -> list[str]:
    return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]


def of_powertools(event: Any, source: Source, *, by: str) -> Any:
    context: Any = None
    if by == "batch":
        processor = BatchProcessor(event_type=source.event_type, raise_on_entire_batch_failure=False)
        return process_partial_response(event, lambda record: refuse(source.text_of(record)), processor, context)

    async def handle(record: Any) -> None:
        await asyncio.sleep(0)
        refuse(source.text_of(record))

    on_a_loop = AsyncBatchProcessor(event_type=source.event_type, raise_on_entire_batch_failure=False)
    return async_process_partial_response(event, handle, on_a_loop, context)


def of_ours(event: Any, source: Source, *, by: str) -> Any:
    if by == "batch":
        return db.batch(event, source.note)

    async def handle(tx: Any, record: Any) -> None:
        await tx.run_sync(source.note, record)

    return event_loop.run(aio.batch(event, handle))


@pytest.mark.parametrize("by", ["batch", "aio.batch"])
@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_what_fails_is_answered_as_powertools_does(
    source: Source, by: str, database: Database, postgres: Postgres
) -> None:
    """Of a stream, by its first failure: Lambda goes on from there, so what comes after it has not run."""
    stream = source.event_type is not EventType.SQS
    kept: list[str] = []
    for number, failing in enumerate(FAILURES):
        event = event_of(source, failing, kept=f"{number}.")
        expected = failed(of_powertools(event, source, by=by))
        assert failed(of_ours(event, source, by=by)) == (expected[:1] if stream else expected), failing
        first_failure = failing[0] if failing and stream else 3
        kept += [f"{number}.{n}" for n in range(first_failure) if n not in failing]
    assert noted(postgres, database) == sorted(kept)


@pytest.mark.parametrize("skip_group", [False, True])
def test_a_fifo_queue_is_answered_as_powertools_does(skip_group: bool, database: Database, postgres: Postgres) -> None:
    """By message group or as a whole, whichever record of two groups fails, the first among them."""
    kept: list[str] = []
    for number, (failing, groups) in enumerate(itertools.product(range(4), ("gghh", "ghgh", "gggg", "ghhg"))):
        notes = ["bad" if n == failing else f"{number}.{n}" for n in range(4)]
        event = {
            "Records": [
                message(str(n), {"note": what}, group=group)
                for n, (what, group) in enumerate(zip(notes, groups, strict=True))
            ]
        }
        context: Any = None
        processor = SqsFifoPartialProcessor(skip_group_on_error=skip_group)
        processor.raise_on_entire_batch_failure = False
        expected = failed(
            process_partial_response(event, lambda record: refuse(str(record.json_body["note"])), processor, context)
        )
        assert failed(db.batch(event, note_it, skip_group_on_error=skip_group)) == expected, (failing, groups)
        kept += [what for n, what in enumerate(notes) if str(n) not in expected]
    assert noted(postgres, database) == sorted(kept)


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_batch_of_which_nothing_is_done_may_be_raised_as_by_powertools(source: Source) -> None:
    """Powertools raises unless told otherwise, and the layer where it is told to; each record's own error is inside."""
    event = event_of(source, range(3), kept="")
    context: Any = None
    with pytest.raises(BatchProcessingError) as theirs:
        process_partial_response(
            event, lambda record: refuse(source.text_of(record)), BatchProcessor(event_type=source.event_type), context
        )
    with pytest.raises(ExceptionGroup) as ours:
        db.batch(event, source.note, raise_on_entire_batch_failure=True)
    # A stream ends at its first failure, and the records after it failed for that.
    assert len(ours.value.exceptions) == len(theirs.value.child_exceptions) == 3


@pytest.mark.parametrize("event", [{}, {"Records": None}, [], "event", None, 3])
def test_what_is_no_event_is_refused_by_both(event: Any) -> None:
    """Lambda may be invoked with anything."""
    context: Any = None
    with pytest.raises((ValueError, UnexpectedBatchTypeError)):
        process_partial_response(event, refuse, BatchProcessor(event_type=EventType.SQS), context)
    with pytest.raises(ValueError, match="event"):
        db.batch(event, note_it)


def test_a_record_that_its_model_refuses_is_answered_as_powertools_does(database: Database, postgres: Postgres) -> None:
    """By its id, and its neighbours are done."""

    class Note(SqsRecordModel):
        body: str

        def what(self) -> str:
            return self.body

    good = {
        **message("1", "kept"),
        "receiptHandle": "r",
        "md5OfBody": "m",
        "awsRegion": "eu-central-1",
        "attributes": {
            "ApproximateReceiveCount": "1",
            "ApproximateFirstReceiveTimestamp": "1545082649185",
            "SenderId": "s",
            "SentTimestamp": "1545082649183",
        },
    }
    event = {"Records": [good, good | {"messageId": "2", "body": ["no text"]}, good | {"messageId": "3", "body": "c"}]}
    processor = BatchProcessor(event_type=EventType.SQS, model=Note)
    context: Any = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Powertools' own, about how it reads the id of what the model refused
        theirs = process_partial_response(event, lambda record: record.what(), processor, context)
    ours = db.batch(event, lambda tx, record: note(tx, record.what()), model=Note)
    assert failed(ours) == failed(theirs) == ["2"]
    assert noted(postgres, database) == ["c", "kept"]
