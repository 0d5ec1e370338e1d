"""An empty database and its two logins, as a test needs them."""

from __future__ import annotations

import dataclasses
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from .passwords import new_password

if TYPE_CHECKING:
    from .mariadb import MariaDb
    from .ports import Endpoint
    from .postgres import Postgres


@dataclass(frozen=True)
class Database:
    """An empty database of one test and its two logins.

    ``owner`` owns it and migrates it. ``app`` may connect and no more: what it may do is for the migrations to say.
    ``drivername`` is SQLAlchemy's, as in ``url``.
    """

    host: str
    port: int
    name: str
    owner: str
    owner_password: str = field(repr=False)
    app: str
    app_password: str = field(repr=False)
    drivername: str = "postgresql+psycopg"

    def url(self, role: Literal["owner", "app"] = "app") -> str:
        """The SQLAlchemy URL for one of the two roles."""
        user, password = (self.owner, self.owner_password) if role == "owner" else (self.app, self.app_password)
        login = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"{self.drivername}://{login}@{self.host}:{self.port}/{self.name}"

    def through(self, endpoint: Endpoint) -> Database:
        """The same database, reached through ``endpoint``: a wire, a pooler, an address of a cluster."""
        return dataclasses.replace(self, host=endpoint.host, port=endpoint.port)


def create_database(server: Postgres) -> Database:
    """A new one on ``server``, with roles of its own; ``drop_database`` ends both."""
    from .postgres import creating_database, creating_role  # with psycopg, where there is a server already

    created = _named_anew(server, "postgresql+psycopg")
    # Over one connection, here and at the end: a connect takes the server longer than the statement that it is for.
    with server.as_superuser() as connection:
        connection.execute(creating_role(created.owner, created.owner_password))
        connection.execute(creating_role(created.app, created.app_password))
        connection.execute(creating_database(created.name, owner=created.owner))
    return created


def create_mariadb_database(server: MariaDb) -> Database:
    """A new one on a MariaDB server, with users of its own; ``drop_mariadb_database`` ends both."""
    created = _named_anew(server, "mysql+pymysql")
    with server.as_superuser() as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {created.name} CHARACTER SET utf8mb4")
        for user, password in ((created.owner, created.owner_password), (created.app, created.app_password)):
            cursor.execute(f"CREATE USER {user}@'%%' IDENTIFIED BY %s", [password])
        cursor.execute(f"GRANT ALL ON {created.name}.* TO {created.owner}@'%' WITH GRANT OPTION")
        # Enough to connect to it; there is no privilege for that alone.
        cursor.execute(f"GRANT SHOW VIEW ON {created.name}.* TO {created.app}@'%'")
    return created


def drop_mariadb_database(server: MariaDb, created: Database) -> None:
    """Remove what ``create_mariadb_database`` made. Nobody may be at work in it: a lock would hold it up."""
    server.terminate(created.name)
    with server.as_superuser() as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE {created.name}")
        cursor.execute(f"DROP USER {created.owner}@'%', {created.app}@'%'")


def _named_anew(server: Endpoint, drivername: str) -> Database:
    # Roles belong to the server: shared ones would let a test that rotates a password break the next.
    suffix = secrets.token_hex(4)
    return Database(
        host=server.host,
        port=server.port,
        name=f"test_{suffix}",
        owner=f"owner_{suffix}",
        owner_password=new_password(),
        app=f"app_{suffix}",
        app_password=new_password(),
        drivername=drivername,
    )


def drop_database(server: Postgres, created: Database) -> None:
    """Remove what ``create_database`` made."""
    from psycopg import sql

    from .postgres import dropping_database

    roles = sql.SQL(", ").join(map(sql.Identifier, (created.owner, created.app)))
    with server.as_superuser() as connection:
        connection.execute(dropping_database(created.name))
        connection.execute(sql.SQL("DROP ROLE {}").format(roles))
