"""Where a fleet writes: a database with a login for each function, and a table that shows what came of each write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import URL, NullPool, create_engine, make_url, text

from db.migrations.operations import create_once_table, create_prologue_function
from devkit.servers.passwords import new_password

if TYPE_CHECKING:
    from devkit.servers.ports import Endpoint
    from devkit.servers.postgres import Postgres

DATABASE = "fleet"
OWNER = "fleet_owner"
LOGINS = ("ours", "plain")
# Without a key, so a write that took place twice shows; the index is for the function, which reads its row back.
_TABLE = "CREATE TABLE written (id text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp())"


class Server(Protocol):
    """What is asked of the server when the load is over, whichever engine it is."""

    def execute(self, query: str, *, database: str) -> list[tuple[Any, ...]]: ...


class Place(Protocol):
    """What a function is told of a site."""

    def variables(self, login: str, endpoint: Endpoint) -> dict[str, str]:
        """What a function needs to know to come here."""
        ...


class Site:
    """The database of one run on ``server``, just made."""

    def __init__(self, server: Postgres) -> None:
        self.passwords = {login: new_password() for login in (OWNER, *LOGINS)}
        for login, password in self.passwords.items():
            server.create_role(login, password)
        server.create_database(DATABASE, owner=OWNER)
        engine = create_engine(self.url(OWNER, server), poolclass=NullPool)
        with engine.begin() as conn:
            op = Operations(MigrationContext.configure(conn))
            create_once_table(op, used_by=["ours"])
            create_prologue_function(op, used_by=["ours"])  # for who comes in by RDS Proxy's door
            for statement in (_TABLE, "CREATE INDEX ON written (id)", "GRANT SELECT, INSERT ON written TO ours, plain"):
                conn.execute(text(statement))

    def url(self, login: str, endpoint: Endpoint) -> URL:
        """The SQLAlchemy URL for ``login`` through ``endpoint``."""
        place = f"postgresql+psycopg://{endpoint.host}:{endpoint.port}/{DATABASE}"
        return make_url(place).set(username=login, password=self.passwords[login])

    def variables(self, login: str, endpoint: Endpoint) -> dict[str, str]:
        """What a function needs to know to come here."""
        return {"DB_URL": self.url(login, endpoint).render_as_string(hide_password=False)}


def written(server: Server) -> dict[str, int]:
    """How often each id is in the table."""
    return dict(server.execute("SELECT id, count(*) FROM written GROUP BY id", database=DATABASE))
