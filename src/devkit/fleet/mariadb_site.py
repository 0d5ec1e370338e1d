"""``site`` and ``held_connections`` for MariaDB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alembic.migration import MigrationContext
from alembic.operations import Operations
from pymysql import err
from sqlalchemy import URL, NullPool, create_engine, make_url, text

from db.migrations.operations import create_once_table
from devkit.servers.mariadb import MariaDb
from devkit.servers.passwords import new_password

from .held_connections import Held
from .site import DATABASE, LOGINS

if TYPE_CHECKING:
    from devkit.servers.ports import Endpoint

_TABLE = "CREATE TABLE written (id varchar(64) NOT NULL, at datetime(6) NOT NULL DEFAULT current_timestamp(6))"
_COUNT = "SELECT user, count(*) FROM information_schema.processlist WHERE db = %s AND user <> %s GROUP BY user"


class MariaDbSite:
    """The database of one run on ``server``, just made."""

    def __init__(self, server: MariaDb) -> None:
        self.passwords = {login: new_password() for login in LOGINS}
        server.execute(f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4")
        for login, password in self.passwords.items():
            server.execute(f"CREATE USER {login}@'%%' IDENTIFIED BY %s", [password])
        owner = _url(server, server.superuser, server.password)
        engine = create_engine(owner, poolclass=NullPool, connect_args={"ssl_disabled": True})
        with engine.begin() as conn:
            create_once_table(Operations(MigrationContext.configure(conn)), used_by=["ours"])
            granted = [f"GRANT SELECT, INSERT ON written TO {login}@'%'" for login in LOGINS]
            for statement in (_TABLE, "CREATE INDEX by_id ON written (id)", *granted):
                conn.execute(text(statement))

    def variables(self, login: str, endpoint: Endpoint) -> dict[str, str]:
        """What a function needs to know to come here."""
        url = _url(endpoint, login, self.passwords[login])
        return {"DB_URL": url.render_as_string(hide_password=False)}


class HeldOnMariaDb(Held):
    """``Held`` on such a server."""

    _lost = (err.MySQLError, RuntimeError)

    def _ask(self, connection: Any) -> dict[str, int]:
        with connection.cursor() as cursor:
            cursor.execute(_COUNT, [DATABASE, MariaDb.superuser])
            return dict(cursor.fetchall())

    def _connect(self) -> Any:
        return self._server().as_superuser()


def _url(endpoint: Endpoint, login: str, password: str) -> URL:
    place = f"mysql+pymysql://{endpoint.host}:{endpoint.port}/{DATABASE}"
    return make_url(place).set(username=login, password=password)
