"""``mariadb+serverless://``: ``mysql_dialect``, for a URL that says MariaDB, with SQLAlchemy's types for it."""

from __future__ import annotations

from sqlalchemy.dialects import registry
from sqlalchemy.dialects.mysql.mariadb import MariaDBDialect

from .mysql_dialect import ServerlessMySqlDialect

DRIVER = "mariadb+serverless"


class ServerlessMariaDbDialect(MariaDBDialect, ServerlessMySqlDialect):
    """The dialect on ``MySqlConnection``."""

    supports_statement_cache = True


registry.register("mariadb.serverless", __name__, "ServerlessMariaDbDialect")
