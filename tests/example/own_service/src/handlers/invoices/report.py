import datetime as dt

import db
from aws_lambda_powertools import Logger
from sqlalchemy import func, select

from .tables import invoices

logger = Logger()


@logger.inject_lambda_context
@db.invocation
def handler(event, context):
    """What each tenant is owed, of all that was due before the event's day; and the keys of db.once that expired."""
    day = dt.datetime.fromisoformat(event['time']).date()
    overdue = (
        select(invoices.c.tenant_id, func.count(), func.sum(invoices.c.total_minor))
        .where(invoices.c.due < day, ~invoices.c.paid)
        .group_by(invoices.c.tenant_id)
        .order_by(invoices.c.tenant_id)
    )
    with db.read() as conn:
        rows = conn.execute(overdue).all()
    db.purge_once()
    return {'overdue': [{'tenant_id': name, 'invoices': count, 'total_minor': int(total)} for name, count, total in rows]}
