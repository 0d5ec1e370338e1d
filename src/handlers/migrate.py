"""Migrations at deploy, as a CloudFormation custom resource. Invoked by hand, it migrates and returns the same data.

Whatever happens, the ResponseURL is answered: a stack whose resource stays silent hangs for an hour.
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-responses.html
"""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from aws_lambda_powertools import Logger

import db

logger = Logger()

VERSIONS = Path(__file__).parent / "migrations" / "versions"
PHYSICAL_ID = "database-schema"
_ANSWER_TIMEOUT_S = 10
# CloudFormation refuses an answer of more than 4,096 bytes; ids and braces take less than half, a character up to four.
_REASON_CHARS = 600


@logger.inject_lambda_context
@db.invocation
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    status, data, reason = "SUCCESS", {}, ""
    try:
        # Delete is also what a rolled-back creation sends. A schema outlives its stack: data is not ours to drop.
        if event.get("RequestType") != "Delete":
            data = _migrate()
    except Exception as error:
        logger.exception("migration failed")
        if "ResponseURL" not in event:
            raise
        status, reason = "FAILED", f"{type(error).__name__}: {error}"[:_REASON_CHARS]
    if "ResponseURL" in event:
        _answer(event, status, reason, data)
    return {"status": status, "reason": reason, **data}


def _migrate() -> dict[str, str | None]:
    # Alembic is this function's alone, and loads when there is something to do.
    from db import migrations

    done = migrations.upgrade(VERSIONS)
    logger.info("migrated", before=done.before, after=done.after)
    return {"before": done.before, "after": done.after}


def _answer(event: dict[str, Any], status: str, reason: str, data: dict[str, Any]) -> None:
    body = {
        "Status": status,
        "Reason": reason or "done",
        "PhysicalResourceId": event.get("PhysicalResourceId", PHYSICAL_ID),
        "StackId": event.get("StackId"),
        "RequestId": event.get("RequestId"),
        "LogicalResourceId": event.get("LogicalResourceId"),
        "Data": data,
    }
    # S3 signed the URL for an empty content type.
    request = urllib.request.Request(  # noqa: S310 - CloudFormation's own URL
        event["ResponseURL"],
        data=json.dumps(body, ensure_ascii=False).encode(errors="replace"),
        method="PUT",
        headers={"Content-Type": ""},
    )
    with urllib.request.urlopen(request, timeout=_ANSWER_TIMEOUT_S):  # noqa: S310 - as above
        pass
