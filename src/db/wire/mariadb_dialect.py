"""``mariadb+serverless://``: ``mysql_dialect``, for a URL that says MariaDB, with SQLAlchemy's types for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.dialects import registry
from sqlalchemy.dialects.mysql.mariadb import MariaDBDialect

from .mysql_dialect import AsyncServerlessMySqlDialect, ServerlessMySqlDialect

if TYPE_CHECKING:
    from sqlalchemy import URL

DRIVER = "mariadb+serverless"


class ServerlessMariaDbDialect(MariaDBDialect, ServerlessMySqlDialect):
    """The dialect on ``MySqlConnection``."""

    supports_statement_cache = True

    @classmethod
    def get_async_dialect_cls(cls, url: URL) -> type[ServerlessMySqlDialect]:  # noqa: ARG003 - SQLAlchemy's signature
        return AsyncServerlessMariaDbDialect


class AsyncServerlessMariaDbDialect(MariaDBDialect, AsyncServerlessMySqlDialect):
    """The same on ``AsyncMySqlConnection``."""

    supports_statement_cache = True


registry.register("mariadb.serverless", __name__, "ServerlessMariaDbDialect")
