"""Settings to engines: which pool, and who opens its connections.

``plan_pool`` decides, as a function of values; ``build_engine`` does. How a connection is opened: ``connector``.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import URL, create_engine
from sqlalchemy.pool import NullPool, Pool, QueuePool, StaticPool

from .connector import Connector
from .dialect import DRIVER
from .errors import ConfigurationError
from .flight import FlightState
from .lifecycle import RETURNED_AT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Dialect, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

    from .connector import Role
    from .credentials import Source
    from .lifecycle import Lifecycle
    from .settings import Settings

_ECHO: dict[str, bool | Literal["debug"]] = {"off": False, "on": True, "debug": "debug"}


class StaleConnectionError(Exception):
    """Why a pooled connection was dropped unasked: it was idle for longer than DB_POOL_IDLE_S. Never raised."""


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
        if returned_at is not None and time.time() - returned_at >= self._idle_s:
            record.invalidate(StaleConnectionError())
        return record

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        if isinstance(driver := record.driver_connection, FlightState):
            driver.parked()
        super()._do_return_conn(record)

    def recreate(self) -> IdleAwareQueuePool:
        pool = super().recreate()
        assert isinstance(pool, IdleAwareQueuePool)  # noqa: S101 - QueuePool recreates its own class
        pool._idle_s = self._idle_s  # noqa: SLF001 - the same class
        return pool


@dataclass(frozen=True)
class PoolPlan:
    """A pool class and the arguments to ``create_engine`` that go with it."""

    pool_class: type[Pool]
    arguments: Mapping[str, Any]


def plan_pool(settings: Settings) -> PoolPlan:
    """The pool that ``settings`` ask for. SQLite in memory gets one connection always: it is the data."""
    url = settings.url
    if settings.is_sqlite and (settings.pool == "static" or url is None or url.database in {None, "", ":memory:"}):
        return PoolPlan(StaticPool, {"connect_args": {"check_same_thread": False}})
    if settings.pool == "null":
        return PoolPlan(NullPool, {})
    return PoolPlan(
        IdleAwareQueuePool,
        {
            "pool_size": settings.pool_size,
            "max_overflow": settings.max_overflow,
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


def _connect_as_given(dialect: Dialect, cargs: Sequence[Any], cparams: dict[str, Any]) -> DBAPIConnection:
    """SQLite has neither credentials nor a wire: the URL says all."""
    return dialect.connect(*cargs, **cparams)


def build_engine(
    settings: Settings, source: Source | None, lifecycle: Lifecycle, *, role: Role, clock: Callable[[], float]
) -> Engine:
    """An engine for ``role``, watched by ``lifecycle``. Opens no connection and asks for no secret yet."""
    plan = plan_pool(settings)
    url = _own_dialect(settings.url) if settings.source == "url" and settings.url is not None else URL.create(DRIVER)
    is_postgres = url.get_backend_name() == "postgresql"
    arguments = dict(plan.arguments)
    if is_postgres and settings.schema:
        # What SQLAlchemy would ask the server for; it takes tables without a schema to be there.
        arguments["default_schema_name"] = settings.schema.partition(",")[0].strip()
    engine = create_engine(
        url,
        poolclass=plan.pool_class,
        echo=_ECHO[settings.echo],
        echo_pool=_ECHO[settings.echo_pool],
        hide_parameters=settings.hide_parameters,
        **arguments,
    )
    connect = Connector(settings, source, role=role, clock=clock) if is_postgres else _connect_as_given
    lifecycle.watch(engine, connect)
    return engine
