import json

import db
from aws_lambda_powertools import Logger
from sqlalchemy.dialects.postgresql import insert

from .model import parse
from .tables import invoices

logger = Logger()


def store(tx, record):
    """A message that comes twice is one invoice: its id is the sender's."""
    values = parse(record.body, id=json.loads(record.body)['id'])
    tx.execute(insert(invoices).values(values).on_conflict_do_nothing())


def tenant_of(record):
    return record.message_attributes['tenant_id'].string_value


@logger.inject_lambda_context
@db.invocation
def handler(event, context):
    return db.batch(event, store, tenant=tenant_of)
