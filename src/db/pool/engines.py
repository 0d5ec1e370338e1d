"""Settings to engines: which pool, and who opens its connections.

``plan_pool`` decides, as a function of values; ``build_engine`` does. How a connection is opened: ``connector``.
"""

from __future__ import annotations

import asyncio  # SQLAlchemy has loaded it
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import URL, create_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool, Pool, QueuePool, StaticPool

from db.errors import ConfigurationError
from db.telemetry.connection_events import RETURNED_AT
from db.telemetry.log import warn_of_lost_loop
from db.wire.flight import FlightState
from db.wire.psycopg_dialect import DRIVER, first_schema

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Dialect, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

    from db.settings import Settings
    from db.telemetry.connection_events import Connect, Lifecycle

# RDS Proxy pins a session for a statement of more than 16 KB: with this many rows of an INSERT, some 300 bytes of text
# are left for each. https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/rds-proxy-pinning.html
_ROWS_BELOW_16_KB = 50
_ECHO: dict[str, bool | Literal["debug"]] = {"off": False, "on": True, "debug": "debug"}


class StaleConnectionError(Exception):
    """Why a pooled connection was dropped unasked. Never raised.

    It was idle for longer than DB_POOL_IDLE_S, or it only stood in for a reader.
    """


class IdleAwareQueuePool(QueuePool):
    """QueuePool that also replaces a connection which was idle for ``idle_s``, by wall clock.

    ``pool_recycle`` counts from the connect, so a socket that a NAT gateway forgot during a freeze passes it.
    """

    def __init__(self, creator: Any, idle_s: float = math.inf, **kwargs: Any) -> None:
        # Not keyword-only: create_engine() finds a pool's arguments by reading its positional ones.
        super().__init__(creator, **kwargs)
        self._idle_s = idle_s

    def _do_get(self) -> ConnectionPoolEntry:
        record = super()._do_get()
        returned_at = record.info.get(RETURNED_AT)
        if returned_at is not None and self._is_stale(record, returned_at, now=time.time()):
            record.invalidate(StaleConnectionError())
        return record

    def _is_stale(self, record: ConnectionPoolEntry, returned_at: float, *, now: float) -> bool:
        driver = record.driver_connection
        stood_in = isinstance(driver, FlightState) and now >= driver.serves_until
        return stood_in or now - returned_at >= self._idle_s

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        if isinstance(driver := record.driver_connection, FlightState):
            driver.parked()
        super()._do_return_conn(record)

    def recreate(self) -> IdleAwareQueuePool:
        pool = super().recreate()
        assert isinstance(pool, IdleAwareQueuePool)  # noqa: S101 - QueuePool recreates its own class
        pool._idle_s = self._idle_s  # noqa: SLF001 - the same class
        return pool


class AsyncIdleAwareQueuePool(IdleAwareQueuePool, AsyncAdaptedQueuePool):
    """The same for connections that are bound to an event loop. It serves the one that it first meets.

    When that has been closed, what the pool kept is of no use any more and it begins anew on the next one. On a second
    loop beside the first it raises ConfigurationError.
    """

    _loop: asyncio.AbstractEventLoop | None = None

    def _do_get(self) -> ConnectionPoolEntry:
        self._stay_on(asyncio.get_running_loop())
        return super()._do_get()

    def _stay_on(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not None and self._loop is not loop:
            if not self._loop.is_closed():
                problem = (
                    "the connections of db.aio belong to another event loop, which is still open: make the handler "
                    "async def instead of calling asyncio.run() in it, or use db.begin() here"
                )
                raise ConfigurationError([problem])
            warn_of_lost_loop()
            self.dispose()
            self._pool = self._queue_class(self._pool.maxsize, self._pool.use_lifo)
        self._loop = loop


@dataclass(frozen=True)
class PoolPlan:
    """A pool class and the arguments to ``create_engine`` that go with it."""

    pool_class: type[Pool]
    arguments: Mapping[str, Any]


def plan_pool(settings: Settings, *, asynchronous: bool = False) -> PoolPlan:
    """The pool that ``settings`` ask for. SQLite in memory gets one connection always: it is the data."""
    url = settings.url
    if settings.is_sqlite and (settings.pool == "static" or url is None or url.database in {None, "", ":memory:"}):
        return PoolPlan(StaticPool, {"connect_args": {"check_same_thread": False}})
    if settings.pool == "null":
        return PoolPlan(NullPool, {})
    return PoolPlan(
        AsyncIdleAwareQueuePool if asynchronous else IdleAwareQueuePool,
        {
            "pool_size": settings.async_connections if asynchronous else settings.pool_size,
            "max_overflow": 0 if asynchronous else settings.max_overflow,
            "pool_timeout": settings.pool_timeout_s,
            "pool_recycle": settings.pool_recycle_s,
            "pool_pre_ping": settings.pool_pre_ping,
            "idle_s": settings.pool_idle_s,
        },
    )


def capacity(engine: Engine) -> float:
    """How many connections the engine's pool can have checked out at once."""
    match engine.pool:
        case QueuePool() as pool:
            return pool.size() + pool._max_overflow  # noqa: SLF001 - it has no public name
        case StaticPool():
            return 1
    return math.inf


def _own_dialect(url: URL) -> URL:
    """``url`` with the dialect of this package, which speaks through psycopg. Raises ConfigurationError for another."""
    match url.drivername:
        case "postgresql" | "postgresql+psycopg":
            return url.set(drivername=DRIVER)
        case other if url.get_backend_name() == "postgresql" and other != DRIVER:
            # Tenant and time limits travel through the driver: without them it would be another product.
            raise ConfigurationError([f"DB_URL names {other}: PostgreSQL is reached through psycopg here"])
    return url


def _create_async_engine(url: URL, **arguments: Any) -> Engine:
    # Imports the ORM: only who uses it.
    from sqlalchemy.ext.asyncio import create_async_engine

    return create_async_engine(url, **arguments).sync_engine


def _async_driver(settings: Settings, url: URL) -> tuple[URL, dict[str, Any]]:
    """``url`` with the dialect that DB_ASYNC_DRIVER names, and that dialect's arguments. Raises ConfigurationError."""
    if url.get_backend_name() != "postgresql":
        raise ConfigurationError(["db.aio is for PostgreSQL only: DB_URL names another database"])
    if settings.async_driver == "psycopg":
        return url, {}
    if settings.reader_max_lag_s is not None:
        raise ConfigurationError(
            ["DB_READER_MAX_LAG_S is looked at by psycopg alone, not with DB_ASYNC_DRIVER=asyncpg"]
        )
    try:
        from db.wire.asyncpg_dialect import DRIVER as ASYNCPG
    except ImportError as error:
        raise ConfigurationError(["DB_ASYNC_DRIVER=asyncpg needs the package asyncpg: see docs/aio.md"]) from error
    return url.set(drivername=ASYNCPG), {"names_statements": settings.proxy == "none"}


def _connect_as_given(dialect: Dialect, cargs: Sequence[Any], cparams: dict[str, Any], _: Any) -> DBAPIConnection:
    """SQLite has neither credentials nor a wire: the URL says all."""
    return dialect.connect(*cargs, **cparams)


def build_engine(settings: Settings, connect: Connect, lifecycle: Lifecycle, *, asynchronous: bool = False) -> Engine:
    """An engine watched by ``lifecycle``, whose connections ``connect`` opens; none is opened yet."""
    plan = plan_pool(settings, asynchronous=asynchronous)
    url = _own_dialect(settings.url) if settings.source == "url" and settings.url is not None else URL.create(DRIVER)
    is_postgres = url.get_backend_name() == "postgresql"
    arguments = dict(plan.arguments)
    if asynchronous:
        url, of_driver = _async_driver(settings, url)
        arguments |= of_driver
    if is_postgres and settings.schema:
        # What SQLAlchemy would ask the server for; it takes tables without a schema to be there.
        arguments["default_schema_name"] = first_schema(settings.schema)
    if settings.proxy == "rds-proxy":
        arguments["insertmanyvalues_page_size"] = _ROWS_BELOW_16_KB
    engine = (_create_async_engine if asynchronous else create_engine)(
        url,
        poolclass=plan.pool_class,
        echo=_ECHO[settings.echo],
        echo_pool=_ECHO[settings.echo_pool],
        hide_parameters=settings.hide_parameters,
        **arguments,
    )
    lifecycle.watch(engine, connect if is_postgres else _connect_as_given)
    return engine
