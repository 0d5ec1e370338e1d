"""The migrations keep the contract with the release before, whatever application they are of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from db.migrations.__main__ import main

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[2]


def test_no_revision_takes_away_what_the_release_before_uses(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a line that says why: those of alembic.ini, as ``make check`` reads them."""
    monkeypatch.chdir(ROOT)
    assert main(["lint"]) == 0, capsys.readouterr().out
