"""Settings to engines: which pool, which connect arguments, which endpoint.

``plan_pool`` and ``connect_params`` decide, as functions of values; ``build_engine`` and ``Connector`` do. Everything
that may change while the process lives (password, token, time left) is asked for at each connect, never built in.
"""

from __future__ import annotations

import ipaddress
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import URL, create_engine
from sqlalchemy.pool import NullPool, Pool, QueuePool, StaticPool

from .credentials import DEFAULT_PORT
from .deadline import usable_s
from .errors import ConfigurationError, Verdict, connect_verdict
from .invocation import current_invocation
from .lifecycle import RETURNED_AT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Dialect, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

    from .credentials import Credentials, Source
    from .lifecycle import Lifecycle
    from .settings import Settings

Role = Literal["writer", "reader", "unpooled"]

DRIVER = "postgresql+psycopg"
# libpq counts in whole seconds and psycopg raises anything lower to this.
CONNECT_FLOOR_S = 2
_ECHO: dict[str, bool | Literal["debug"]] = {"off": False, "on": True, "debug": "debug"}

# A peer that went silent is given up after this much unacknowledged sending: well inside an API's ten seconds, well
# above what a busy network needs to retransmit. Keepalives find the same while waiting for a long statement's answer.
_SILENT_PEER_S = 5
_KEEPALIVES = {"keepalives": 1, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}


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


def endpoint(settings: Settings, role: Role) -> str | None:
    """The host that the settings name for ``role``; None leaves it to the secret or the URL."""
    return settings.reader_host if role == "reader" and settings.reader_host else settings.host


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine, so that traffic to it crosses no network: a socket's folder counts."""
    if host == "localhost" or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def connect_params(
    settings: Settings, credentials: Credentials | None, given: Mapping[str, Any], *, role: Role, timeout_s: float
) -> dict[str, Any]:
    """psycopg's connect arguments.

    ``given`` is what SQLAlchemy made of the URL, where that is the source. The settings win over it and over the
    secret; DB_CONNECT_ARGS has the last word, and startup options add up. Raises ConfigurationError where no host is
    named, or where the certificate cannot be verified as asked.
    """
    host = endpoint(settings, role) or given.get("host") or (credentials.host if credentials else None)
    if not host:
        raise ConfigurationError(["no host: the secret names none, and DB_HOST is not set"])
    params: dict[str, Any] = {
        "host": host,
        "port": (credentials.port if credentials else None) or DEFAULT_PORT,
        "dbname": (credentials.database if credentials else None) or "postgres",
        "application_name": settings.function_name or "db",
        "connect_timeout": max(CONNECT_FLOOR_S, math.floor(timeout_s)),
        "tcp_user_timeout": _SILENT_PEER_S * 1000,
        **_KEEPALIVES,
        # A sixth execution would prepare, at one more trip, and a later rollback would DEALLOCATE ALL, which pins
        # RDS Proxy and confuses a PgBouncer below 1.22: https://github.com/psycopg/psycopg/issues/1105
        "prepare_threshold": None,
    }
    params |= {key: value for key, value in given.items() if value is not None}
    named = {
        "host": host,
        "port": settings.port,
        "dbname": settings.name,
        "user": settings.user,
        "application_name": settings.application_name,
        "connect_timeout": min(int(params["connect_timeout"]), max(CONNECT_FLOOR_S, math.floor(timeout_s))),
        "options": _startup_options(settings, given),
    }
    if credentials is not None:
        params |= {"user": credentials.username, "password": credentials.password}
    params |= {key: value for key, value in named.items() if value is not None}
    further = {key: value for key, value in settings.connect_args.items() if key != "options"}
    return _with_tls(settings, params | further)


def _startup_options(settings: Settings, given: Mapping[str, Any]) -> str | None:
    # Neither PgBouncer below 1.20 nor RDS Proxy takes them; there each transaction's prologue sets the search path.
    search_path = f"-c search_path={settings.schema}" if settings.schema and settings.proxy == "none" else None
    return " ".join(filter(None, (given.get("options"), search_path, settings.connect_args.get("options")))) or None


def _with_tls(settings: Settings, params: dict[str, Any]) -> dict[str, Any]:
    mode = settings.sslmode or params.get("sslmode") or ("prefer" if is_loopback(params["host"]) else "verify-full")
    rootcert = settings.sslrootcert or params.get("sslrootcert")
    if mode.startswith("verify") and not rootcert:
        problem = (
            f"sslmode {mode} is to verify {params['host']!r}, and DB_SSLROOTCERT names no certificates to trust "
            "(docs/packaging.md)"
        )
        raise ConfigurationError([problem])
    return {**params, "sslmode": mode} | ({"sslrootcert": rootcert} if rootcert else {})


class Connector:
    """Opens the connections of one PostgreSQL engine: credentials and time limits as they are at that moment."""

    def __init__(self, settings: Settings, source: Source | None, *, role: Role, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._source = source
        self._role = role
        self._clock = clock

    def __call__(self, dialect: Dialect, cargs: Sequence[Any], cparams: dict[str, Any]) -> DBAPIConnection:
        """A new connection. A refused password is fetched again past every cache, and tried once more if it is new."""
        if self._source is None:
            return self._open(dialect, cargs, cparams, None)
        credentials = self._source.current()
        try:
            return self._open(dialect, cargs, cparams, credentials)
        except dialect.loaded_dbapi.OperationalError as error:
            if connect_verdict(error) is not Verdict.REFETCH_CREDENTIALS:
                raise
            fresh = self._source.refresh(credentials)
            if (fresh.username, fresh.password) == (credentials.username, credentials.password):
                raise
        return self._open(dialect, cargs, cparams, fresh)

    def _open(
        self, dialect: Dialect, cargs: Sequence[Any], cparams: dict[str, Any], credentials: Credentials | None
    ) -> DBAPIConnection:
        timeout_s = usable_s(
            current_invocation().deadline,
            now=self._clock(),
            reserve_s=self._settings.deadline_reserve_s,
            at_most_s=self._settings.connect_timeout_s,
        )
        params = connect_params(self._settings, credentials, cparams, role=self._role, timeout_s=timeout_s)
        return dialect.connect(*cargs, **params)


def _connect_as_given(dialect: Dialect, cargs: Sequence[Any], cparams: dict[str, Any]) -> DBAPIConnection:
    """SQLite has neither credentials nor a wire: the URL says all."""
    return dialect.connect(*cargs, **cparams)


def build_engine(
    settings: Settings, source: Source | None, lifecycle: Lifecycle, *, role: Role, clock: Callable[[], float]
) -> Engine:
    """An engine for ``role``, watched by ``lifecycle``. Opens no connection and asks for no secret yet."""
    plan = plan_pool(settings)
    url = settings.url if settings.source == "url" and settings.url is not None else URL.create(DRIVER)
    if url.drivername == "postgresql":
        url = url.set(drivername=DRIVER)
    is_postgres = url.get_backend_name() == "postgresql"
    arguments = dict(plan.arguments)
    if is_postgres:
        # Looking up hstore takes three round trips of a process's first transaction, and few have the extension.
        arguments["use_native_hstore"] = False
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
