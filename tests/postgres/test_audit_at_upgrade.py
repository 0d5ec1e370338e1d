"""A migration is audited before it commits: what it leaves open is warned of, or nothing of it is kept."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import text

import db
from db import migrations
from db.migrations import tenancy
from db.migrations.tenancy import at_upgrade

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.plugin import Database

    from .conftest import Use

REVISION = """
revision = "{revision}"
down_revision = {down}
import sqlalchemy as sa
from alembic import op
from db.migrations.operations import enable_tenant_rls, grant
def upgrade():
{body}
"""
TABLE = """
    tenant = sa.Column("tenant_id", sa.Text, nullable=False, server_default=sa.text("current_setting('app.tenant_id')"))
    op.create_table("notes", tenant, sa.PrimaryKeyConstraint("tenant_id"))
    enable_tenant_rls(op, "notes")
    grant(op, "SELECT", "notes", to="{app}")
"""
OPEN = """
    op.execute("ALTER TABLE notes NO FORCE ROW LEVEL SECURITY")
"""
OPEN_AND_COMMITTED = """
    with op.get_context().autocommit_block():
        op.execute("CREATE TABLE kept (n int)")
    op.execute("ALTER TABLE notes NO FORCE ROW LEVEL SECURITY")
"""


class Versions:
    """A folder of revisions, each upon the one before."""

    def __init__(self, folder: Path, app: str) -> None:
        self.folder = folder
        self._app = app
        self._last: str | None = None

    def add(self, revision: str, body: str) -> None:
        source = REVISION.format(revision=revision, down=repr(self._last), body=body.replace("{app}", self._app))
        (self.folder / f"{revision}.py").write_text(source)
        self._last = revision


@pytest.fixture
def versions(use: Use, database: Database, tmp_path: Path) -> Versions:
    """One that is right, as the role that owns the tables runs it."""
    use(role="owner")
    made = Versions(tmp_path, database.app)
    made.add("a1", TABLE)
    return made


def warnings(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if record.levelno == logging.WARNING]


def is_there(database: Database, table: str) -> bool:
    with psycopg.connect(database.url("owner").replace("+psycopg", "")) as conn:
        return conn.execute("SELECT to_regclass(%s) IS NOT NULL", [table]).fetchone() == (True,)


def test_what_is_right_is_said_nothing_of(versions: Versions, caplog: pytest.LogCaptureFixture) -> None:
    """Nor is a schema that has no tenants at all."""
    assert migrations.upgrade(versions.folder).findings == ()
    assert warnings(caplog) == []


def test_what_is_open_is_warned_of_and_kept(versions: Versions, caplog: pytest.LogCaptureFixture) -> None:
    """With what to do; and again by a deploy that has nothing to run, unless it is meant to be."""
    versions.add("a2", OPEN)
    done = migrations.upgrade(versions.folder)
    assert (done.after, [one.kind for one in done.findings]) == ("a2", ["not-forced"])
    (line,) = warnings(caplog)
    assert (line["connection_event"], len(line["findings"])) == ("audit", 1)
    assert line["see"].endswith("start/tenants/#is-anything-open")
    assert migrations.upgrade(versions.folder).findings == done.findings
    assert migrations.upgrade(versions.folder, allowed={"notes": "its owner is nobody"}).findings == ()


def test_what_is_refused_leaves_nothing(versions: Versions, use: Use, database: Database) -> None:
    """The table, its grants and the revision: DDL is rolled back as rows are."""
    use(role="owner", tenant_audit="refuse")
    versions.add("a2", OPEN)
    with pytest.raises(db.ConfigurationError, match=r"DB_TENANT_AUDIT=refuse: notes: row-level security does not"):
        migrations.upgrade(versions.folder)
    assert not is_there(database, "notes")
    assert not is_there(database, "alembic_version")
    assert migrations.upgrade(versions.folder, allowed={"notes": "its owner is nobody"}).after == "a2"


def test_what_a_migration_has_committed_itself_stays(versions: Versions, use: Use, database: Database) -> None:
    """And the revision is the last one that is whole: the next deploy begins there."""
    migrations.upgrade(versions.folder)
    use(role="owner", tenant_audit="refuse")
    versions.add("a2", OPEN_AND_COMMITTED)
    with pytest.raises(db.ConfigurationError, match=r"but for what it committed in an autocommit_block\(\)"):
        migrations.upgrade(versions.folder)
    assert is_there(database, "kept")
    with db.begin() as tx:
        assert tx.scalar(text("SELECT version_num FROM alembic_version")) == "a1"
        assert tx.scalar(text("SELECT relforcerowsecurity FROM pg_class WHERE relname = 'notes'"))


def test_an_exception_that_is_left_over_refuses_nothing(versions: Versions, use: Use) -> None:
    """It is a finding, and no hole."""
    use(role="owner", tenant_audit="refuse")
    done = migrations.upgrade(versions.folder, allowed={"totals": "all tenants may see them"})
    assert [one.kind for one in done.findings] == ["allowed-in-vain"]


@pytest.mark.parametrize("mode", ["off", "warn"])
def test_the_roles_may_be_named(
    versions: Versions, use: Use, database: Database, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Where a login has its rights through another; and nothing is looked at where the audit is off."""
    use(role="owner", tenant_audit=mode)
    done = migrations.upgrade(versions.folder, roles=[database.owner])
    assert ("owns-tables" in {one.kind for one in done.findings}) == (mode == "warn")
    assert len(warnings(caplog)) == (mode == "warn")


@pytest.mark.parametrize("mode", ["refuse", "warn"])
def test_a_catalogue_that_cannot_be_read_breaks_no_migration(
    versions: Versions, use: Use, mode: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statement fails, and the migration commits; that nothing was audited is said."""
    use(role="owner", tenant_audit=mode)
    monkeypatch.setattr(at_upgrade, "_GRANTED", text("SELECT rolpassword FROM pg_authid"))
    done = migrations.upgrade(versions.folder)
    assert (done.after, done.findings) == ("a1", ())
    (line,) = warnings(caplog)
    assert (line["message"], line["error"]) == ("tenants were not audited", "ProgrammingError 42501")


def test_the_room_says_what_is_looked_at_before_a_commit() -> None:
    """None where there is no row-level security to forget."""
    settings = db.Settings(url="sqlite://")
    assert tenancy.before_commit(settings, [], roles=None, allowed=None) is None
