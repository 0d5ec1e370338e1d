"""Spans: what took how long, for X-Ray (through Powertools) or OpenTelemetry, whichever DB_TRACE names.

A span is handed over when it has ended, with the times at which it began and ended: nothing is left open where a
statement is cut short, and statements of concurrent tasks cannot close one another's. It is a child of what is current
then. No span holds a value: statements by their fingerprint, errors by type and SQLSTATE.

Neither library is imported unless it is asked for.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from db.errors import ConfigurationError, sqlstate

from .fingerprint import fingerprint

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection

    from db.settings import Settings

    from .fingerprint import Fingerprint

_SCHEMA_URL = "https://opentelemetry.io/schemas/1.33.0"  # the first with stable names for databases
# https://docs.aws.amazon.com/xray/latest/devguide/xray-api-segmentdocuments.html
_NOT_IN_NAMES = str.maketrans("", "", "?;*()!$~^<>")


@dataclass(frozen=True, kw_only=True)
class Peer:
    """The database at the other end, as far as the driver knows it without asking."""

    system: str  # OpenTelemetry's db.system.name
    database: str | None = None
    host: str | None = None
    port: int | None = None
    user: str | None = None


@dataclass(frozen=True, kw_only=True)
class Span:
    """One statement, or one connect (``statement`` is None). Times are wall-clock seconds."""

    peer: Peer
    began_s: float
    ended_s: float
    statement: Fingerprint | None = None
    rows: int | None = None  # affected or returned
    returns_rows: bool = False
    batch_size: int | None = None  # parameter sets of an executemany
    error: str | None = None  # its type
    sqlstate: str | None = None

    @property
    def name(self) -> str:
        """What it did, of few different values."""
        return self.statement.summary if self.statement else "connect"


class Tracer(Protocol):
    """Where spans go."""

    def record(self, span: Span) -> None:
        """Report ``span`` as a child of what is current."""

    def traceparent(self) -> str | None:
        """What is current, in the form of https://www.w3.org/TR/trace-context/; None where nothing is traced."""


class Spans:
    """Makes the spans of one engine and hands them to its tracer."""

    def __init__(self, tracer: Tracer, *, system: str) -> None:
        self._tracer = tracer
        self._peer = Peer(system=system)
        self.traceparent = tracer.traceparent

    def connect(self, connection: DBAPIConnection | None, duration_s: float, error: BaseException | None) -> None:
        """A connect was tried, and gave ``connection`` or ``error``."""
        # psycopg tells who is at the other end; a file has nobody there.
        if (info := getattr(getattr(connection, "driver_connection", connection), "info", None)) is not None:
            self._peer = Peer(
                system=self._peer.system, database=info.dbname, host=info.host, port=info.port, user=info.user
            )
        self._record(duration_s, error)

    def statement(
        self, cursor: Any, statement: str, context: Any, duration_s: float, error: BaseException | None
    ) -> None:
        """A statement was sent, and answered or refused."""
        self._record(
            duration_s,
            error,
            statement=fingerprint(statement),
            rows=cursor.rowcount if error is None and cursor.rowcount >= 0 else None,
            returns_rows=cursor.description is not None,
            batch_size=len(context.parameters) if context.executemany else None,
        )

    def _record(self, duration_s: float, error: BaseException | None, **facts: Any) -> None:
        ended_s = time.time()
        if error is not None:
            facts |= {"error": type(error).__name__, "sqlstate": sqlstate(error)}
        self._tracer.record(Span(peer=self._peer, began_s=ended_s - duration_s, ended_s=ended_s, **facts))


def spans_for(settings: Settings) -> Spans | None:
    """The spans that DB_TRACE asks for; None where nothing would come of them. Raises ConfigurationError."""
    try:
        tracer: Tracer | None = _OpenTelemetry() if settings.trace == "otel" else _x_ray()
    except ImportError as error:
        problem = (
            f"DB_TRACE={settings.trace} needs a package that is not installed, {error.name}: see docs/observability.md"
        )
        raise ConfigurationError([problem]) from error
    return Spans(tracer, system="sqlite" if settings.is_sqlite else "postgresql") if tracer is not None else None


def attributes(span: Span) -> dict[str, str | int]:
    """OpenTelemetry's attributes: https://opentelemetry.io/docs/specs/semconv/database/postgresql/."""
    known = {
        "db.system.name": span.peer.system,
        "db.namespace": span.peer.database,
        "server.address": span.peer.host,
        "server.port": span.peer.port,
        "db.query.text": span.statement.text if span.statement else None,
        "db.query.summary": span.statement.summary if span.statement else None,
        "db.operation.batch.size": span.batch_size if (span.batch_size or 0) > 1 else None,
        "db.response.returned_rows": span.rows if span.returns_rows else None,
        "db.response.status_code": span.sqlstate,
        "error.type": span.sqlstate or span.error,
    }
    return {name: value for name, value in known.items() if value is not None}


def sql(span: Span) -> dict[str, str]:
    """X-Ray's ``sql`` block."""
    peer = span.peer
    known = {
        "database_type": peer.system,
        "url": f"{peer.system}://{peer.host or ''}{f':{peer.port}' if peer.port else ''}/{peer.database or ''}",
        "user": peer.user,
        "sanitized_query": span.statement.text if span.statement else None,
    }
    return {name: value for name, value in known.items() if value is not None}


class _OpenTelemetry:
    def __init__(self) -> None:
        from opentelemetry import trace

        self._api = trace
        self._tracer = trace.get_tracer("db", schema_url=_SCHEMA_URL)

    def record(self, span: Span) -> None:
        reported = self._tracer.start_span(
            span.name,
            kind=self._api.SpanKind.CLIENT,
            attributes=attributes(span),
            start_time=_nanoseconds(span.began_s),
        )
        if span.error is not None:
            reported.set_status(self._api.StatusCode.ERROR)
        reported.end(end_time=_nanoseconds(span.ended_s))

    def traceparent(self) -> str | None:
        context = self._api.get_current_span().get_span_context()
        if not context.is_valid:
            return None
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _x_ray() -> _XRay | None:
    from aws_lambda_powertools import Tracer as Powertools

    tracer = Powertools(auto_patch=False)  # patching other libraries is for the handler's own to decide
    # As it is outside of Lambda, and by POWERTOOLS_TRACE_DISABLED.
    return None if tracer.disabled else _XRay(tracer.provider)


class _XRay:
    def __init__(self, recorder: Any) -> None:
        self._recorder = recorder

    def record(self, span: Span) -> None:
        name = "@".join(filter(None, (span.peer.database, span.peer.host))) or span.peer.system
        subsegment = self._recorder.begin_subsegment(name.translate(_NOT_IN_NAMES), namespace="remote")
        if subsegment is None:  # outside of a segment
            return
        subsegment.start_time = span.began_s
        subsegment.set_sql(sql(span))
        # Annotations are what traces can be searched by.
        subsegment.put_annotation("operation", span.name)
        if span.statement is not None:
            subsegment.put_annotation("fingerprint", span.statement.id)
        if span.rows is not None:
            subsegment.put_metadata("rows", span.rows, "db")
        if span.error is not None:
            subsegment.add_fault_flag()
            subsegment.put_annotation("error", span.sqlstate or span.error)
        self._recorder.end_subsegment(span.ended_s)

    def traceparent(self) -> str | None:
        current = self._recorder.get_trace_entity()
        if current is None or not current.sampled:
            return None
        _, seconds, random = current.trace_id.split("-")
        return f"00-{seconds}{random}-{current.id}-01"


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
