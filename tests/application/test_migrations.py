"""The migrations and alembic.ini, which says where they are and with which tables they are compared."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.config import Config

import db
from db import migrations
from handlers.migrate import VERSIONS

from .conftest import Enter

if TYPE_CHECKING:
    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> Config:
    """What ``alembic`` reads when it is called in the repository's folder."""
    monkeypatch.chdir(ROOT)
    return Config(str(ROOT / "alembic.ini"))


def test_a_second_upgrade_finds_nothing_to_do(enter: Enter) -> None:
    """And says where it was."""
    enter()
    newest = migrations.upgrade(VERSIONS).after
    assert migrations.upgrade(VERSIONS) == migrations.Upgraded(newest, newest)


def test_migrations_make_the_tables_that_the_code_describes(
    enter: Enter, config: Config, database: Database, postgres: Postgres
) -> None:
    """``DB_URL=… alembic upgrade head`` leaves ``alembic check`` nothing to add or to remove, and goes back down."""
    enter()
    command.upgrade(config, "head")
    command.check(config)
    command.downgrade(config, "base")
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    assert postgres.execute(tables, database=database.name) == [("alembic_version",)]


def test_the_statements_are_printed_without_a_database(
    enter: Enter, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    """``alembic upgrade head --sql``, for whom another team migrates."""
    enter(down=True)
    config.stdout = sys.stdout  # where capsys listens
    command.upgrade(config, "head", sql=True)
    assert "CREATE TABLE" in capsys.readouterr().out
    assert db.status()["totals"]["connects"] == 0


def test_a_new_migration_passes_the_checks(tmp_path: Path, config: Config) -> None:
    """As Alembic writes it."""
    config.set_main_option("version_locations", str(tmp_path))
    command.revision(config, "what it does", rev_id="0001")
    (made,) = tmp_path.glob("*.py")
    ruff = [sys.executable, "-m", "ruff"]
    ignored = ["--config", "lint.per-file-ignores = {}", "--ignore", "F401,INP001"]
    for command_line in ([*ruff, "check", *ignored, str(made)], [*ruff, "format", "--check", str(made)]):
        subprocess.run(command_line, check=True, cwd=ROOT, capture_output=True)
