"""Alembic under an advisory lock: ``upgrade`` for a function that migrates at deploy; ``alembic.ini`` for work by hand.

Runs as the tables' owner, straight at the writer: a session's lock does not survive a transaction-pooling proxy.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from db import runtime
from db.deadline import usable_s
from db.invocation import current_invocation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

# One lock for all migrations of a database: an arbitrary key in the 64-bit space, the same in every release.
LOCK_KEY = 0x6D69_6772_6174_6500  # "migrate" in ASCII
# DDL that waits for a busy table makes all who come after it wait too, so it gives way and fails instead.
LOCK_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Upgraded:
    """The revision before and after; None is an empty database."""

    before: str | None
    after: str | None


def upgrade(versions: Path, *, revision: str = "head") -> Upgraded:
    """Run the migrations in ``versions`` up to ``revision``, all in one transaction, one runner at a time.

    A second runner waits for the first, until the invocation's deadline, and then finds nothing to do. Statements may
    take until the deadline too; waiting for a table's lock ends after five seconds. Raises Alembic's and SQLAlchemy's
    own errors, with nothing changed.
    """
    with locked_connection() as conn:
        before = _revision(conn)
        conn.rollback()
        command.upgrade(config(versions, conn), revision)
        return Upgraded(before, _revision(conn))


def config(versions: Path, conn: Connection) -> Config:
    """Alembic's configuration for the migrations in ``versions``, to be run on ``conn``."""
    made = Config()
    # A percent sign would be an interpolation to the parser behind.
    made.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    made.set_main_option("version_locations", str(versions).replace("%", "%%"))
    made.set_main_option("path_separator", "newline")
    made.attributes["connection"] = conn
    return made


@contextmanager
def locked_connection() -> Iterator[Connection]:
    """A connection of its own that holds the migration lock; closing it gives the lock back, whatever happened."""
    now = runtime.current()
    deadline = current_invocation.get().deadline
    with now.engine("writer").connect() as conn:
        conn.detach()  # from the pool: the settings and the lock are to end with the connection
        if deadline is not None:
            reserve_s = now.settings.deadline_reserve_s
            left_s = usable_s(deadline, now=now.clock(), reserve_s=reserve_s, at_most_s=math.inf)
            _set(conn, "statement_timeout", left_s)
        conn.execute(text("SELECT pg_advisory_lock(:key)"), {"key": LOCK_KEY})
        _set(conn, "lock_timeout", LOCK_TIMEOUT_S)
        conn.commit()
        yield conn


def _set(conn: Connection, name: str, seconds: float) -> None:
    conn.execute(text("SELECT set_config(:name, :value, false)"), {"name": name, "value": f"{int(seconds * 1000)}ms"})


def _revision(conn: Connection) -> str | None:
    return MigrationContext.configure(conn).get_current_revision()
