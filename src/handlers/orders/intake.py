"""Orders from SQS. A record that fails goes back to the queue alone; one that comes twice is stored once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger

# db.batch would load it with the first record; while a module is loaded, Lambda gives a whole processor.
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord  # noqa: TC002 - as above

import db

from . import queries
from .model import Invalid, parse_json, parse_order

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from .model import NewOrder

TENANT_ATTRIBUTE = "tenant_id"

logger = Logger()


def store(tx: Connection, record: SQSRecord) -> None:
    """Store the record's order."""
    try:
        order = parse_order(parse_json(record.body), make_id=None)
        if tx.execute(queries.insert_order(order)).one_or_none() is not None:
            tx.execute(queries.insert_lines(order))
        else:
            require_stored(tx, order)
    except Invalid as error:
        logger.warning("record refused", message_id=record.message_id, reason=str(error))
        raise
    except Exception:
        logger.exception("record failed", message_id=record.message_id)
        raise


def require_stored(tx: Connection, order: NewOrder) -> None:
    """Raise Invalid where another order is under this id: the same one is there when its message comes again."""
    found = tx.execute(queries.select_order(order.id)).one()
    lines = tx.execute(queries.select_lines(order.id)).all()
    stored = (found.customer, found.currency, *map(tuple, lines))
    sent = ((line.sku, line.quantity, line.unit_price_minor) for line in order.lines)
    if stored != (order.customer, order.currency, *sent):
        raise Invalid(f"another order is stored under the id {order.id}")


def tenant_of(record: SQSRecord) -> str:
    """The tenant that the producer attested beside the body, not in it."""
    attribute = record.message_attributes[TENANT_ATTRIBUTE]  # None where it is missing: Powertools' own mapping
    if attribute is None or not attribute.string_value:
        logger.warning("record refused", message_id=record.message_id, reason=f"no attribute {TENANT_ATTRIBUTE}")
        raise Invalid(f"the message has no attribute {TENANT_ATTRIBUTE}")
    return attribute.string_value


@logger.inject_lambda_context
@db.invocation
def handler(event: dict[str, Any], _context: Any) -> Any:
    return db.batch(event, store, tenant=tenant_of)
