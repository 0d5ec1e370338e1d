"""``postgresql+serverless_asyncpg://``: asyncpg below ``db.aio``, for DB_ASYNC_DRIVER=asyncpg. Loaded for nothing else.

SQLAlchemy's stock dialect for asyncpg, but for how a connection is opened and closed, and for what it asks the server
at first. asyncpg has no flights: BEGIN and prologue are round trips of their own. What else is lost:
https://serverless-data-access.github.io/serverless-data-access/use/aio/#asyncpg
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode

import asyncpg
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql._psycopg_common import _PGDialect_common_psycopg
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg, PGExecutionContext_asyncpg
from sqlalchemy.util import await_

from db.errors import ConfigurationError
from db.timing.waiting import on_loop

from .asyncpg_connections import SOCKET_OPTIONS, UnitAdapter, UnitConnection
from .asyncpg_replay import ReplayingDialect
from .encoding import ENCODING, other_encoding
from .search_path import NO_AUTOCOMMIT, first_schema

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import URL, Connection
    from sqlalchemy.engine.interfaces import ConnectArgsType, DBAPIConnection

    from .search_path import PlainPrologue

DEFAULT_PORT = 5432
DRIVER = "postgresql+serverless_asyncpg"

# libpq's words that asyncpg has too. Those for TLS it reads from a DSN alone.
_ARGUMENTS = {"user": "user", "password": "password", "dbname": "database", "connect_timeout": "timeout"}
_TLS = ("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl")
_STARTUP = ("application_name", "options")
# Those that the layer does without it; prepare_threshold is psycopg's own, and asyncpg speaks UTF-8 and nothing else.
_KNOWN = {"host", "port", "prepare_threshold", "client_encoding", *_ARGUMENTS, *_TLS, *_STARTUP, *SOCKET_OPTIONS}


def asyncpg_arguments(params: Mapping[str, Any]) -> dict[str, Any]:
    """asyncpg's connect arguments for libpq's. Raises ConfigurationError for what it has no word for."""
    if unknown := sorted(params.keys() - _KNOWN):
        raise ConfigurationError([f"asyncpg has no connect argument {', '.join(unknown)} (DB_CONNECT_ARGS or DB_URL)"])
    if other := other_encoding(params):
        raise ConfigurationError([f"client_encoding={other} is not served: asyncpg speaks {ENCODING}"])
    tls = {name: params[name] for name in _TLS if name in params}
    hosts = str(params["host"]).split(",")
    ports = [int(port or DEFAULT_PORT) for port in str(params["port"]).split(",")]
    return {
        "dsn": f"postgresql://?{urlencode(tls)}",
        "host": hosts if len(hosts) > 1 else hosts[0],
        "port": ports if len(ports) > 1 else ports[0],
        **{ours: params[theirs] for theirs, ours in _ARGUMENTS.items() if theirs in params},
        "server_settings": {name: str(params[name]) for name in _STARTUP if name in params},
    }


class AsyncpgExecutionContext(PGExecutionContext_asyncpg):
    """The stock one, which also lets go of the statements that asyncpg has closed."""

    def handle_dbapi_exception(self, e: BaseException) -> None:
        super().handle_dbapi_exception(e)  # type: ignore[no-untyped-call]
        dialect: Any = self.dialect
        if isinstance(e, dialect.loaded_dbapi.InternalClientError):
            # A type has other parts than asyncpg knows. It closes the statement, which would stay in use here for good.
            dialect._invalidate_schema_cache()


class AsyncpgDialect(ReplayingDialect, PGDialect_asyncpg):
    """The dialect on asyncpg. ``default_schema_name`` is as in ``psycopg_dialect``.

    Behind a proxy no statement is prepared by a name, for the server's connection is another each time.
    """

    supports_statement_cache = True
    execution_ctx_cls = AsyncpgExecutionContext

    # Not keyword-only: create_engine() finds a dialect's arguments by reading its positional ones.
    def __init__(
        self,
        default_schema_name: str | None = None,
        names_statements: bool = True,
        plain_prologue: PlainPrologue | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]  # SQLAlchemy's has no types
        self.plain_prologue = plain_prologue
        self._told_schema_name = default_schema_name
        # For asyncpg, and for SQLAlchemy's adapter.
        self._cache: dict[str, Any] = {} if names_statements else {"statement_cache_size": 0}
        self._statements: dict[str, Any] = (
            {}
            if names_statements
            else {
                "prepared_statement_cache_size": 0,
                "prepared_statement_name_func": str,  # gives "", the unnamed statement
            }
        )

    def create_connect_args(self, url: URL) -> ConnectArgsType:
        # In libpq's words, as the connector speaks them.
        return _PGDialect_common_psycopg.create_connect_args(cast("Any", self), url)  # type: ignore[no-untyped-call,no-any-return]

    def connect(self, *_: Any, **params: Any) -> DBAPIConnection:
        dbapi: Any = self.loaded_dbapi
        arguments = asyncpg_arguments(params)
        try:
            opening = asyncpg.connect(connection_class=UnitConnection, **arguments, **self._cache)
            connection = await_(UnitAdapter.create(dbapi, opening, **self._statements))
        except dbapi.OperationalError:
            raise
        except (dbapi.Error, OSError) as error:
            if isinstance(error.__cause__, asyncpg.ClientConfigurationError):
                raise ConfigurationError([f"asyncpg: {error.__cause__}"]) from error
            # By the one name that psycopg has for it.
            raise dbapi.OperationalError(str(error), getattr(error, "orig", error)) from error
        connection.driver_connection.watch(params)
        connection.plain_prologue = self.plain_prologue
        return cast("DBAPIConnection", connection)

    def set_isolation_level(self, dbapi_connection: DBAPIConnection, level: Any) -> None:
        if level == "AUTOCOMMIT" and self.plain_prologue is not None:
            raise ConfigurationError([NO_AUTOCOMMIT])
        super().set_isolation_level(dbapi_connection, level)  # type: ignore[no-untyped-call]

    def do_close(self, dbapi_connection: Any) -> None:
        driver = dbapi_connection.driver_connection
        if on_loop() and driver.belongs_to(asyncio.get_running_loop()):
            dbapi_connection.terminate()  # says goodbye, and waits for a statement that is being cancelled
        else:
            driver.hang_up()  # a pool is disposed of from anywhere

    def do_terminate(self, dbapi_connection: Any) -> None:
        self.do_close(dbapi_connection)

    # Free liveness, as in ``psycopg_dialect``.

    def do_ping(self, dbapi_connection: Any) -> bool:
        driver = dbapi_connection.driver_connection
        with driver.door.ours():
            return driver.is_quiet() or bool(super().do_ping(dbapi_connection))  # type: ignore[no-untyped-call]

    # Free initialisation, as in ``psycopg_dialect``.

    def _get_server_version_info(self, connection: Connection) -> tuple[int, ...]:
        version = _driver(connection).get_server_version()
        return version.major, version.minor

    def _get_default_schema_name(self, connection: Connection) -> str:
        if self._told_schema_name is not None:
            return self._told_schema_name
        return first_schema(getattr(_driver(connection).get_settings(), "search_path", "")) or "public"

    def get_default_isolation_level(self, dbapi_conn: DBAPIConnection) -> Any:  # noqa: ARG002 - SQLAlchemy's signature
        # The server is asked after the engine's own level was set. AUTOCOMMIT is none that it would name.
        own = self._on_connect_isolation_level
        return "READ COMMITTED" if own in {None, "AUTOCOMMIT"} else own

    def reset_isolation_level(self, dbapi_conn: Any) -> None:
        if self._on_connect_isolation_level is not None:
            super().reset_isolation_level(dbapi_conn)  # type: ignore[no-untyped-call]
        else:
            dbapi_conn.set_isolation_level(None)  # whatever the server's default is

    def _set_backslash_escapes(self, connection: Connection) -> None:
        settings = _driver(connection).get_settings()
        self._backslash_escapes = getattr(settings, "standard_conforming_strings", "on") == "off"


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection


registry.register("postgresql.serverless_asyncpg", __name__, "AsyncpgDialect")
