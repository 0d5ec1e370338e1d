"""Where spans go: OpenTelemetry, or X-Ray through Powertools. Neither library is imported unless it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from db.errors import DOCUMENTATION, ConfigurationError

from .spans import Spans

if TYPE_CHECKING:
    from db.settings import Settings

    from .spans import Recorder, Span, Tracer

SCHEMA_URL = "https://opentelemetry.io/schemas/1.33.0"  # the first with stable names for databases
# https://docs.aws.amazon.com/xray/latest/devguide/xray-api-segmentdocuments.html
_NOT_IN_NAMES = str.maketrans("", "", "?;*()!$~^<>")


def spans_for(settings: Settings, meter: Recorder | None = None) -> Spans | None:
    """The spans that DB_TRACE asks for, and that ``meter`` measures; None where nothing would come of them.

    Raises ConfigurationError.
    """
    try:
        tracer = _tracer(settings)
    except ImportError as error:
        problem = (
            f"DB_TRACE={settings.trace} needs a package that is not installed, {error.name}: "
            f"see {DOCUMENTATION}run/observability/#spans"
        )
        raise ConfigurationError([problem]) from error
    if tracer is None and meter is None:
        return None
    return Spans(tracer, system=settings.engine_kind.system, meter=meter)


def _tracer(settings: Settings) -> Tracer | None:
    match settings.trace:
        case "otel":
            return _OpenTelemetry()
        case "xray":
            return _x_ray()
        case "off":
            return None


def attributes(span: Span) -> dict[str, str | int]:
    """OpenTelemetry's attributes: https://opentelemetry.io/docs/specs/semconv/database/postgresql/."""
    known = {
        "db.system.name": span.peer.system,
        "db.namespace": span.peer.database,
        "server.address": span.peer.host,
        "server.port": span.peer.port,
        "db.query.text": span.statement.text if span.statement else None,
        "db.query.summary": span.name if span.statement else None,
        "db.operation.batch.size": span.batch_size if span.is_batch else None,
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
        self._tracer = trace.get_tracer("db", schema_url=SCHEMA_URL)

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
