"""The example is for copying, so it keeps to the library's own rules, which bind no other application."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

RUFF = (sys.executable, "-m", "ruff")
CONFIGURED = ("--no-cache", "--config", "pyproject.toml", "src/handlers")


@pytest.mark.parametrize(
    "command", [(*RUFF, "check", *CONFIGURED), (*RUFF, "format", "--check", *CONFIGURED)], ids=["lint", "format"]
)
def test_the_example_is_written_as_the_library_is(command: tuple[str, ...]) -> None:
    """With all rules, where src/handlers/ruff.toml asks for a few."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


@pytest.mark.slow
def test_the_example_is_typed_as_the_library_is() -> None:
    """Strictly, every function of it."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "src/handlers"], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout
