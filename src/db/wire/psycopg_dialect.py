"""``postgresql+serverless://``: SQLAlchemy's psycopg dialect without the round trips that a Lambda function can spare.

- *Free initialisation.* The stock dialect asks the server nine questions at first; what libpq knows is read from it,
  and what it cannot know is told: ``default_schema_name``, ``default_isolation_level``.
- *One-flight begin.* BEGIN, the unit of work's prologue and savepoints travel with the next statement.
- *Free liveness.* A ping looks at the socket. Only where there is something to read is the server asked.
- *Replay.* A first flight that dies, or that a pooler refuses, has committed nothing: it is sent again over a new
  connection.
- *Rows that are streamed* bring the first of them along with their DECLARE.

All else is the stock dialect: types, compiler, reflection, two-phase.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import ARRAY
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import (
    PGDialect_psycopg,
    PGDialectAsync_psycopg,
    PGExecutionContext_psycopg,
)

from db.errors import ConfigurationError

from . import hstore
from .encoding import ENCODING, other_encoding
from .psycopg_connections import AsyncFlightConnection, FlightConnection
from .replay import ReplayingDialect, flight_below
from .search_path import NO_AUTOCOMMIT, first_schema

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection
    from sqlalchemy.engine.interfaces import ConnectArgsType, DBAPIConnection
    from sqlalchemy.pool import PoolProxiedConnection

    from .search_path import PlainPrologue
    from .transaction_end import FlightState

DRIVER = "postgresql+serverless"


# SQLAlchemy reads the first row of what it streams at once, then as many as this, where it is told no other number.
_FIRST_ROWS = 5
_MOST_ROWS = 2**31 - 1  # that a FETCH can ask for


class ServerlessExecutionContext(PGExecutionContext_psycopg):
    """SQLAlchemy's, whose server-side cursors bring their first rows along."""

    def create_server_side_cursor(self) -> Any:
        cursor: Any = super().create_server_side_cursor()  # type: ignore[no-untyped-call]
        asked = self.execution_options
        at_a_time = asked.get("yield_per") or min(asked.get("max_row_buffer", _FIRST_ROWS), _FIRST_ROWS)
        dialect = cast("ServerlessDialect", self.dialect)
        dialect._driver_cursor(cursor).rows_ahead = min(1 + at_a_time, _MOST_ROWS)
        return cursor


class ServerlessDialect(ReplayingDialect, PGDialect_psycopg):
    """The dialect on ``psycopg.Connection``.

    ``default_schema_name`` is where tables without a schema are; by default the first in the search path that the
    server reports (PostgreSQL 18 does), else ``public``. ``default_isolation_level`` is the server's for this user.
    ``use_native_hstore`` is off unless asked for, since looking the type up takes two round trips. With
    ``plain_prologue``, each transaction that is no unit of work's says it, and there is no AUTOCOMMIT.
    """

    supports_statement_cache = True
    execution_ctx_cls = ServerlessExecutionContext
    colspecs = {**PGDialect_psycopg.colspecs, ARRAY: hstore.Array}  # noqa: RUF012 - SQLAlchemy's way

    def __init__(
        self,
        # Not keyword-only: create_engine() finds a dialect's arguments by reading its positional ones.
        default_schema_name: str | None = None,
        default_isolation_level: str = "READ COMMITTED",
        use_native_hstore: bool = False,
        plain_prologue: PlainPrologue | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(use_native_hstore=use_native_hstore, **kwargs)  # type: ignore[no-untyped-call]
        self._told_schema_name = default_schema_name
        self._told_isolation_level = default_isolation_level
        self.plain_prologue = plain_prologue

    def create_connect_args(self, url: URL) -> ConnectArgsType:
        cargs, cparams = super().create_connect_args(url)  # type: ignore[no-untyped-call]
        if other := other_encoding(cparams):
            raise ConfigurationError([f"client_encoding={other} is not served: this dialect speaks {ENCODING}"])
        # libpq's default is the database's own, or what PGCLIENTENCODING says. What rides in a flight is UTF-8.
        return cargs, cparams | {"client_encoding": ENCODING}

    @classmethod
    def get_async_dialect_cls(cls, url: URL) -> type[ServerlessDialect]:  # noqa: ARG003 - SQLAlchemy's signature
        return AsyncServerlessDialect

    def _type_info_fetch(self, connection: Connection, name: str) -> Any:  # noqa: ARG002 - SQLAlchemy's signature
        return hstore.type_info(connection)

    def connect(self, *cargs: Any, **cparams: Any) -> DBAPIConnection:
        connection = FlightConnection.connect(*cargs, **cparams)
        connection.plain_prologue = self.plain_prologue
        return cast("DBAPIConnection", connection)

    def set_isolation_level(self, dbapi_connection: DBAPIConnection, level: Any) -> None:
        if level == "AUTOCOMMIT" and self.plain_prologue is not None:
            raise ConfigurationError([NO_AUTOCOMMIT])
        super().set_isolation_level(dbapi_connection, level)  # type: ignore[no-untyped-call]

    # Free initialisation.

    def _get_server_version_info(self, connection: Connection) -> tuple[int, ...]:
        version = flight_below(connection.connection).info.server_version
        return version // 10_000, version % 10_000

    def _get_default_schema_name(self, connection: Connection) -> str:
        if self._told_schema_name is not None:
            return self._told_schema_name
        return first_schema(flight_below(connection.connection).info.parameter_status("search_path") or "") or "public"

    def get_default_isolation_level(self, dbapi_conn: DBAPIConnection) -> Any:  # noqa: ARG002 - SQLAlchemy's signature
        # The server is asked after the engine's own level was set. AUTOCOMMIT is none that it would name.
        own = self._on_connect_isolation_level
        return self._told_isolation_level if own in {None, "AUTOCOMMIT"} else own

    def _set_backslash_escapes(self, connection: Connection) -> None:
        # A pooler that does not report it leaves None, and "on" is every server's default since 9.1.
        info = flight_below(connection.connection).info
        self._backslash_escapes = info.parameter_status("standard_conforming_strings") == "off"

    def reset_isolation_level(self, dbapi_conn: DBAPIConnection) -> None:
        if self._on_connect_isolation_level is not None:
            super().reset_isolation_level(dbapi_conn)  # type: ignore[no-untyped-call]
        else:
            # Whatever the server's default is: BEGIN without a level says just that.
            self._do_isolation_level(dbapi_conn, autocommit=False, isolation_level=None)  # type: ignore[no-untyped-call]

    # Free liveness.

    def do_ping(self, dbapi_connection: DBAPIConnection) -> bool:
        flight = self._driver(dbapi_connection)
        if flight.is_quiet():
            return True
        unproven, plain_prologue = flight.unproven, flight.plain_prologue
        flight.plain_prologue = None  # it asks in autocommit, of no table
        try:
            return bool(super().do_ping(dbapi_connection))  # type: ignore[no-untyped-call]
        finally:
            # A ping does nothing that a replay would lose.
            flight.unproven, flight.plain_prologue = unproven, plain_prologue


class AsyncServerlessDialect(PGDialectAsync_psycopg, ServerlessDialect):
    """The same on ``psycopg.AsyncConnection``."""

    supports_statement_cache = True
    _type_info_fetch = ServerlessDialect._type_info_fetch

    def connect(self, *cargs: Any, **cparams: Any) -> DBAPIConnection:
        dbapi: Any = self.loaded_dbapi
        connection = dbapi.connect(*cargs, async_creator_fn=AsyncFlightConnection.connect, **cparams)
        connection.driver_connection.plain_prologue = self.plain_prologue
        return cast("DBAPIConnection", connection)

    def do_close(self, dbapi_connection: Any) -> None:
        # Not the adapter's close(), which takes a greenlet: a pool is disposed of from anywhere.
        dbapi_connection.driver_connection.hang_up()

    def do_terminate(self, dbapi_connection: Any) -> None:
        self.do_close(dbapi_connection)

    def _driver_cursor(self, cursor: Any) -> Any:
        return cursor._cursor

    def _move_cursor(self, cursor: Any, proxied: PoolProxiedConnection) -> None:
        super()._move_cursor(cursor, proxied)
        cursor._adapt_connection = proxied.dbapi_connection
        cursor._connection = proxied.driver_connection

    def _driver(self, dbapi_connection: Any) -> FlightState:
        return cast("FlightState", dbapi_connection.driver_connection)


registry.register("postgresql.serverless", __name__, "ServerlessDialect")
