"""The daily report (EventBridge schedule): what each tenant ordered on the day before, read from the reader.

It also clears away the expired idempotency keys of all tenants, on the writer.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from aws_lambda_powertools import Logger

import db

from .queries import select_totals

logger = Logger()


@logger.inject_lambda_context
@db.invocation
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    # The event's time, not the clock's: a late or repeated event reports on the same day.
    day = dt.datetime.fromisoformat(event["time"]).astimezone(dt.UTC).date() - dt.timedelta(days=1)
    with db.read() as conn:
        rows = conn.execute(select_totals(day)).all()
    totals = [
        {"tenant_id": tenant, "currency": currency, "orders": count, "total_minor": int(total)}
        for tenant, currency, count, total in rows
    ]
    logger.info("daily report", day=day.isoformat(), totals=totals)
    # Once a day will do, and this role may: the records' expiry is checked wherever they are read.
    logger.info("expired keys purged", purged=db.purge_once())
    return {"day": day.isoformat(), "totals": totals}
