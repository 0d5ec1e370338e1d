"""The trace of a connection's life: SQLAlchemy's events in, Powertools log lines and counts out.

The only caller of ``sqlalchemy.event``. One JSON line per connect, checkout, checkin, invalidate, close, dispose:
checkouts and checkins at DEBUG, connects and closes at INFO, losses at WARNING. Nothing that it writes holds a
password, a token or a bound value: errors appear by type and SQLSTATE, statements by their text.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger
from sqlalchemy import event

from .errors import DbError, sqlstate, verdict
from .invocation import current_invocation
from .unit import unit_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection, Dialect, Engine
    from sqlalchemy.engine import ExceptionContext, ExecutionContext
    from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
    from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

    from .metrics import Tally

    Connect = Callable[[Dialect, Sequence[Any], dict[str, Any]], DBAPIConnection]

# No service of its own: Powertools then shares the handler's logger, and with it level, keys and correlation id.
logger = Logger()

# Powertools' Logger has no log(level, ...).
_WRITE = {logging.DEBUG: logger.debug, logging.INFO: logger.info, logging.WARNING: logger.warning}

LOGGED_SQL_CHARS = 1000  # of a slow statement; CloudWatch bills by the byte

# Keys in ConnectionPoolEntry.info, which lives as long as the connection does; times are wall-clock seconds.
OPENED_AT = "db_opened_at"
RETURNED_AT = "db_returned_at"
TAKEN_AT = "db_taken_at"
BACKEND_PID = "db_backend_pid"  # a lost connection can no longer be asked for it

# Execution option of statements that the layer sends for itself: timed, but not counted as the handler's.
OWN_STATEMENT = "db_own_statement"


class Lifecycle:
    """Watches one engine: counts into ``tally``, logs, and knows which driver connections are open."""

    def __init__(self, *, role: str, pool: str, tally: Tally, slow_query_s: float, clock: Callable[[], float]) -> None:
        self._role = role
        self._pool = pool
        self._tally = tally
        self._slow_query_s = slow_query_s
        self._clock = clock
        self._open: dict[int, DBAPIConnection] = {}
        self._in_use: set[int] = set()

    @property
    def in_use(self) -> int:
        """Connections checked out now."""
        return len(self._in_use)

    def close_open(self) -> None:
        """Close every connection that is still open, in whosever hands it is."""
        for connection in list(self._open.values()):
            connection.close()
            self._closed(connection)

    def forget(self) -> None:
        """Know of no connection any more, and leave them as they are."""
        self._open.clear()
        self._in_use.clear()

    def watch(self, engine: Engine, connect: Connect) -> None:
        """Listen to ``engine``; ``connect`` opens its connections, given the dialect and its connect arguments."""

        def do_connect(
            dialect: Dialect, _: ConnectionPoolEntry, cargs: Sequence[Any], cparams: dict[str, Any]
        ) -> DBAPIConnection:
            return self._timed_connect(connect, dialect, cargs, cparams)

        listeners: dict[str, Callable[..., Any]] = {
            "do_connect": do_connect,
            "connect": self._connected,
            "checkout": self._checked_out,
            "checkin": self._checked_in,
            "invalidate": self._invalidated,
            "soft_invalidate": self._invalidated,
            "detach": self._detached,
            "close": self._closed,
            "close_detached": self._closed,
            "engine_disposed": self._disposed,
            "before_cursor_execute": self._before_execute,
            "after_cursor_execute": self._after_execute,
            "commit": self._committing,
            "handle_error": self._failed,
        }
        for name, listener in listeners.items():
            event.listen(engine, name, listener)

    def _timed_connect(
        self, connect: Connect, dialect: Dialect, cargs: Sequence[Any], cparams: dict[str, Any]
    ) -> DBAPIConnection:
        started = time.perf_counter()
        try:
            connection = connect(dialect, cargs, cparams)
        except Exception as error:
            facts: dict[str, Any] = {
                "error": _named(error),
                "reason": _connect_reason(error),
                "verdict": verdict(error).value,
            }
            self._log(logging.WARNING, "connect failed", duration_ms=_ms_since(started), **facts)
            raise
        duration_ms = _ms_since(started)
        self._tally.connects += 1
        self._tally.connect_ms += duration_ms
        self._log(logging.INFO, "connect", backend_pid=_backend_pid(connection), duration_ms=duration_ms)
        return connection

    def _connected(self, connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        record.info[OPENED_AT] = self._clock()
        record.info[BACKEND_PID] = _backend_pid(connection)
        self._open[id(connection)] = connection

    def _checked_out(
        self, _connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: PoolProxiedConnection
    ) -> None:
        reused = RETURNED_AT in record.info
        record.info[TAKEN_AT] = self._clock()
        self._in_use.add(id(record))
        self._tally.checkouts += 1
        self._tally.reuses += reused
        if logger.log_level <= logging.DEBUG:
            self._log(logging.DEBUG, "checkout", record, reused=reused, idle_s=self._since(record, RETURNED_AT))

    def _checked_in(self, _connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        record.info[RETURNED_AT] = self._clock()
        self._in_use.discard(id(record))
        if logger.log_level <= logging.DEBUG:
            self._log(logging.DEBUG, "checkin", record, held_s=self._since(record, TAKEN_AT))

    def _invalidated(
        self, _connection: DBAPIConnection, record: ConnectionPoolEntry, error: BaseException | None
    ) -> None:
        self._tally.invalidations += 1
        self._log(logging.WARNING, "invalidate", record, error=_named(error), idle_s=self._since(record, RETURNED_AT))

    def _detached(self, _connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        self._in_use.discard(id(record))  # no longer the pool's: whoever detached it looks after it

    def _closed(self, connection: DBAPIConnection, record: ConnectionPoolEntry | None = None) -> None:
        if self._open.pop(id(connection), None) is None:
            return  # closed by close_open() already; the pool has found out now
        self._tally.closes += 1
        self._log(logging.INFO, "close", record)

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

    def _committing(self, conn: Connection) -> None:
        # On a connection that this side has closed, the driver sends nothing.
        unit_of(conn).commit_sent = not getattr(conn.connection.driver_connection, "closed", False)

    def _failed(self, context: ExceptionContext) -> None:
        if context.execution_context is not None:
            self._count(context.execution_context, context.statement or "")
        elif context.connection is not None and (unit := unit_of(context.connection)).commit_sent:
            # No statement's, and after COMMIT a unit sends nothing else that is none: so it is what failed.
            unit.commit_failed = True

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

    def _log(self, level: int, what: str, record: ConnectionPoolEntry | None = None, **facts: object) -> None:
        now = current_invocation()
        line = {
            "connection_event": what,
            "role": self._role,
            "pool": self._pool,
            "backend_pid": record.info.get(BACKEND_PID) if record is not None else None,
            "age_s": self._since(record, OPENED_AT),
            "cold": now.cold,
            "request_id": now.request_id,
            **facts,
        }
        _WRITE[level](f"database {what}", extra={key: value for key, value in line.items() if value is not None})

    def _since(self, record: ConnectionPoolEntry | None, key: str) -> float | None:
        since = record.info.get(key) if record is not None else None
        return round(max(self._clock() - since, 0.0), 3) if since is not None else None


def warn_of_echo(*, echo: str, echo_pool: str) -> None:
    """Say that echo is on where each line of it is paid for."""
    logger.warning("SQL echo is on inside Lambda", extra={"DB_ECHO": echo, "DB_ECHO_POOL": echo_pool})


def warn_of_leak(checked_out: int) -> None:
    """Say that the handler returned with connections still checked out: they idle in transaction over the freeze."""
    now = current_invocation()
    logger.warning(
        "the handler returned with connections checked out",
        extra={"connection_event": "leak", "checked_out": checked_out, "request_id": now.request_id},
    )


def log_retry(error: BaseException, *, attempt: int, delay_s: float) -> None:
    """Say that a transaction is tried again, and why."""
    now = current_invocation()
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


def _backend_pid(connection: DBAPIConnection) -> int | None:
    info = getattr(connection, "info", None)  # psycopg's; other drivers have none
    return getattr(info, "backend_pid", None)


def _connect_reason(error: BaseException) -> str | None:
    """What the server, or the network, said to a connect: it names host, user and database, and no value of a row."""
    text = str(error).partition("\n")[0]
    return (
        text
        if isinstance(error, DbError) or type(error).__name__ in {"OperationalError", "ConnectionTimeout"}
        else None
    )


def _named(error: BaseException | None) -> str | None:
    """An error by type and SQLSTATE: its message may repeat values of the row that failed."""
    if error is None:
        return None
    code = sqlstate(error)
    return f"{type(error).__name__} {code}" if code else type(error).__name__
