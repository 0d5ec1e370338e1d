"""Alembic, run from code: up to a revision, on a connection that holds the lock."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from db.errors import ConfigurationError

from .lock import locked_connection

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True)
class Upgraded:
    """The revision before and after; None is an empty database."""

    before: str | None
    after: str | None


def upgrade(versions: str | Path, *, revision: str = "head") -> Upgraded:
    """Run the migrations in ``versions``, the folder of the revisions' files, up to ``revision``, one runner at a time.

    They are one transaction: what fails leaves nothing, but for what a migration committed in an ``autocommit_block()``
    of its own. A second runner waits for the first, and then finds nothing to do. Waiting and statements end with the
    invocation, less DB_DEADLINE_RESERVE_S; waiting for a table's lock ends after five seconds. Raises
    ConfigurationError where the folder has no revision, DeadlineError, and Alembic's and SQLAlchemy's own errors.
    """
    if not ScriptDirectory.from_config(config(versions)).get_heads():
        # Alembic would do nothing, and a deploy would be green on an empty schema.
        raise ConfigurationError([f"no migration in {versions}: it is to be the folder of the revisions' files"])
    with locked_connection() as conn:
        before = _revision(conn)
        conn.rollback()
        command.upgrade(config(versions, conn), revision)
        return Upgraded(before, _revision(conn))


def config(versions: str | Path, conn: Connection | None = None) -> Config:
    """Alembic's configuration for the migrations in ``versions``, to be run on ``conn`` where there is one."""
    made = Config()
    # A percent sign would be an interpolation to the parser behind.
    made.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    made.set_main_option("version_locations", str(versions).replace("%", "%%"))
    made.set_main_option("path_separator", "newline")
    if conn is not None:
        made.attributes["connection"] = conn
    return made


def _revision(conn: Connection) -> str | None:
    return MigrationContext.configure(conn).get_current_revision()
