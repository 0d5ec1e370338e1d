"""Orders from SQS. A record that fails goes back to the queue alone; one that comes twice is stored once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response

import db

from . import queries
from .model import Invalid, parse_json, parse_order

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
    from sqlalchemy import Connection

    from .model import NewOrder

TENANT_ATTRIBUTE = "tenant_id"

logger = Logger()
# A batch that fails whole is reported item by item too: an exception would hide from SQS which ones, and log a trace.
processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


def store(record: SQSRecord) -> None:
    """Store the record's order in a transaction of its own."""
    try:
        tenant, order = _tenant(record), parse_order(parse_json(record.body), make_id=None)
        db.run(_insert, order, tenant=tenant)
    except (Invalid, db.TenantError) as error:
        logger.warning("record refused", message_id=record.message_id, reason=str(error))
        raise
    except Exception:
        logger.exception("record failed", message_id=record.message_id)
        raise


def _insert(tx: Connection, order: NewOrder) -> None:
    # No row: the id is there, so an earlier delivery of the same message stored it, with its lines.
    if tx.execute(queries.insert_order(order)).one_or_none() is not None:
        tx.execute(queries.insert_lines(order))


def _tenant(record: SQSRecord) -> str:
    """The tenant that the producer attested beside the body, not in it."""
    attribute = record.message_attributes[TENANT_ATTRIBUTE]  # None where it is missing: Powertools' own mapping
    if attribute is None or not attribute.string_value:
        raise Invalid(f"the message has no attribute {TENANT_ATTRIBUTE}")
    return attribute.string_value


@logger.inject_lambda_context
@db.invocation
def handler(event: dict[str, Any], context: Any) -> Any:
    return process_partial_response(event=event, record_handler=store, processor=processor, context=context)
