"""``mysql+serverless://``: SQLAlchemy's PyMySQL dialect without the round trips that a Lambda function can spare.

- *Free initialisation.* What the stock dialect asks the server at first is answered by the connect's own packet.
- *One-flight begin.* The opening of a unit of work, and savepoints, travel with the next statement.
- *Free liveness.* A ping looks at the socket. Only where there is something to read is the server asked.
- *Replay.* A first flight that dies has committed nothing: it is sent again over a new connection.

All else is the stock dialect. ``mariadb_dialect`` is the same with SQLAlchemy's types of MariaDB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.dialects import registry
from sqlalchemy.dialects.mysql.pymysql import MySQLDialect_pymysql
from sqlalchemy.util import memoized_property

from .first_flight import FirstFlight, asks_to_connect, reopen
from .mysql_connections import MySqlConnection

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import URL, Connection
    from sqlalchemy.engine import ExecutionContext
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import PoolProxiedConnection

DRIVER = "mysql+serverless"


class ServerlessMySqlDialect(MySQLDialect_pymysql):
    """The dialect on ``MySqlConnection``."""

    supports_statement_cache = True
    # The driver's connection writes down what becomes of a COMMIT (``commit_outcome``).
    notes_commits = True
    # Told of each connection that a replay replaced, before anything is sent over it, and why.
    on_replay: Callable[[PoolProxiedConnection, BaseException], None] | None = None

    def connect(self, *cargs: Any, **cparams: Any) -> DBAPIConnection:
        return cast("DBAPIConnection", MySqlConnection(*cargs, **cparams))

    @classmethod
    def get_async_dialect_cls(cls, url: URL) -> type[ServerlessMySqlDialect]:  # noqa: ARG003 - SQLAlchemy's signature
        return AsyncServerlessMySqlDialect

    def on_connect(self) -> None:  # type: ignore[override]  # the stock one says SET NAMES once more
        return None

    # Free initialisation.

    def _get_server_version_info(self, connection: Connection) -> tuple[int, ...]:
        return self._parse_server_version(_below(connection).facts["version"])

    def _get_default_schema_name(self, connection: Connection) -> str:
        return cast("str", _below(connection).facts["database"])

    def _fetch_setting(self, connection: Connection, setting_name: str) -> str | None:
        facts = _below(connection).facts
        if setting_name in facts:
            return str(facts[setting_name])
        return super()._fetch_setting(connection, setting_name)

    def get_default_isolation_level(self, dbapi_conn: Any) -> Any:
        return str(dbapi_conn.facts["isolation"]).replace("-", " ").upper()

    def set_isolation_level(self, dbapi_connection: Any, level: str) -> None:
        dbapi_connection.level = level
        dbapi_connection.set_autocommit(level == "AUTOCOMMIT")
        if level != "AUTOCOMMIT":
            dbapi_connection.say(f"SET SESSION TRANSACTION ISOLATION LEVEL {level}")

    def get_readonly(self, dbapi_connection: Any) -> bool:
        """Whether whoever opened the transaction said that it only reads."""
        return bool(dbapi_connection.read_only)

    # Free liveness.

    def do_ping(self, dbapi_connection: Any) -> bool:  # type: ignore[override]
        if dbapi_connection.is_fit:
            return True
        dbapi_connection.ping()  # raises what SQLAlchemy takes for the end
        return True

    # Replay.

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: ExecutionContext | None = None) -> None:
        try:
            cursor.execute(statement, parameters)
        except BaseException as error:  # noqa: BLE001 - raised there, unless all can be made good
            self._again(error, cursor, context, cursor.execute, statement, parameters)

    def do_execute_no_params(self, cursor: Any, statement: str, context: ExecutionContext | None = None) -> None:
        try:
            cursor.execute(statement)
        except BaseException as error:  # noqa: BLE001 - raised there, unless all can be made good
            self._again(error, cursor, context, cursor.execute, statement)

    def do_executemany(
        self, cursor: Any, statement: str, parameters: Any, context: ExecutionContext | None = None
    ) -> None:
        send = super().do_executemany
        try:
            send(cursor, statement, parameters, context)
        except BaseException as error:  # noqa: BLE001 - raised there, unless all can be made good
            self._again(error, cursor, context, send, cursor, statement, parameters, context)

    def do_commit(self, dbapi_connection: Any) -> None:
        try:
            dbapi_connection.commit()
        except BaseException as error:
            if dbapi_connection.dbapi_connection._sock is None:
                dbapi_connection.invalidate(error)
            raise

    def do_rollback_to_savepoint(self, connection: Connection, name: str) -> None:
        if not _below(connection).failed:  # else it went with the transaction
            super().do_rollback_to_savepoint(connection, name)  # type: ignore[no-untyped-call]

    def do_release_savepoint(self, connection: Connection, name: str) -> None:
        if not _below(connection).failed:
            super().do_release_savepoint(connection, name)  # type: ignore[no-untyped-call]

    def _again(
        self,
        error: BaseException,
        cursor: Any,
        context: ExecutionContext | None,
        send: Callable[..., None],
        *statement: Any,
    ) -> None:
        flight = FirstFlight()
        with flight.time_is_up():
            while True:
                self._replace_or_raise(error, cursor, context, flight)
                try:
                    send(*statement)
                except BaseException as another:  # noqa: BLE001 - looked at in the next round
                    error = another
                else:
                    return

    def _replace_or_raise(
        self, error: BaseException, cursor: Any, context: ExecutionContext | None, flight: FirstFlight
    ) -> None:
        """Put a new connection below ``cursor``, if all that ``error`` tells is that the one below it was dead."""
        if context is None:
            raise error
        proxied: Any = context.root_connection.connection
        stale: MySqlConnection = proxied.dbapi_connection
        if stale.abandoned:
            context.root_connection.invalidate(error)  # else it would roll back on the dead one
            raise error
        record = proxied._connection_record
        if (
            not isinstance(error, self.loaded_dbapi.Error)
            or record is None  # detached: no longer the pool's to replace
            or not (stale.unproven and stale.undone and stale._sock is None)
            or stale.level == "AUTOCOMMIT"
            or not asks_to_connect(error)
        ):
            raise error
        try:
            proxied.dbapi_connection = reopen(record, error, flight)
        except self.loaded_dbapi.Error:
            raise  # SQLAlchemy sees that the connection is lost
        except BaseException:
            context.root_connection.invalidate(error)
            raise
        proxied.dbapi_connection.take_over(stale)
        if stale.level is not None:
            self.set_isolation_level(proxied.dbapi_connection, stale.level)
        cursor.connection = proxied.dbapi_connection
        if self.on_replay is not None:
            self.on_replay(proxied, error)


class AsyncServerlessMySqlDialect(ServerlessMySqlDialect):
    """The same on ``AsyncMySqlConnection``, for whoever calls it in greenlets."""

    supports_statement_cache = True
    is_async = True
    has_terminate = True

    @memoized_property
    def supports_server_side_cursors(self) -> bool:
        from .mysql_async_connections import AsyncStreamingCursor

        self._sscursor = AsyncStreamingCursor
        return True

    def connect(self, *cargs: Any, **cparams: Any) -> DBAPIConnection:
        from .mysql_async_connections import AsyncMySqlConnection  # who does not await has no use for it

        return cast("DBAPIConnection", AsyncMySqlConnection(*cargs, **cparams))

    def do_terminate(self, dbapi_connection: Any) -> None:
        dbapi_connection.close()


def _below(connection: Connection) -> MySqlConnection:
    return cast("MySqlConnection", connection.connection.dbapi_connection)


registry.register("mysql.serverless", __name__, "ServerlessMySqlDialect")
