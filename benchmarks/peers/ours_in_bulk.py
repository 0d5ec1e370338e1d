"""`db` with many records, and with many rows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Integer, MetaData, Table, Text, text

import db
from benchmarks.bulk import BAD, rows, sqs_event
from benchmarks.works import TENANT, Work

from .ours import Ours
from .peer import peak_bytes

if TYPE_CHECKING:
    from sqlalchemy import Connection

INSERT = text("INSERT INTO tenant_readings (value) VALUES (:value)")
items = Table("items", MetaData(), Column("id", Integer), Column("name", Text), Column("amount", Integer))


def _store(tx: Connection, record: Any) -> None:
    tx.execute(INSERT, record.json_body)


class OursBatch(Ours):
    """``db.batch``, as docs/use/batch.md writes it, for one tenant."""

    name = "db.batch"
    offers = frozenset({Work.BATCH, Work.SPOILED})

    def batch(self) -> int:
        return self._reported(sqs_event())

    def spoiled(self) -> int:
        return self._reported(sqs_event(bad=BAD))

    def _reported(self, event: dict[str, Any]) -> int:
        return len(db.batch(event, _store, tenant=TENANT)["batchItemFailures"])


class OursEach(OursBatch):
    """``db.begin`` for each record."""

    name = "db.begin for each record"

    def _reported(self, event: dict[str, Any]) -> int:
        failed = 0
        for record in event["Records"]:
            try:
                with db.begin(tenant=TENANT) as tx:
                    tx.execute(INSERT, json.loads(record["body"]))
            except Exception:  # noqa: BLE001 - whatever it is, the record comes again
                failed += 1
        return failed


class OursCopy(Ours):
    """``db.copy_rows``, as docs/use/bulk.md writes it."""

    name = "db.copy_rows"
    offers = frozenset({Work.LOAD_SOME, Work.LOAD})

    def load_some(self) -> int:
        return self._load(Work.LOAD_SOME)

    def load(self) -> int:
        return self._load(Work.LOAD)

    def _load(self, work: Work) -> int:
        db.copy_rows(items, rows(work))
        return peak_bytes()
