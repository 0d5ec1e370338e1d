"""Code that is rolled back to meets a schema that newer code has migrated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest
from alembic import command
from sqlalchemy import text

import db
from db import migrations
from db.migrations.lineage import LINEAGE_TABLE

from .conftest import Use

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres

REVISION = """
revision = "{revision}"
down_revision = {after}
from alembic import op
def upgrade():
    op.execute("CREATE TABLE t_{revision} (n int)")
def downgrade():
    op.execute("DROP TABLE t_{revision}")
"""
COMMITS_MIDWAY = """
revision = "a4"
down_revision = "a3"
from alembic import op
def upgrade():
    with op.get_context().autocommit_block():
        op.execute("CREATE INDEX CONCURRENTLY made_n ON t_a1 (n)")
    op.execute("SELECT 1 / 0")
"""


class Release(Protocol):
    """The folder of a release with these revisions, each on top of the one before."""

    def __call__(self, *revisions: str) -> Path: ...


@pytest.fixture
def release(tmp_path: Path) -> Release:
    def make(*revisions: str) -> Path:
        folder = tmp_path / "-".join(revisions)
        folder.mkdir()
        for revision, after in zip(revisions, [None, *revisions], strict=False):
            (folder / f"{revision}.py").write_text(REVISION.format(revision=revision, after=repr(after)))
        return folder

    return make


@pytest.fixture(autouse=True)
def _owner(use: Use) -> None:
    use(role="owner")


def seen(database: Database, postgres: Postgres) -> list[str]:
    """The tables, by name."""
    query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
    return [name for (name,) in postgres.execute(query, database=database.name)]


def without_record() -> None:
    """As if the newer code had been migrated by a tool that keeps none."""
    with db.begin() as tx:
        tx.execute(text(f"DROP TABLE {LINEAGE_TABLE}"))


def test_a_schema_that_newer_code_made_is_left_as_it_is(
    release: Release, database: Database, postgres: Postgres
) -> None:
    """However many revisions it is ahead, and whoever asks."""
    migrations.upgrade(release("a1", "a2", "a3"))
    made = seen(database, postgres)
    for older in (release("a1", "a2"), release("a1")):
        assert migrations.upgrade(older) == migrations.Upgraded("a3", "a3", ahead=True)
    assert seen(database, postgres) == made


def test_newer_code_goes_on_where_it_was(release: Release) -> None:
    """After the roll-back the release is mended, and deployed again with one revision more."""
    migrations.upgrade(release("a1", "a2"))
    assert migrations.upgrade(release("a1")).ahead
    assert migrations.upgrade(release("a1", "a2", "a3")) == migrations.Upgraded("a2", "a3")


def test_a_schema_on_another_branch_is_not_ahead(release: Release) -> None:
    """What this code would add has never been run, so that doing nothing would be a lie: also to CloudFormation."""
    migrations.upgrade(release("a1", "a2"))
    other = release("a1", "b2")
    refusal = (
        r"^the schema is at revision a2, which has no file among the migrations of this code \(newest: b2\), and that "
        r"one was not made on top of b2, which this code has: nothing was changed\. Deploy code that has that file"
    )
    for previous in (None, "a2"):
        with pytest.raises(db.ConfigurationError, match=refusal):
            migrations.upgrade(other, previous=previous)


def test_without_a_record_the_caller_may_know(release: Release) -> None:
    """CloudFormation names the revision that it rolls back from; nobody else's word counts."""
    migrations.upgrade(release("a1", "a2"))
    without_record()
    older = release("a1")
    for previous in (None, "a3"):
        with pytest.raises(db.ConfigurationError, match="nothing on record says whether it was made on top of them"):
            migrations.upgrade(older, previous=previous)
    assert migrations.upgrade(older, previous="a2") == migrations.Upgraded("a2", "a2", ahead=True)


def test_a_revision_is_known_by_its_whole_name(release: Release) -> None:
    """Alembic would take the beginning of one for another."""
    migrations.upgrade(release("a1", "a2"))
    without_record()
    with pytest.raises(db.ConfigurationError, match="the schema is at revision a2, which has no file"):
        migrations.upgrade(release("a1", "a2x"))


def test_what_a_migration_committed_before_it_failed_is_on_record(release: Release) -> None:
    """The schema stops half-way between two releases, at a revision that neither of them names as its newest."""
    newer = release("a1", "a2", "a3")
    (newer / "a4.py").write_text(COMMITS_MIDWAY)
    with pytest.raises(Exception, match="division by zero"):
        migrations.upgrade(newer)
    older = release("a1", "a2")
    assert migrations.upgrade(older, previous="a4") == migrations.Upgraded("a3", "a3", ahead=True)


def test_a_downgrade_is_on_record_too(release: Release, database: Database, postgres: Postgres) -> None:
    """Down to nothing, of which nothing stays."""
    newer = release("a1", "a2", "a3")
    migrations.upgrade(newer)
    with migrations.locked_connection() as conn:
        command.downgrade(migrations.config(newer, conn), "a2")
    query = f"SELECT revision FROM {LINEAGE_TABLE} ORDER BY 1"
    assert postgres.execute(query, database=database.name) == [("a1",), ("a2",)]
    with migrations.locked_connection() as conn:
        command.downgrade(migrations.config(newer, conn), "base")
    assert seen(database, postgres) == ["alembic_version"]


def test_a_schema_of_before_the_record_is_recorded_whole(release: Release) -> None:
    """The first migration that is recorded brings those before it along."""
    migrations.upgrade(release("a1", "a2"))
    without_record()
    newest = release("a1", "a2", "a3")
    migrations.upgrade(newest)
    assert migrations.upgrade(release("a1")).ahead
