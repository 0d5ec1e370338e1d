"""The trace of a connection's life: SQLAlchemy's events in, Powertools log lines and metrics out.

The only caller of ``sqlalchemy.event``. One JSON line per connect, checkout, checkin, invalidate, close, dispose:
checkouts and checkins at DEBUG, connects and closes at INFO, losses at WARNING. Nothing that it writes holds a
password, a token or a bound value: errors appear by type and SQLSTATE, statements by their text.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit
from sqlalchemy import event

from .errors import CredentialsError, sqlstate, verdict
from .invocation import current_invocation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection, Dialect, Engine
    from sqlalchemy.engine import ExceptionContext, ExecutionContext
    from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
    from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

    Connect = Callable[[Dialect, Sequence[Any], dict[str, Any]], DBAPIConnection]

# No service of its own: Powertools then shares the handler's logger, and with it level, keys and correlation id.
logger = Logger()

# Powertools' Logger has no log(level, ...).
_WRITE = {logging.DEBUG: logger.debug, logging.INFO: logger.info, logging.WARNING: logger.warning}

DEFAULT_NAMESPACE = "ServerlessDataAccess"  # where POWERTOOLS_METRICS_NAMESPACE names none
LOGGED_SQL_CHARS = 1000  # of a slow statement; CloudWatch bills by the byte

# Keys in ConnectionPoolEntry.info, which lives as long as the connection does; the values are wall-clock seconds.
OPENED_AT = "db_opened_at"
RETURNED_AT = "db_returned_at"

# Execution option of statements that the layer sends for itself: timed, but not counted as the handler's.
OWN_STATEMENT = "db_own_statement"


@dataclass(slots=True)
class Tally:
    """What connections did. The names are those of ``db.status()``; the metrics are the same in CamelCase."""

    connects: int = 0
    connect_ms: float = 0.0
    checkouts: int = 0
    reuses: int = 0
    invalidations: int = 0
    closes: int = 0
    statements: int = 0
    database_ms: float = 0.0

    def since(self, earlier: Tally) -> Tally:
        """What was added after ``earlier`` was copied."""
        return Tally(*(now - then for now, then in zip(self._values(), earlier._values(), strict=True)))

    def copy(self) -> Tally:
        return dataclasses.replace(self)

    def as_dict(self) -> dict[str, int | float]:
        return dict(zip((f.name for f in dataclasses.fields(self)), self._values(), strict=True))

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, f.name) for f in dataclasses.fields(self))


def emit(tally: Tally) -> None:
    """Print ``tally`` in CloudWatch's embedded metric format; nothing where no connection was touched."""
    if tally == Tally():
        return
    metrics = EphemeralMetrics(namespace=os.environ.get("POWERTOOLS_METRICS_NAMESPACE") or DEFAULT_NAMESPACE)
    for name, value in tally.as_dict().items():
        unit = MetricUnit.Milliseconds if name.endswith("_ms") else MetricUnit.Count
        metrics.add_metric(name="".join(part.title() for part in name.split("_")), unit=unit, value=value)
    metrics.flush_metrics()


class Lifecycle:
    """Watches one engine: counts into ``tally``, logs, and knows which driver connections are open."""

    def __init__(self, *, role: str, pool: str, tally: Tally, slow_query_s: float, clock: Callable[[], float]) -> None:
        self._role = role
        self._pool = pool
        self._tally = tally
        self._slow_query_s = slow_query_s
        self._clock = clock
        self._open: dict[int, DBAPIConnection] = {}

    @property
    def open_connections(self) -> list[DBAPIConnection]:
        """Connections opened and not yet closed, whether pooled or checked out."""
        return list(self._open.values())

    def watch(self, engine: Engine, connect: Connect) -> None:
        """Listen to ``engine``; ``connect`` opens its connections, given the dialect and its connect arguments."""

        def do_connect(
            dialect: Dialect, _: ConnectionPoolEntry, cargs: Sequence[Any], cparams: dict[str, Any]
        ) -> DBAPIConnection:
            return self._timed_connect(connect, dialect, cargs, cparams)

        event.listen(engine, "do_connect", do_connect)
        event.listen(engine, "connect", self._connected)
        event.listen(engine, "checkout", self._checked_out)
        event.listen(engine, "checkin", self._checked_in)
        event.listen(engine, "invalidate", self._invalidated)
        event.listen(engine, "soft_invalidate", self._invalidated)
        event.listen(engine, "close", self._closed)
        event.listen(engine, "close_detached", self._closed)
        event.listen(engine, "engine_disposed", self._disposed)
        event.listen(engine, "before_cursor_execute", self._before_execute)
        event.listen(engine, "after_cursor_execute", self._after_execute)
        event.listen(engine, "handle_error", self._failed)

    def _timed_connect(
        self, connect: Connect, dialect: Dialect, cargs: Sequence[Any], cparams: dict[str, Any]
    ) -> DBAPIConnection:
        started = time.perf_counter()
        try:
            connection = connect(dialect, cargs, cparams)
        except Exception as error:
            self._log(
                logging.WARNING, "connect failed", duration_ms=_ms_since(started), error=_named(error),
                verdict=verdict(error).value,
            )  # fmt: skip
            raise
        duration_ms = _ms_since(started)
        self._tally.connects += 1
        self._tally.connect_ms += duration_ms
        self._log(logging.INFO, "connect", connection, duration_ms=duration_ms)
        return connection

    def _connected(self, connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        record.info[OPENED_AT] = self._clock()
        self._open[id(connection)] = connection

    def _checked_out(
        self, connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: PoolProxiedConnection
    ) -> None:
        reused = RETURNED_AT in record.info
        self._tally.checkouts += 1
        self._tally.reuses += reused
        if logger.log_level <= logging.DEBUG:
            self._log(logging.DEBUG, "checkout", connection, record, reused=reused)

    def _checked_in(self, connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        record.info[RETURNED_AT] = self._clock()
        if logger.log_level <= logging.DEBUG:
            self._log(logging.DEBUG, "checkin", connection, record)

    def _invalidated(
        self, connection: DBAPIConnection, record: ConnectionPoolEntry, error: BaseException | None
    ) -> None:
        self._tally.invalidations += 1
        self._log(logging.WARNING, "invalidate", connection, record, error=_named(error))

    def _closed(self, connection: DBAPIConnection, record: ConnectionPoolEntry | None = None) -> None:
        self._tally.closes += 1
        self._open.pop(id(connection), None)
        self._log(logging.INFO, "close", connection, record)

    def _disposed(self, _engine: Engine) -> None:
        self._log(logging.INFO, "dispose", left_open=len(self._open))

    def _before_execute(
        self, _conn: Connection, _cursor: DBAPICursor, _statement: str, _parameters: Any, context: Any, _many: bool
    ) -> None:
        context.db_started = time.perf_counter()

    def _after_execute(
        self, _conn: Connection, _cursor: DBAPICursor, statement: str, _parameters: Any, context: Any, _many: bool
    ) -> None:
        self._count(context, statement)

    def _failed(self, context: ExceptionContext) -> None:
        if context.execution_context is not None:
            self._count(context.execution_context, context.statement or "")

    def _count(self, context: ExecutionContext | Any, statement: str) -> None:
        started = context.__dict__.pop("db_started", None)
        if started is None:
            return
        duration_ms = _ms_since(started)
        self._tally.database_ms += duration_ms
        if context.execution_options.get(OWN_STATEMENT):
            return
        self._tally.statements += 1
        if duration_ms >= self._slow_query_s * 1000:
            self._log(
                logging.WARNING, "slow query", duration_ms=duration_ms, statement=statement[:LOGGED_SQL_CHARS],
                rows=context.cursor.rowcount if context.cursor is not None else None,
            )  # fmt: skip

    def _log(
        self,
        level: int,
        what: str,
        connection: DBAPIConnection | None = None,
        record: ConnectionPoolEntry | None = None,
        **facts: object,
    ) -> None:
        now = current_invocation.get()
        line = {
            "connection_event": what,
            "role": self._role,
            "pool": self._pool,
            "backend_pid": _backend_pid(connection),
            "age_s": self._seconds_since(record, OPENED_AT),
            "idle_s": self._seconds_since(record, RETURNED_AT) if what != "checkin" else None,
            "cold": now.cold,
            "request_id": now.request_id,
            **facts,
        }
        message = f"database {what}"
        _WRITE[level](message, extra={key: value for key, value in line.items() if value is not None})

    def _seconds_since(self, record: ConnectionPoolEntry | None, key: str) -> float | None:
        since = record.info.get(key) if record is not None else None
        return round(max(self._clock() - since, 0.0), 3) if since is not None else None


def warn_of_echo(*, echo: str, echo_pool: str) -> None:
    """Say that echo is on where each line of it is paid for."""
    logger.warning("SQL echo is on inside Lambda", extra={"DB_ECHO": echo, "DB_ECHO_POOL": echo_pool})


def warn_of_leak(checked_out: int) -> None:
    """Say that the handler returned with connections still checked out: they idle in transaction over the freeze."""
    now = current_invocation.get()
    logger.warning(
        "the handler returned with connections checked out",
        extra={"connection_event": "leak", "checked_out": checked_out, "request_id": now.request_id},
    )


def log_retry(error: BaseException, *, attempt: int, delay_s: float) -> None:
    """Say that a transaction is tried again, and why."""
    now = current_invocation.get()
    logger.warning(
        "transaction retried",
        extra={
            "connection_event": "retry",
            "attempt": attempt,
            "delay_s": round(delay_s, 3),
            "error": _named(error),
            "verdict": verdict(error).value,
            "request_id": now.request_id,
        },
    )


def _ms_since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 3)


def _backend_pid(connection: DBAPIConnection | None) -> int | None:
    info = getattr(connection, "info", None)  # psycopg's; other drivers have none
    return getattr(info, "backend_pid", None) if info is not None and not getattr(connection, "closed", False) else None


def _named(error: BaseException | None) -> str | None:
    """An error by type and SQLSTATE: its message may repeat values of the row that failed."""
    if error is None:
        return None
    if isinstance(error, CredentialsError):
        return str(error)  # holds the secret's name and no value, by contract
    code = sqlstate(error)
    return f"{type(error).__name__} {code}" if code else type(error).__name__
