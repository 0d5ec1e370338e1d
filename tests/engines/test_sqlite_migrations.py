"""Migrations on SQLite: one runner at a time, and all or nothing, as on PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import exc, inspect, make_url, text

import db
from db import migrations
from db.environment import process
from db.settings import Settings
from db.wire.sqlite_dialect import ServerlessSqliteDialect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.plugin import MakeLambdaContext

FIRST = """
revision = "a1"
down_revision = None
import sqlalchemy as sa
from alembic import op
from db.migrations.operations import create_once_table
def upgrade():
    op.create_table("shelf", sa.Column("n", sa.Integer, primary_key=True))
    op.create_table("book", sa.Column("n", sa.Integer, sa.ForeignKey("shelf.n", ondelete="CASCADE")))
    op.execute("INSERT INTO shelf VALUES (1)")
    op.execute("INSERT INTO book VALUES (1)")
    create_once_table(op, used_by=["app"], purged_by="report")
"""
# SQLite alters a column by a new table in the place of the old one, which is dropped.
SECOND = """
revision = "a2"
down_revision = "a1"
import sqlalchemy as sa
from alembic import op
def upgrade():
    with op.batch_alter_table("shelf") as shelf:
        shelf.add_column(sa.Column("label", sa.Text))
        shelf.alter_column("label", nullable=False, server_default="none")
"""
WRONG = """
revision = "a3"
down_revision = "a2"
from alembic import op
def upgrade():
    op.execute("CREATE TABLE half (n int)")
    op.execute("{}")
"""


@pytest.fixture(params=["memory", "file"])
def versions(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    db.configure(Settings(url="sqlite://" if request.param == "memory" else f"sqlite:///{tmp_path}/a.db"))
    folder = tmp_path / "versions"
    folder.mkdir()
    (folder / "a1.py").write_text(FIRST)
    yield folder
    db.dispose()
    process.DEFAULT._runtime = None


def tables() -> set[str]:
    with db.engine().connect() as conn:
        return set(inspect(conn).get_table_names())


def test_a_schema_is_brought_up_and_a_table_made_anew_keeps_what_points_at_it(versions: Path) -> None:
    """Dropping the old one would have deleted the books by their foreign key."""
    assert migrations.upgrade(versions) == migrations.Upgraded(None, "a1")
    (versions / "a2.py").write_text(SECOND)
    assert migrations.upgrade(versions) == migrations.Upgraded("a1", "a2")
    assert migrations.upgrade(versions) == migrations.Upgraded("a2", "a2")
    with db.read() as conn:
        assert conn.execute(text("SELECT book.n, label FROM book JOIN shelf USING (n)")).one() == (1, "none")
    with pytest.raises(exc.IntegrityError), db.begin() as tx:  # foreign keys are looked at again
        tx.execute(text("INSERT INTO book VALUES (2)"))
    assert db.once("key").run(lambda _: 1) == 1


@pytest.mark.parametrize("mistake", ["no SQL", "INSERT INTO book VALUES (7)"], ids=["error", "foreign key"])
def test_a_migration_that_fails_leaves_nothing(versions: Path, mistake: str) -> None:
    """DDL is in the transaction, and so are those before it in the same run."""
    migrations.upgrade(versions)
    (versions / "a2.py").write_text(SECOND)
    (versions / "a3.py").write_text(WRONG.format(mistake))
    with pytest.raises(exc.DBAPIError):
        migrations.upgrade(versions)
    assert "half" not in tables()
    assert migrations.upgrade(versions, revision="a2") == migrations.Upgraded("a1", "a2")


def test_code_that_is_rolled_back_leaves_a_schema_that_is_ahead(versions: Path) -> None:
    """By the revisions on record, as on PostgreSQL."""
    (versions / "a2.py").write_text(SECOND)
    migrations.upgrade(versions)
    (versions / "a2.py").unlink()
    assert migrations.upgrade(versions).ahead


def test_two_runners_bring_it_up_once(versions: Path) -> None:
    """The second waits for the first, and finds nothing to do."""
    if make_url("sqlite://") == process.current().settings.url:
        db.configure(Settings(url=f"sqlite:///{versions}/b.db"))  # nobody else can come to one in memory
    done: list[migrations.Upgraded] = []
    threads = [threading.Thread(target=lambda: done.append(migrations.upgrade(versions))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done, key=lambda one: one.before or "") == [
        migrations.Upgraded(None, "a1"),
        migrations.Upgraded("a1", "a1"),
    ]


def test_a_runner_waits_no_longer_than_the_invocation(tmp_path: Path, lambda_context: MakeLambdaContext) -> None:
    """For who has the lock and does not let go of it."""
    db.configure(Settings(url=f"sqlite:///{tmp_path}/a.db", deadline_reserve_s=0.1))
    (tmp_path / "a1.py").write_text(FIRST)
    lock = ServerlessSqliteDialect.migration_lock(make_url(f"sqlite:///{tmp_path}/a.db"))
    assert lock.take()

    @db.invocation
    def handler(_event: object, _context: object) -> None:
        migrations.upgrade(tmp_path)

    with pytest.raises(db.DeadlineError):
        handler({}, lambda_context(remaining_s=0.5))
    lock.release()
    assert migrations.upgrade(tmp_path).after == "a1"
    db.dispose()
    process.DEFAULT._runtime = None


def test_alembic_by_hand_writes_sql_for_the_engine_of_the_settings(tmp_path: Path) -> None:
    """``--sql`` needs no database, but the name of its engine."""
    (tmp_path / "a1.py").write_text(FIRST)
    here = Path(migrations.__file__).parent
    (tmp_path / "alembic.ini").write_text(f"[alembic]\nscript_location = {here}\nversion_locations = {tmp_path}\n")
    written = subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head", "--sql"],
        cwd=tmp_path,
        env={**os.environ, "DB_URL": f"sqlite:///{tmp_path}/a.db"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "expires_at DATETIME NOT NULL" in written
    assert "ROW LEVEL SECURITY" not in written
    assert not (tmp_path / "a.db").exists()
