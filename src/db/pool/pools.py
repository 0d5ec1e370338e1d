"""Pool classes, which of them the settings ask for, and how many connections one can have in use."""

from __future__ import annotations

import asyncio  # SQLAlchemy has loaded it
import contextlib
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool, Pool, QueuePool, StaticPool
from sqlalchemy.util.queue import Empty

from db.errors import ConfigurationError
from db.telemetry.connection_events import RETURNED_AT
from db.telemetry.log import warn_of_lost_loop
from db.wire.deferred_begin import FlightState

from .switchover import serves_until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Engine
    from sqlalchemy.pool import ConnectionPoolEntry

    from db.settings import Settings


class StaleConnectionError(Exception):
    """Why a pooled connection was dropped unasked. Never raised.

    It was idle for longer than DB_POOL_IDLE_S, it only stood in for a reader, or its server may be the wrong one.
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
        try:
            returned_at = record.info.get(RETURNED_AT)
            if returned_at is not None and self._is_stale(record, returned_at, now=time.time()):
                record.invalidate(StaleConnectionError())
        except BaseException:  # a signal's handler raised: nobody else knows yet that the record is out
            super()._do_return_conn(record)
            raise
        return record

    def _is_stale(self, record: ConnectionPoolEntry, returned_at: float, *, now: float) -> bool:
        return now >= serves_until(record.driver_connection) or now - returned_at >= self._idle_s

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        try:
            if isinstance(driver := record.driver_connection, FlightState):
                driver.parked()
        finally:  # whatever a signal's handler raises here must not cost the pool a connection for good
            super()._do_return_conn(record)

    def close_idle(self) -> None:
        """Close what nobody uses. What is in use stays, and comes back."""
        with contextlib.suppress(Empty):
            while True:
                record = self._pool.get(block=False)
                try:
                    record.close()
                finally:
                    self._dec_overflow()

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
