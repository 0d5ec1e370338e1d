"""What is told of the work on MariaDB: comments and spans, and the advice that is this engine's."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

import db
from db.telemetry import log

from .conftest import add, numbers

if TYPE_CHECKING:
    from devkit.network.mysql_statements import MySqlWire

    from .conftest import Use

pytestmark = pytest.mark.usefixtures("ledger")


def test_a_comment_says_who_sends_and_costs_no_trip(use: Use, wire: MySqlWire) -> None:
    """It goes with the statement, and the statement with its opening."""
    use(function_name="orders/api", sql_comments="function")
    numbers()
    before = wire.counts()
    with db.begin() as tx:
        tx.execute(text("INSERT INTO ledger (n) VALUES (:n)"), {"n": 1})
        with tx.begin_nested():
            tx.execute(text("UPDATE ledger SET note = '100%'"))
    assert (wire.counts() - before).trips == 3
    assert sum("/*application='orders%2Fapi'*/" in one for one in wire.statements()) == 3  # with the read
    assert numbers() == [1]


def test_spans_name_the_engine(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    """By OpenTelemetry's word for it, and an error by the SQLSTATE that it has everywhere."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)  # which else can be set once for a process
    use(trace="otel")
    add(1)
    with pytest.raises(IntegrityError):
        add(1)
    said: list[Any] = [dict(span.attributes or {}) for span in exporter.get_finished_spans()]
    assert {one["db.system.name"] for one in said} == {"mysql"}
    assert [one["db.response.status_code"] for one in said if "db.response.status_code" in one] == ["23505"]


def test_the_advice_about_leftovers_is_this_engines(
    use: Use, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """From a unit of work and from the plain engine: PostgreSQL's SET LOCAL would be a SET SESSION here."""
    monkeypatch.setattr(log, "_said_to_be_left", set())
    use(role="owner")
    with caplog.at_level(logging.WARNING):
        with db.begin() as tx:
            tx.execute(text("SET @mine = 1"))
        with db.engine().begin() as conn:
            conn.execute(text("SET @mine = 1"))
    said = [record.getMessage() for record in caplog.records if "left something" in record.getMessage()]
    assert len(said) == 2
    assert all("SET STATEMENT" in one and "SET LOCAL" not in one for one in said)
