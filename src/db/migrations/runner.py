"""Alembic, run from code: up to a revision, on a connection that holds the lock."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from db.errors import DOCUMENTATION, ConfigurationError
from db.work.database import holder_of

from .lineage import been_through
from .lock import locked_connection
from .tenancy import before_commit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

    from db.work.database import Database

    from .tenancy import Finding


@dataclass(frozen=True)
class Upgraded:
    """The revision before and after; None is an empty database.

    ``ahead`` is true where the schema held all that this code has and more, so that nothing was to be done.
    ``findings`` are the audit's, of a schema that does not keep tenants apart.
    """

    before: str | None
    after: str | None
    ahead: bool = False
    findings: tuple[Finding, ...] = ()


def upgrade(
    versions: str | Path,
    *,
    revision: str = "head",
    previous: str | None = None,
    database: Database | None = None,
    roles: Sequence[str] | None = None,
    allowed: Mapping[str, str] | None = None,
) -> Upgraded:
    """Run the migrations in ``versions``, the folder of the revisions' files, up to ``revision``, one runner at a time.

    They are one transaction: what fails leaves nothing, but for what a migration committed in an ``autocommit_block()``
    of its own. A second runner waits for the first, and then finds nothing to do. Waiting and statements end with the
    invocation, less DB_DEADLINE_RESERVE_S; waiting for a table's lock ends after five seconds.

    A schema that is ahead of this code, as it is after a roll-back, is left as it is: one at a revision that has no
    file here, and that was made on top of all that have. Where nothing on record says on top of what, ``previous``
    decides: the newest revision of the release before this one, where the caller knows it.

    Before it commits, the schema is audited, as DB_TENANT_AUDIT says: for ``roles``, which are those that functions log
    in as, or else for those that a table of tenants was granted to; ``allowed`` are findings that are meant to be, each
    with its reason, as ``audit`` takes them. Where there is no table of tenants, there is nothing to find.

    It is the default database's schema, or that of ``database``.

    Raises ConfigurationError where the folder has no revision, where the schema is at one that is neither here nor
    ahead, and where the audit is to refuse what it finds; DeadlineError; and Alembic's and SQLAlchemy's own errors.
    """
    script = ScriptDirectory.from_config(config(versions))
    if not script.get_heads():
        # Alembic would do nothing, and a deploy would be green on an empty schema.
        raise ConfigurationError([f"no migration in {versions}: it is to be the folder of the revisions' files"])
    holder = holder_of(database)
    found: list[Finding] = []
    with holder.named(), locked_connection(holder.current()) as conn:
        look = before_commit(holder.current().settings, found, roles=roles, allowed=allowed)
        before = _revision(conn)
        ahead = _is_ahead(conn, script, previous)
        conn.rollback()
        if ahead:
            return Upgraded(before, before, ahead=True)
        on = config(versions, conn)
        on.attributes["before_commit"] = look
        command.upgrade(on, revision)
        return Upgraded(before, _revision(conn), findings=tuple(found))


def _is_ahead(conn: Connection, script: ScriptDirectory, previous: str | None) -> bool:
    """Whether the schema holds more than ``script`` has. Raises ConfigurationError where it holds something else."""
    # By their whole names: Alembic would take the beginning of another revision's for one of them.
    known = {found.revision for found in script.walk_revisions()}
    at = MigrationContext.configure(conn).get_current_heads()
    strange = set(at) - known
    if not strange:
        return False
    through, newest = been_through(conn), set(script.get_heads())
    if strange <= through:
        if newest <= through:
            return True
        said = f"that one was not made on top of {_named(newest - through)}, which this code has"
    elif strange == {previous}:
        return True
    else:
        said = "nothing on record says whether it was made on top of them"
    problem = (
        f"the schema is at revision {_named(strange)}, which has no file among the migrations of this code "
        f"(newest: {_named(newest)}), and {said}: nothing was changed. Deploy code that has that file, with new "
        f"revisions on top of it ({DOCUMENTATION}run/deploys/#a-revision-that-the-code-does-not-know)"
    )
    raise ConfigurationError([problem])


def _named(revisions: set[str]) -> str:
    return ", ".join(sorted(revisions))


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
