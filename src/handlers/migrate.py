"""Migrations at deploy, as a CloudFormation custom resource. Invoked by hand, it migrates and returns the same data.

Whatever happens, the ResponseURL is answered: a stack whose resource stays silent waits for as long as ServiceTimeout.
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-responses.html
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aws_lambda_powertools import Logger

import db

logger = Logger()

VERSIONS = Path(__file__).parent / "migrations" / "versions"
# The secrets of the roles that are made where MASTER_SECRET_ID names a master; the owner's is DB_SECRET_ID.
ROLES = ("APP_SECRET_ID", "REPORT_SECRET_ID")
PHYSICAL_ID = "database-schema"
_ANSWER_TIMEOUT_S = 10
_REACH_TIMEOUT_S = 2
# CloudFormation refuses an answer of more than 4,096 bytes; ids and braces take less than half, a character up to four.
_REASON_CHARS = 600


@logger.inject_lambda_context
@db.invocation
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    if "ResponseURL" in event and not _reaches(event["ResponseURL"]):
        _tell_of_no_way(event["ResponseURL"])
    status, reason = "SUCCESS", ""
    data: dict[str, str | None] = {}
    try:
        # Delete is also what a rolled-back creation sends. A schema outlives its stack: data is not ours to drop.
        if event.get("RequestType") != "Delete":
            data, reason = _migrate(event)
    except Exception as error:
        logger.exception("migration failed")
        if "ResponseURL" not in event:
            raise
        status, reason = "FAILED", f"{type(error).__name__}: {error}"[:_REASON_CHARS]
    if "ResponseURL" in event:
        _answer(event, status, reason, data)
    return {"status": status, "reason": reason, **data}


def _migrate(event: dict[str, Any]) -> tuple[dict[str, str | None], str]:
    # Alembic is this function's alone, and loads when there is something to do.
    from db import migrations

    if master := os.environ.get("MASTER_SECRET_ID"):
        made = migrations.make_roles(master, used_by=[os.environ[name] for name in ROLES if os.environ.get(name)])
        logger.info("roles", made=made)
    # An update that is rolled back is one more Update, whose older properties are those of the release that failed.
    previous = (event.get("OldResourceProperties") or {}).get("Revision")
    done = migrations.upgrade(VERSIONS, previous=previous)
    reason = f"the schema is at {done.after}, ahead of this code: nothing was changed" if done.ahead else ""
    if done.ahead:
        logger.warning(reason)
    logger.info("migrated", before=done.before, after=done.after)
    return {"before": done.before, "after": done.after}, reason


def _reaches(url: str) -> bool:
    """Whether a connection to where ``url`` leads is there within two seconds; none is without a way to S3."""
    to, reached = urlsplit(url), threading.Event()

    def connect() -> None:
        address = to.hostname or "", to.port or (443 if to.scheme == "https" else 80)
        with contextlib.suppress(OSError), socket.create_connection(address, timeout=_REACH_TIMEOUT_S):
            reached.set()

    # In a thread, for the limit is one of each address that the name has, and there is none for the name itself.
    looking = threading.Thread(target=connect, daemon=True)
    looking.start()
    looking.join(_REACH_TIMEOUT_S)
    return reached.is_set()


def _tell_of_no_way(url: str) -> None:
    logger.error(
        "CloudFormation cannot be told how this ends, and waits for it until the resource's ServiceTimeout: no way to "
        "%s from the function's subnets, which need a NAT gateway or a gateway endpoint for S3",
        urlsplit(url).hostname,
    )


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
