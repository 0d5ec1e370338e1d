"""``sqlite+serverless://``: SQLAlchemy's dialect on ``sqlite3``, with transactions that are what their name says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from db.errors import ConfigurationError

from .sqlite_connections import MigrationLock, UnitConnection, set_up

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import URL, Connection
    from sqlalchemy.engine.interfaces import DBAPIConnection

DRIVER = "sqlite+serverless"
# They would make transactions begin and end by other rules.
_OWN = {"isolation_level", "autocommit", "factory"}


class ServerlessSqliteDialect(SQLiteDialect_pysqlite):
    """The dialect on ``UnitConnection``."""

    supports_statement_cache = True

    def connect(self, *cargs: Any, **cparams: Any) -> DBAPIConnection:
        if own := sorted(_OWN & cparams.keys()):
            raise ConfigurationError([f"DB_URL, or DB_CONNECT_ARGS, says {', '.join(own)}, which is the layer's own"])
        # A pool gives it to one user at a time, in whatever thread.
        return super().connect(
            *cargs, **cparams | {"factory": UnitConnection, "isolation_level": None, "check_same_thread": False}
        )

    def on_connect(self) -> Callable[[Any], None]:
        before = super().on_connect()

        def connected(connection: UnitConnection) -> None:
            before(cast("DBAPIConnection", connection))
            (row,) = [row for row in connection.execute("PRAGMA database_list") if row[1] == "main"]
            set_up(connection, in_memory=not row[2])

        return connected

    def get_isolation_level_values(self, _connection: Any) -> Sequence[Any]:
        return ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE", "AUTOCOMMIT"]

    def set_isolation_level(self, connection: Any, level: str) -> None:
        # With one writer at a time, each level but AUTOCOMMIT is SERIALIZABLE.
        connection.autocommit_asked = level == "AUTOCOMMIT"

    def get_isolation_level(self, connection: Any) -> Any:
        return "AUTOCOMMIT" if connection.autocommit_asked else "SERIALIZABLE"

    def detect_autocommit_setting(self, connection: Any) -> bool:
        return bool(connection.autocommit_asked)

    def get_readonly(self, connection: Any) -> bool:
        """Whether whoever opened the transaction said that it only reads."""
        return bool(connection.read_only)

    def do_begin(self, connection: Any) -> None:
        connection.begin_soon()

    def do_rollback_to_savepoint(self, connection: Connection, name: str) -> None:
        driver: Any = connection.connection.dbapi_connection
        driver.recover()
        super().do_rollback_to_savepoint(connection, name)  # type: ignore[no-untyped-call] # SQLAlchemy's

    @staticmethod
    def migration_lock(url: URL) -> MigrationLock:
        """The lock of the migrations of the database at ``url``."""
        is_file = SQLiteDialect_pysqlite._is_url_file_db(url)
        return MigrationLock(os.path.abspath(str(url.database)) if is_file else None)  # noqa: PTH100 - as SQLAlchemy


registry.register("sqlite.serverless", __name__, "ServerlessSqliteDialect")
