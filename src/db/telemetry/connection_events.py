"""The trace of a connection's life: SQLAlchemy's events in, Powertools log lines and counts out.

The only caller of ``sqlalchemy.event``. One JSON line per connect, checkout, checkin, invalidate, close, dispose:
checkouts and checkins at DEBUG, connects and closes at INFO, losses at WARNING. Nothing that it writes holds a
password, a token or a value: errors appear by type and SQLSTATE, statements by their fingerprint.
"""

from __future__ import annotations

import logging
import sys
import time
import weakref
from typing import TYPE_CHECKING, Any

from sqlalchemy import event, exc

from db.errors import ASKED_TO_BE_READ_ONLY, DbError, Verdict, claim, verdict
from db.timing.invocation import current_invocation
from db.wire.commit_outcome import FOR, unit_of
from db.wire.first_flight import refused_on
from db.wire.forked import part_from
from db.wire.session_leftovers import IN_HANDS, LEFT

from .holders import place_in_task, place_of, task_now
from .log import LOGGED, WRITE, warn_of_leftovers
from .metrics import Waits
from .statement_events import StatementEvents, named

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection, Dialect, Engine
    from sqlalchemy.engine import ExceptionContext
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

    from db.settings import Settings
    from db.wire.first_flight import Refused

    from .metrics import Tally

    OnWait = Callable[[Exception, int, float], None]
    Connect = Callable[[Dialect, Sequence[Any], dict[str, Any], OnWait, Refused | None], DBAPIConnection]

# Keys in ConnectionPoolEntry.info, which lives as long as the connection does; times are wall-clock seconds.
OPENED_AT = "db_opened_at"
RETURNED_AT = "db_returned_at"
TAKEN_AT = "db_taken_at"
TAKEN_FROM = "db_taken_from"  # the user's line of code
TAKEN_IN = "db_taken_in"  # the task, where the engine is for tasks; None where nobody has it
BACKEND_PID = "db_backend_pid"  # a lost connection can no longer be asked for it
# Connections of the process that this one was forked from. They are kept, for one of asyncio's that is collected takes
# its socket out of an epoll that it shares with the parent's.
_parents: list[DBAPIConnection] = []


class ConnectionEvents:
    """Watches one engine: counts into ``tally``, logs, and knows which driver connections are open."""

    _dialect: Dialect  # from watch() on

    def __init__(
        self,
        settings: Settings,
        *,
        role: str,
        tally: Tally,
        clock: Callable[[], float],
        on_loss: Callable[[], None],
        on_refused_write: Callable[[], None],
        pool: str | None = None,
    ) -> None:
        """``on_loss`` is told of each connection found dead, ``on_refused_write`` of a writer that took no write.

        ``pool`` is what metrics call it: the ``role``, unless that has two.
        """
        self._role = role
        self._on_loss = on_loss
        self._on_refused_write = on_refused_write
        self._pool = settings.pool
        self._database = settings.database
        self._prefix = settings.prefix
        self._tally = tally
        self._clock = clock
        self._statements = StatementEvents(settings, tally=tally, log=self._log, pool=pool or role)
        meter = self._statements.meter
        self._on_use = meter.used if meter is not None else None
        self.waits = Waits(tally, meter.waited if meter is not None else None)
        self._open: dict[int, DBAPIConnection] = {}
        self._records: dict[int, weakref.ref[ConnectionPoolEntry]] = {}  # the pools' hold on those that are open

    @property
    def in_use(self) -> int:
        """Connections checked out now."""
        records = [found for record in list(self._records.values()) if (found := record()) is not None]
        return sum(record.in_use for record in records)

    @property
    def idle(self) -> int:
        """Connections that the pool keeps, and nobody has, now."""
        return max(len(self._records) - self.in_use, 0)

    @property
    def open_connections(self) -> list[DBAPIConnection]:
        """The driver connections that are open now, in whosever hands they are."""
        return list(self._open.values())

    def close_open(self) -> None:
        """Close every connection that is still open, in whosever hands it is."""
        for connection in self.open_connections:
            self._dialect.do_close(connection)
            self._closed(connection)

    def forget(self) -> None:
        """Know of no connection any more, and leave them as they are: a forked child's are its parent's."""
        _parents.extend(self._open.values())
        self._open.clear()
        self._records.clear()

    def part(self) -> None:
        """In a forked child: what is said over its copies of the connections must not reach the server.

        A unit of work that was open at the fork ends in the child too, and would commit or roll back the parent's.
        """
        for connection in self.open_connections:
            part_from(connection)
        self.waits.part()

    def watch(self, engine: Engine, connect: Connect) -> None:
        """Listen to ``engine``; ``connect`` opens its connections, given the dialect and its connect arguments."""
        self._dialect = engine.dialect

        def do_connect(
            dialect: Dialect, record: ConnectionPoolEntry, cargs: Sequence[Any], cparams: dict[str, Any]
        ) -> DBAPIConnection:
            return self._timed_connect(connect, dialect, cargs, cparams, refused_on(record))

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
            "handle_error": self._failed,
        }
        for name, listener in listeners.items():
            event.listen(engine, name, listener)
        self._statements.watch(engine.dialect)
        if hasattr(engine.dialect, "on_replay"):
            engine.dialect.on_replay = self.replayed
        self._hear_of_disposals(engine)

    def _timed_connect(
        self,
        connect: Connect,
        dialect: Dialect,
        cargs: Sequence[Any],
        cparams: dict[str, Any],
        refused: Refused | None,
    ) -> DBAPIConnection:
        self._close_lost()  # first, so that the server holds no more than the pool has room for
        started, waits = time.perf_counter(), _Waits()

        def on_wait(error: Exception, attempt: int, delay_s: float) -> None:
            # One line says that a wait has begun, and the last one how it went: a burst must not flood the log.
            level = logging.WARNING if attempt == 1 else logging.DEBUG
            waits.add(delay_s)
            self._log(level, "connect waits", attempt=attempt, delay_s=round(delay_s, 3), **_why(error))

        try:
            connection = connect(dialect, cargs, cparams, on_wait, refused)
        except Exception as error:
            duration_ms = _ms_since(started)
            self._log(logging.WARNING, "connect failed", duration_ms=duration_ms, **waits.facts(), **_why(error))
            self._statements.connected(None, duration_ms / 1000, error)
            claim(error, database=self._database, prefix=self._prefix)
            raise
        duration_ms = _ms_since(started)
        self._tally.connects += 1
        self._tally.connect_ms += duration_ms
        pid = _backend_pid(connection)
        self._log(logging.INFO, "connect", backend_pid=pid, duration_ms=duration_ms, **waits.facts())
        self._statements.connected(connection, duration_ms / 1000, None)
        return connection

    def _connected(self, connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        record.info[OPENED_AT] = self._clock()
        record.info[BACKEND_PID] = _backend_pid(connection)
        _watched_by(record.info, connection)
        self._open[id(connection)] = connection
        self._records[id(connection)] = weakref.ref(record)

    def _checked_out(
        self, _connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: PoolProxiedConnection
    ) -> None:
        info = record.info  # each time, Python would look at the class first
        reused = RETURNED_AT in info
        info[TAKEN_AT] = self._clock()
        if self._dialect.is_async:
            info[TAKEN_IN], info[TAKEN_FROM] = task_now(), place_in_task()
        else:
            unit = record.__dict__.get(FOR)
            # A unit of work knows its own, which costs no walk from here to there.
            info[TAKEN_FROM] = unit.place if unit is not None else place_of(sys._getframe())  # noqa: SLF001 - there is no other way to a frame
        self._tally.checkouts += 1
        if reused:
            self._tally.reuses += 1
        if LOGGED.level <= logging.DEBUG:
            self._log(logging.DEBUG, "checkout", record, reused=reused, idle_s=self._since(record, RETURNED_AT))

    def _checked_in(self, _connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        info = record.info
        info[RETURNED_AT] = now = self._clock()
        if self._on_use is not None and TAKEN_AT in info:
            self._on_use(max(now - info[TAKEN_AT], 0.0))
        info[TAKEN_IN], info[IN_HANDS] = None, False  # what a listener says to whom it comes back is nobody's
        if LEFT in info:
            warn_of_leftovers(info[LEFT], by="the plain engine", database=self._database, dialect=self._dialect.name)
        if LOGGED.level <= logging.DEBUG:
            self._log(logging.DEBUG, "checkin", record, held_s=self._since(record, TAKEN_AT))

    def _invalidated(
        self, _connection: DBAPIConnection, record: ConnectionPoolEntry, error: BaseException | None
    ) -> None:
        self._tally.invalidations += 1
        if isinstance(error, (self._dialect.loaded_dbapi.Error, exc.DisconnectionError)):
            self._on_loss()  # not what was dropped for its age, or for an exception that struck in the middle
        self._log(logging.WARNING, "invalidate", record, error=named(error), idle_s=self._since(record, RETURNED_AT))

    def _detached(self, connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        self._records.pop(id(connection), None)  # no longer the pool's: whoever detached it looks after it
        _watched_by(None, connection)

    def _closed(self, connection: DBAPIConnection, record: ConnectionPoolEntry | None = None) -> None:
        self._records.pop(id(connection), None)
        if self._open.pop(id(connection), None) is None:
            return  # closed by close_open() already; the pool has found out now
        self._tally.closes += 1
        self._log(logging.INFO, "close", record)

    def _close_lost(self) -> None:
        """Close what no pool has a hold on any more: an exception of a signal handler struck where it was in no hands.

        Or its pool was disposed of while it was in use.
        """
        for key in [key for key, record in list(self._records.items()) if record() is None]:
            if (connection := self._open.get(key)) is not None:
                self._dialect.do_close(connection)
                self._closed(connection)

    def _hear_of_disposals(self, engine: Engine) -> None:
        """Listen to the one event of an engine that none of its Connections looks for.

        Unlike a method put in the place of ``dispose``, it is the own event of a copy, and of an engine with options.
        """
        had_events = "_has_events" in vars(engine)
        event.listen(engine, "engine_disposed", self._disposed)
        if not had_events:
            # SQLAlchemy's mark of an engine whose Connections look for listeners. Each puts together a set of its own,
            # which costs a transaction more than all that is watched here.
            del vars(engine)["_has_events"]

    def _disposed(self, _engine: Engine) -> None:
        self._log(logging.INFO, "dispose", left_open=len(self._open))

    def replayed(self, connection: PoolProxiedConnection, error: BaseException) -> None:
        """The first statement of a checkout found its connection dead, and was sent again over this new one."""
        connection.info[TAKEN_AT] = self._clock()  # what was known of the old one went with it
        self._log(logging.INFO, "replay", backend_pid=connection.info.get(BACKEND_PID), error=named(error))

    def _failed(self, context: ExceptionContext) -> None:
        if context.sqlalchemy_exception is not None:
            # Here, and not where it leaves its unit of work: that of another database may be the inner one.
            claim(context.sqlalchemy_exception, database=self._database, prefix=self._prefix)
        conn = context.connection
        if conn is None or conn.invalidated or conn.closed:
            return
        if verdict(context.original_exception) is Verdict.DISCARD_POOL:
            if self._asked_to_read(conn):
                setattr(context.original_exception, ASKED_TO_BE_READ_ONLY, True)
            elif self._role != "reader":
                self._on_refused_write()
        if context.execution_context is not None:
            unit_of(conn.connection).statement_failed = True

    def _asked_to_read(self, conn: Connection) -> bool:
        """Whether whoever opened the transaction said that it only reads, or the first of its statements did."""
        dialect: Any = self._dialect
        return unit_of(conn.connection).said_read_only or bool(dialect.get_readonly(conn.connection.dbapi_connection))

    def _log(self, level: int, what: str, record: ConnectionPoolEntry | None = None, **facts: object) -> None:
        now = current_invocation()
        line = {
            "connection_event": what,
            "database": self._database,
            "role": self._role,
            "pool": self._pool,
            "backend_pid": record.info.get(BACKEND_PID) if record is not None else None,
            "age_s": self._since(record, OPENED_AT),
            "cold": now.cold,
            "request_id": now.request_id,
            **facts,
        }
        WRITE[level](f"database {what}", extra={key: value for key, value in line.items() if value is not None})

    def _since(self, record: ConnectionPoolEntry | None, key: str) -> float | None:
        since = record.info.get(key) if record is not None else None
        return round(max(self._clock() - since, 0.0), 3) if since is not None else None


def _watched_by(pools_notes: dict[Any, Any] | None, connection: DBAPIConnection) -> None:
    """Have the driver's connection note there what is left on its session; SQLite's has none."""
    driver: Any = getattr(connection, "driver_connection", connection)
    if hasattr(driver, "pools_notes"):
        driver.pools_notes = pools_notes


def _ms_since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 3)


def _backend_pid(connection: DBAPIConnection) -> int | None:
    info: Any = getattr(connection, "info", None)  # psycopg's; SQLite has none
    if info is None:
        ask = getattr(getattr(connection, "driver_connection", None), "get_server_pid", None)  # asyncpg's
        return int(ask()) if ask is not None else None
    return int(info.backend_pid)


class _Waits:
    """How often, and how long, one connect waited."""

    def __init__(self) -> None:
        self._delays_s: list[float] = []

    def add(self, delay_s: float) -> None:
        self._delays_s.append(delay_s)

    def facts(self) -> dict[str, Any]:
        """Nothing where the first attempt was the last."""
        if not self._delays_s:
            return {}
        return {"attempts": len(self._delays_s) + 1, "waited_s": round(sum(self._delays_s), 3)}


def _why(error: Exception) -> dict[str, Any]:
    return {"error": named(error), "reason": _connect_reason(error), "verdict": verdict(error).value}


def _connect_reason(error: BaseException) -> str | None:
    """What the server, or the network, said to a connect: it names host, user and database, and no value of a row."""
    text = str(error).partition("\n")[0]
    return (
        text
        if isinstance(error, DbError) or type(error).__name__ in {"OperationalError", "ConnectionTimeout"}
        else None
    )
