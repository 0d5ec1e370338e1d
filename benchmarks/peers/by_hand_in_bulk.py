"""Many records with SQLAlchemy by hand, and many rows with psycopg."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from benchmarks.bulk import BAD, rows, sqs_event
from benchmarks.works import Work

from .peer import peak_bytes
from .with_psycopg import Psycopg
from .with_sqlalchemy import SqlAlchemy, SqlAlchemyPrePing

if TYPE_CHECKING:
    from sqlalchemy import Connection


class EachBoundPrePing(SqlAlchemyPrePing):
    """``engine.begin()`` for each record, so that what fails fails alone; tenant and time limit by hand.

    As https://docs.aws.amazon.com/lambda/latest/dg/example_serverless_SQS_Lambda_batch_item_failures_section.html takes
    the records. Powertools' processor around the same would add to it.
    """

    name = "SQLAlchemy, pre-ping, bound: a transaction for each record"
    offers = frozenset({Work.BATCH, Work.SPOILED})
    insert = text("INSERT INTO tenant_readings (value) VALUES (:value)")

    def batch(self) -> int:
        return self._reported(sqs_event())

    def spoiled(self) -> int:
        return self._reported(sqs_event(bad=BAD))

    def _reported(self, event: dict[str, Any]) -> int:
        failures = []
        for record in event["Records"]:
            try:
                with self.engine.begin() as tx:
                    self._bind(tx)
                    tx.execute(self.insert, json.loads(record["body"]))
            except Exception:  # noqa: BLE001 - whatever it is, the record comes again
                failures.append({"itemIdentifier": record["messageId"]})
        return len(failures)


class Each(EachBoundPrePing):
    """The same without pre-ping, and bound by nothing."""

    name = "SQLAlchemy: a transaction for each record"
    insert = text("INSERT INTO readings (value) VALUES (:value)")
    open = SqlAlchemy.open

    def _bind(self, conn: Connection) -> None:
        """To nothing."""


class PsycopgCopy(Psycopg):
    """https://www.psycopg.org/psycopg3/docs/basic/copy.html#writing-data-row-by-row"""

    name = "psycopg, cursor.copy()"
    offers = frozenset({Work.LOAD_SOME, Work.LOAD})

    def load_some(self) -> int:
        return self._load(Work.LOAD_SOME)

    def load(self) -> int:
        return self._load(Work.LOAD)

    def _load(self, work: Work) -> int:
        with (
            self.connection.transaction(),
            self.connection.cursor() as cursor,
            cursor.copy("COPY items (id, name, amount) FROM STDIN") as copy,
        ):
            for row in rows(work):
                copy.write_row(row)
        return peak_bytes()
