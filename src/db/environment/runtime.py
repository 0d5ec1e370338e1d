"""One configuration at work: its credentials sources and engines, built on first use, and closed together.

``process`` holds one for each database and replaces it whole.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import threading
import time
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from sqlalchemy.pool import QueuePool

from db.credentials.choice import source_for
from db.errors import claim
from db.pool.connect_arguments import endpoint, port
from db.pool.connector import Connector
from db.pool.crowding import Crowding
from db.pool.engine_options import EngineOptions
from db.pool.engines import build_engine
from db.pool.pools import IdleAwareQueuePool, capacity
from db.pool.reader_route import ReaderConnector, ReaderRoute
from db.pool.switchover import Switchover, WaryConnector, serve_until
from db.telemetry.connection_events import ConnectionEvents
from db.telemetry.log import warn_of_echo
from db.telemetry.metrics import DEFAULT_DATABASE, PoolNumbers, Tally
from db.timing.invocation import current_invocation

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Dialect, Engine

    from db.credentials.source import Source
    from db.pool.connect_arguments import Role
    from db.settings import Auth, PoolKind, Settings

# The longest connect to a reader, however long DB_CONNECT_TIMEOUT_S lets the writer's be: that setting's default.
READER_PATIENCE_S = 5.0


class EngineStatus(TypedDict):
    """The connections of one engine, now."""

    kind: str
    size: int
    idle: int
    checked_out: int


class Status(TypedDict):
    """What ``status`` gives."""

    database: NotRequired[str]  # its name, where it is not the default one
    source: Auth
    pool: PoolKind
    cold: bool
    request_id: str | None
    engines: dict[str, EngineStatus]
    totals: dict[str, int | float]


class Runtime:
    """One configuration at work: at most one engine for each role."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.time,
        options: EngineOptions | None = None,
    ) -> None:
        self.settings = settings
        self.options = options or EngineOptions()
        self.isolation = self.options.isolation
        self.clock = clock
        self.tallies: dict[str, Tally] = {}  # by pool
        self._sources: dict[str | None, Source | None] = {}
        self._engines: dict[tuple[Role, bool], tuple[Engine, ConnectionEvents]] = {}
        self.disposals = 0
        self._ready: set[tuple[Role, bool]] = set()  # those of the engines that anybody may have without a lock
        self.kept: dict[str, Any] = {}  # what rooms above work out once, each by its name
        self._lock = threading.RLock()  # what listens to an engine may ask for another
        self._crowding = Crowding(self.clock)
        self._switchover = Switchover(self.clock)
        self.reader_route = ReaderRoute(self.clock, max_lag_s=settings.reader_max_lag_s, database=settings.database)
        if settings.function_name and (settings.echo, settings.echo_pool) != ("off", "off"):
            warn_of_echo(
                echo=settings.echo, echo_pool=settings.echo_pool, prefix=settings.prefix, database=settings.database
            )

    @property
    def tally(self) -> Tally:
        """Of all its pools, now: a copy."""
        return Tally.sum(list(self.tallies.values()))

    def engine(self, role: Role = "writer", *, asynchronous: bool = False) -> Engine:
        """The engine for ``role``. Without a reader endpoint, the reader is the writer.

        ``unpooled`` is the writer with connections that close when they are done: for what changes a whole session.
        An ``asynchronous`` one has connections of its own, and works in greenlets under an event loop only.
        """
        if role == "reader" and not self.settings.reader_host:
            role = "writer"
        if role == "unpooled" and self._is_in_one_connection:
            role = "writer"  # another connection would be another database
        key = role, asynchronous
        if key in self._ready:
            return self._engines[key][0]
        with self._lock:
            if key not in self._engines:
                try:
                    self._engines[key] = self._build(role, asynchronous=asynchronous)
                except Exception as error:
                    claim(error, database=self.settings.database, prefix=self.settings.prefix)
                    raise
                if self.options.on_engine is not None:
                    self._tell_of(key, self.options.on_engine)
                self._ready.add(key)
            return self._engines[key][0]

    @property
    def _is_in_one_connection(self) -> bool:
        settings = self.settings
        return settings.url is not None and settings.engine_kind.in_one_connection(settings.url)

    def _tell_of(self, key: tuple[Role, bool], on_engine: Callable[[Engine], object]) -> None:
        """Call ``on_engine``. An engine that it raises for would lack its listeners, and is not kept."""
        engine, watched = self._engines[key]  # kept by now, as it may be asked for in there
        try:
            _require_done(on_engine(engine))
        except BaseException:
            del self._engines[key]
            engine.dispose()
            watched.close_open()
            raise

    def _build(self, role: Role, *, asynchronous: bool) -> tuple[Engine, ConnectionEvents]:
        settings = self.settings
        if role == "unpooled":
            # Without the type hstore: a migration may be what brings it.
            settings = dataclasses.replace(
                settings, pool="null", pool_size=1, max_overflow=0, native_hstore=False, warm="off"
            )
        pool = _pool_key(role, asynchronous=asynchronous)
        watched = ConnectionEvents(
            settings,
            role=role,
            pool=pool,
            tally=self.tallies.setdefault(pool, Tally()),
            clock=self.clock,
            on_loss=self._switchover.suspect,
            on_refused_write=self.discard_open,
        )
        # A pooler tells what one of its servers once said of itself, and chooses another for each transaction.
        writes = role != "reader" and settings.proxy == "none"
        connect = WaryConnector(self._connector(role), self._switchover, writes=writes)
        engine = build_engine(settings, connect, watched, asynchronous=asynchronous, further=self.options)
        return engine, watched

    def _connector(self, role: Role) -> Connector | ReaderConnector:
        to_writer = Connector(
            self.settings, self._source("writer"), role="writer", clock=self.clock, crowding=self._crowding
        )
        if role != "reader":
            return to_writer
        # The writer stands in sooner than a reader is waited for, or one that has paused resumes.
        patience_s = min(self.settings.connect_timeout_s, READER_PATIENCE_S)
        once = dataclasses.replace(self.settings, connect_wait_s=0.0, connect_timeout_s=patience_s)
        to_reader = Connector(once, self._source(role), role=role, clock=self.clock)
        return ReaderConnector(to_reader, to_writer, self.reader_route)

    def _source(self, role: Role) -> Source | None:
        # A secret serves both endpoints; a token is signed for one.
        host = endpoint(self.settings, role)
        key = host if self.settings.source in {"iam", "dsql"} else None
        if key not in self._sources:
            settings = dataclasses.replace(self.settings, port=port(self.settings, role))
            self._sources[key] = source_for(settings, host, clock=self.clock)
        return self._sources[key]

    def has(self, engine: Engine | None) -> bool:
        """Whether ``engine`` is one of these."""
        return any(built is engine for built, _ in list(self._engines.values()))

    def made(self, dialect: Dialect) -> bool:
        """Whether ``dialect`` is that of one of the engines, which its copies with other options share."""
        return any(built.dialect is dialect for built, _ in list(self._engines.values()))

    def checked_out(self) -> int:
        """Connections in a handler's hands now."""
        return sum(watched.in_use for _, watched in self._engines.values())

    def open_connections(self) -> list[Any]:
        """The driver connections that are open now. Takes no lock, so a signal handler may ask."""
        return [found for _, watched in list(self._engines.values()) for found in watched.open_connections]

    def forget_credentials(self) -> None:
        """Drop what the sources have cached; the next connect asks again."""
        for source in self._sources.values():
            if source is not None:
                source.forget()

    def dispose(self) -> None:
        """Close every connection, those in use among them. The engines stay usable and connect again when asked."""
        self.disposals += 1
        for engine, watched in self._engines.values():
            engine.dispose()
            watched.close_open()

    def let_go(self) -> None:
        """Close what nobody is at work on, as nobody will ask for it again."""
        for engine, watched in self._engines.values():
            if watched.open_connections:
                engine.dispose()

    def discard_idle(self) -> None:
        """Close what the pools keep idle, of every engine; what somebody else is at work on stays."""
        for engine, _ in list(self._engines.values()):
            if isinstance(engine.pool, IdleAwareQueuePool):
                engine.pool.close_idle()

    def discard_open(self) -> None:
        """Let nobody else have what is open now: a writer refused to write, so a name has come to mean another."""
        self._switchover.suspect()
        for connection in self.open_connections():
            serve_until(connection, self.clock())
        self.discard_idle()

    def end_of_invocation(self) -> None:
        """While the database is crowded, keep nothing of it: others wait for what would idle here."""
        if self._crowding.crowded:
            self.discard_idle()

    def abandon(self) -> None:
        """Forget every connection without closing it: after a restore they are open nowhere."""
        for engine, watched in self._engines.values():
            watched.forget()
            engine.dispose(close=False)

    def after_fork(self) -> None:
        """In a forked child: its connections are the parent's, so are numbers, and threads that held a lock."""
        self._lock = threading.RLock()
        for source in self._sources.values():
            if source is not None:
                source.part()
        for _, watched in self._engines.values():
            watched.part()
        self.abandon()
        for tally in self.tallies.values():
            tally.clear()

    def pools(self) -> list[PoolNumbers]:
        """What each pool holds now and has counted."""
        settings, found = self.settings, []
        for (role, asynchronous), (engine, watched) in list(self._engines.items()):
            limit = capacity(engine)
            pool = _pool_key(role, asynchronous=asynchronous)
            numbers = PoolNumbers(
                database=settings.database or DEFAULT_DATABASE,
                pool=pool,
                idle=watched.idle,
                used=watched.in_use,
                limit=None if limit == math.inf else int(limit),
                idle_limit=_kept(engine),
                pending=watched.waits.pending,
                counted=self.tallies[pool].copy(),
            )
            found.append(numbers)
        return found

    def status(self) -> Status:
        """What ``db.status()`` promises."""
        now = current_invocation()
        status: Status = {
            "source": self.settings.source,
            "pool": self.settings.pool,
            "cold": now.cold,
            "request_id": now.request_id,
            "engines": {
                _pool_key(role, asynchronous=asynchronous): _pool_numbers(*built)
                for (role, asynchronous), built in self._engines.items()
            },
            "totals": self.tally.as_dict(),
        }
        if self.settings.database is not None:
            status["database"] = self.settings.database
        return status


def _pool_key(role: Role, *, asynchronous: bool) -> str:
    """What ``db.status()`` and metrics call a pool."""
    return f"aio {role}" if asynchronous else role


def _require_done(listened: object) -> None:
    """Raise TypeError for what ``on_engine`` gave back where that is work that nobody will do."""
    if inspect.isawaitable(listened) or inspect.isgenerator(listened) or inspect.isasyncgen(listened):
        if inspect.iscoroutine(listened):
            listened.close()  # it would be warned of
        raise TypeError(
            "on_engine of db.configure is an ordinary function, which has listened when it returns: it is called for "
            "the engines of db.aio as well, and there takes the plain one below (sync_engine)"
        )


def _pool_numbers(engine: Engine, watched: ConnectionEvents) -> EngineStatus:
    pool = engine.pool
    idle = pool.checkedin() if isinstance(pool, QueuePool) else 0
    kind = type(pool).__name__.replace("IdleAware", "")
    return {"kind": kind, "size": _kept(engine), "idle": idle, "checked_out": watched.in_use}


def _kept(engine: Engine) -> int:
    """How many connections the engine's pool keeps when nobody has them, at most."""
    return engine.pool.size() if isinstance(engine.pool, QueuePool) else 0
