"""Spans: what took how long, of one statement or one connect, for whichever tracer DB_TRACE names.

A span is handed over when it has ended, with the times at which it began and ended: nothing is left open where a
statement is cut short, and statements of concurrent tasks cannot close one another's. It is a child of what is current
then. No span holds a value: statements by their fingerprint, errors by type and SQLSTATE.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from db.errors import sqlstate

from .fingerprint import fingerprint

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection

    from .fingerprint import Fingerprint


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
    def is_batch(self) -> bool:
        """Whether one statement ran with several sets of parameters."""
        return (self.batch_size or 0) > 1

    @property
    def name(self) -> str:
        """What it did, of few different values."""
        if self.statement is None:
            return "connect"
        # OpenTelemetry's word, without which the time of a thousand rows is averaged with that of one.
        return f"BATCH {self.statement.summary}" if self.is_batch else self.statement.summary


class Tracer(Protocol):
    """Where spans go."""

    def record(self, span: Span) -> None:
        """Report ``span`` as a child of what is current."""

    def traceparent(self) -> str | None:
        """What is current, in the form of https://www.w3.org/TR/trace-context/; None where nothing is traced."""


class Recorder(Protocol):
    """Who is told of spans."""

    def record(self, span: Span) -> None: ...


class Spans:
    """Makes the spans of one engine and hands them to its tracer, and to the meter that measures them."""

    def __init__(self, tracer: Tracer | None, *, system: str, meter: Recorder | None = None) -> None:
        recorders: tuple[Recorder | None, ...] = (tracer, meter)
        self._recorders = [recorder for recorder in recorders if recorder is not None]
        self._peer = Peer(system=system)
        self._tracer = tracer

    def traceparent(self) -> str | None:
        """What is current, for the tracer; None where nothing is traced."""
        return self._tracer.traceparent() if self._tracer is not None else None

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
        span = Span(peer=self._peer, began_s=ended_s - duration_s, ended_s=ended_s, **facts)
        for recorder in self._recorders:
            recorder.record(span)
