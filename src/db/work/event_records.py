"""The records of an event: by which id each is reported, whom it is for, and what it must not overtake. No database."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from db.transactions.callables import WrongKindError
from db.transactions.tenant_scope import tenant_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from db.environment.process import Holder

_DATA_CLASSES = "aws_lambda_powertools.utilities.data_classes"


class Source(NamedTuple):
    """How a record of one event source is read. Streams are ordered as a whole."""

    identify: Callable[[Any], Any]
    content: Callable[[Any], Any]  # what two deliveries of the same record have in common
    data_class: tuple[str, str]
    is_stream: bool = True


_SOURCES = {
    "aws:sqs": Source(
        identify=lambda record: record["messageId"],
        content=lambda record: (record["body"], record.get("messageAttributes")),
        data_class=("sqs_event", "SQSRecord"),
        is_stream=False,
    ),
    "aws:kinesis": Source(
        identify=lambda record: record["kinesis"]["sequenceNumber"],
        content=lambda record: record["kinesis"]["data"],
        data_class=("kinesis_stream_event", "KinesisStreamRecord"),
    ),
    "aws:dynamodb": Source(
        identify=lambda record: record["dynamodb"]["SequenceNumber"],
        content=lambda record: record["dynamodb"],
        data_class=("dynamo_db_stream_event", "DynamoDBRecord"),
    ),
}


@dataclass(eq=False)
class Item:
    """A record on its way: by which id it is reported, for whom it is, and what it must not overtake."""

    id: str
    order: str | None  # items that share it run in their order, up to the first that fails; None: it has none
    record: Any = None
    tenant: str | None = None
    error: Exception | None = None  # it cannot be run


def is_stream(event: Mapping[str, Any]) -> bool:
    """Whether Lambda goes on from the lowest sequence number in the answer, rather than with what is named in it."""
    return any(_SOURCES[raw["eventSource"]].is_stream for raw in event["Records"])


def items_of(
    holder: Holder, event: Mapping[str, Any], *, tenant: Any, model: Any, skip_group_on_error: bool
) -> Iterator[Item]:
    """The event's records, each id once, read as far as can be without the database.

    Raises ValueError, and WrongKindError for a function of the tenant that names none when it is called.
    """
    contents: dict[str, Any] = {}
    items: dict[str, Item] = {}
    for raw, source, identifier in _identified(event, call=f"{holder.called}.batch"):
        content = source.content(raw)
        if identifier not in items:
            contents[identifier] = content
            items[identifier] = Item(identifier, _order(raw, source, skip_group_on_error=skip_group_on_error))
            _read(holder, items[identifier], raw, source, tenant=tenant, model=model)
        elif content != contents[identifier]:
            items[identifier].error = ValueError("another record of the batch has the same id and differs")
    yield from items.values()


def _identified(event: Mapping[str, Any], *, call: str) -> Iterator[tuple[Any, Source, str]]:
    # Whatever Lambda was invoked with: EventBridge Pipes sends a list.
    given: object = event
    records = given.get("Records") if isinstance(given, Mapping) else None
    if isinstance(given, list):
        raise ValueError(  # noqa: TRY004 - documented
            f"the event is a list, as of a pipe: give {call} {{'Records': event}}, if they are of a queue"
        )
    if not isinstance(records, list):
        raise ValueError("the event has no list of Records: it is of no queue and no stream")  # noqa: TRY004 - likewise
    for raw in records:
        try:
            source = _SOURCES[raw["eventSource"]]
            identifier = source.identify(raw)
            source.content(raw)
        except (KeyError, TypeError) as error:
            raise ValueError(f"a record of the event is of no known source, or lacks {error}") from None
        if not isinstance(identifier, str) or not identifier:
            # An empty identifier in the answer would mean the whole batch.
            raise ValueError("a record of the event has no id")
        yield raw, source, identifier


def _order(raw: Any, source: Source, *, skip_group_on_error: bool) -> str | None:
    if source.is_stream:
        return ""
    if not str(raw.get("eventSourceARN", "")).endswith(".fifo"):
        return None
    # By group, no two of which share an order; else as one.
    return f"group {(raw.get('attributes') or {}).get('MessageGroupId')}" if skip_group_on_error else ""


def _read(holder: Holder, item: Item, raw: Any, source: Source, *, tenant: Any, model: Any) -> None:
    try:
        item.record = model.model_validate(raw) if model is not None else _data_class(source)(raw)
        named = _said_by(tenant, item.record) if callable(tenant) else tenant
        item.tenant = tenant_for(named, required=holder.current().settings.tenant_required)
    except WrongKindError:
        raise  # of the call, and so of every record at every delivery
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this record's
        item.error = error


def _said_by(tenant: Callable[[Any], Any], record: Any) -> Any:
    named = tenant(record)
    if inspect.isawaitable(named) or inspect.isgenerator(named):
        if inspect.iscoroutine(named):
            named.close()  # it would be warned of
        raise WrongKindError(
            f"tenant of a batch is a plain function of the record, which gives its name, not {type(named).__name__}"
        )
    return named


def _data_class(source: Source) -> Any:
    module, name = source.data_class
    return getattr(importlib.import_module(f"{_DATA_CLASSES}.{module}"), name)
