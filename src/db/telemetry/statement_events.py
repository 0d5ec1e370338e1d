"""What statements are seen to do: how many, how long, which are slow, which are repeated; comments and spans.

A statement costs a clock read on either side and a dict entry. What shows it, fingerprint and spans, is loaded and made
only where there is something to show.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine.interfaces import ExecuteStyle

from db.errors import sqlstate
from db.timing.invocation import current_invocation
from db.wire.serving import WAITED_S

from .application_name import session_name
from .metrics import TO_OPENTELEMETRY
from .repeated_statements import repeats_so_far
from .sql_comment import comment, with_comment

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Dialect
    from sqlalchemy.engine.interfaces import DBAPIConnection

    from db.settings import Settings

    from .metrics import Tally
    from .otel_metrics import PoolMeter
    from .repeated_statements import Repeats
    from .spans import Spans

LOGGED_SQL_CHARS = 1000  # of a fingerprint; CloudWatch bills by the byte
# Execution option of statements that the layer sends for itself: timed, but not counted as the handler's.
OWN_STATEMENT = "db_own_statement"
_COUNTED = "db_counted"  # on the execution context of a statement that is sent in batches
_DRIVERS_ESCAPE = {"format", "pyformat"}
_INSERTMANYVALUES = ExecuteStyle.INSERTMANYVALUES
# A dialect's methods that send a statement, and whether they send parameters with it.
_SENDS = {"do_execute": True, "do_executemany": True, "do_execute_no_params": False}


class StatementEvents:
    """Watches the statements of one engine: counts into ``tally``, warns through ``log``, and hands over spans.

    Raises ConfigurationError where DB_TRACE or DB_METRICS asks for a library that is not installed.
    """

    def __init__(self, settings: Settings, *, tally: Tally, log: Callable[..., None], pool: str = "writer") -> None:
        self._tally = tally
        self._log = log
        self.meter = _meter(settings, pool)
        self._spans = _spans(settings, self.meter)
        self._database = settings.database
        self._slow_s = settings.slow_query_s
        self._budget = settings.statement_repeats
        self._comments = settings.sql_comments
        self._sender = _sender(settings)
        self._constant = comment(self._sender)
        self._escapes = False

    def watch(self, dialect: Dialect) -> None:
        """Measure what ``dialect`` sends: in its own methods, as an event costs each statement a loop and a call more.

        And a listener to the engine's events makes each ``Connection`` put together its own set.
        """
        self._escapes = dialect.paramstyle in _DRIVERS_ESCAPE
        for name, has_parameters in _SENDS.items():
            setattr(dialect, name, self._measured(getattr(dialect, name), has_parameters=has_parameters))

    def connected(self, connection: DBAPIConnection | None, duration_s: float, error: BaseException | None) -> None:
        """A connect was tried, and gave ``connection`` or ``error``."""
        if self._spans is not None:
            self._spans.connect(connection, duration_s, error)

    def _measured(self, send: Callable[..., None], *, has_parameters: bool) -> Callable[..., None]:
        comments, ran, now = self._comments != "off", self._ran, time.perf_counter

        def measured(cursor: Any, statement: str, *arguments: Any) -> None:
            text = self._commented(statement, escaped=has_parameters) if comments else statement
            started = now()
            try:
                send(cursor, text, *arguments)
            except BaseException as error:
                ran(cursor, statement, arguments[-1], now() - started, error)
                raise
            ran(cursor, statement, arguments[-1], now() - started, None)

        return measured

    def _ran(self, cursor: Any, statement: str, context: Any, duration_s: float, error: BaseException | None) -> None:
        if options := context.execution_options:  # without any it waited for nobody
            duration_s -= context.__dict__.get(WAITED_S, 0.0)
        self._tally.database_ms += duration_s * 1000.0
        if self._spans is not None:
            self._spans.statement(cursor, statement, context, duration_s, error)
        if options and options.get(OWN_STATEMENT):
            return
        self._tally.statements += 1
        if self._budget and (repeats := repeats_so_far(self._database)) is not None:
            if context.execute_style is _INSERTMANYVALUES:
                self._count_batch(repeats, context, duration_s)
            else:
                repeats.add(statement, duration_s * 1000.0, budget=self._budget)
        if duration_s >= self._slow_s:
            self._log_slow(cursor, statement, duration_s, error)

    def _count_batch(self, repeats: Repeats, context: Any, duration_s: float) -> None:
        """One of several texts that are sent for one statement: that is counted, once."""
        if _COUNTED not in context.__dict__:
            context.__dict__[_COUNTED] = True
            repeats.add(context.statement, duration_s * 1000, budget=self._budget)

    def _log_slow(self, cursor: Any, statement: str, duration_s: float, error: BaseException | None) -> None:
        from .fingerprint import fingerprint

        seen = fingerprint(statement)
        self._log(
            logging.WARNING,
            "slow query",
            duration_ms=round(duration_s * 1000, 3),
            fingerprint=seen.id,
            statement=seen.text[:LOGGED_SQL_CHARS],
            rows=cursor.rowcount if error is None else None,
            error=named(error),
        )

    def _commented(self, statement: str, *, escaped: bool) -> str:
        addition = self._constant
        if self._comments == "request":
            traceparent = self._spans.traceparent() if self._spans is not None else None
            request_id = current_invocation().request_id
            addition = comment({**self._sender, "request_id": request_id, "traceparent": traceparent})
        return with_comment(statement, addition, escaped=escaped and self._escapes)


def _meter(settings: Settings, pool: str) -> PoolMeter | None:
    """What measures for OpenTelemetry, where DB_METRICS asks for it. Raises ConfigurationError."""
    if settings.metrics not in TO_OPENTELEMETRY:
        return None
    from .otel_metrics import meter_for

    return meter_for(settings, pool)


def _spans(settings: Settings, meter: PoolMeter | None) -> Spans | None:
    if settings.trace == "off" and meter is None:
        return None
    from .span_exporters import spans_for

    return spans_for(settings, meter)


def _sender(settings: Settings) -> dict[str, str | None]:
    name = session_name(settings)
    return {"application": name, "action": settings.function_name if settings.function_name != name else None}


def named(error: BaseException | None) -> str | None:
    """An error by type and SQLSTATE: its message may repeat values of the row that failed."""
    if error is None:
        return None
    code = sqlstate(error)
    return f"{type(error).__name__} {code}" if code else type(error).__name__
