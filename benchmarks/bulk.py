"""What the peers of the sections ``batch`` and ``copy`` are given, and the tables that it goes to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .works import Work

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORDS, BAD = 100, 10
ROWS = {Work.LOAD_SOME: 100_000, Work.LOAD: 1_000_000}

TABLES = """
CREATE TABLE readings (value int NOT NULL CHECK (value >= 0));
CREATE TABLE tenant_readings (
    tenant_id text NOT NULL DEFAULT current_setting('app.tenant_id'), value int NOT NULL CHECK (value >= 0)
);
ALTER TABLE tenant_readings ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON tenant_readings USING (tenant_id = current_setting('app.tenant_id', true));
CREATE UNLOGGED TABLE items (id int, name text, amount int);
GRANT INSERT ON readings, tenant_readings, items TO {role};
"""
EMPTY = "TRUNCATE readings, tenant_readings, items"


def sqs_event(*, bad: int = 0) -> dict[str, Any]:
    """A batch of a standard queue. The last of each tenth is bad, for so many of them: the server refuses its value."""
    values = [-1 if number % 10 == 9 and number // 10 < bad else number for number in range(RECORDS)]  # noqa: PLR2004
    return {"Records": [_record(str(number), value) for number, value in enumerate(values)]}


def rows(work: Work) -> Iterator[tuple[int, str, int]]:
    """What is loaded, made on the way."""
    return ((number, f"item {number}", number % 1000) for number in range(ROWS[work]))


def _record(identifier: str, value: int) -> dict[str, Any]:
    return {
        "messageId": identifier,
        "receiptHandle": f"receipt {identifier}",
        "body": json.dumps({"value": value}),
        "attributes": {"ApproximateReceiveCount": "1"},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:readings",
        "awsRegion": "eu-central-1",
    }
