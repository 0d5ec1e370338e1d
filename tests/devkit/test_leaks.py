"""A password that a test shows fails the test."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.plugin import Database


pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("shows", "outcome"),
    [
        ("print(new_password())", "1 failed"),
        ("logging.getLogger().warning(new_password())", "1 failed"),
        ("raise ValueError(new_password())", "1 failed"),
        ("print('nothing of it')", "1 passed"),
    ],
)
def test_a_test_that_shows_a_password_fails(shows: str, outcome: str, tmp_path: Path) -> None:
    """Printed, logged or raised; and only then."""
    source = f"import logging\nfrom devkit.servers.passwords import new_password\ndef test_it():\n    {shows}\n"
    (tmp_path / "test_it.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stdout.splitlines()[-1].strip("= ").startswith(f"{outcome} in")


def test_a_database_prints_without_its_passwords(database: Database) -> None:
    """A failing test shows its fixtures."""
    assert database.app in repr(database)
    assert [p for p in (database.app_password, database.owner_password) if p in repr(database)] == []
