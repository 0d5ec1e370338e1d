"""Whether the service can do its work: one read from the database, through all that a request goes through."""

from __future__ import annotations

import json
from typing import Any

from aws_lambda_powertools import Logger
from sqlalchemy import text

import db
from handlers import RETRY_AFTER_S

logger = Logger()


@logger.inject_lambda_context
@db.invocation
def handler(_event: dict[str, Any], _context: Any) -> dict[str, Any]:
    try:
        with db.read() as conn:
            conn.execute(text("SELECT 1")).scalar_one()
    except Exception:
        logger.exception("unhealthy")
        return _answer(503, {"status": "unavailable"}, {"Retry-After": str(RETRY_AFTER_S)})
    return _answer(200, {"status": "ok"}, {})


def _answer(status: int, body: dict[str, str], headers: dict[str, str]) -> dict[str, Any]:
    return {
        "statusCode": status,
        "headers": {"Content-Type": "application/json", "Cache-Control": "no-store", **headers},
        "body": json.dumps(body),
    }
