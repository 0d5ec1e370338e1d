"""What several tests of the devkit need."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from pathlib import Path


class RunPython(Protocol):
    """``run_python("-c", "print(1)")``: what a Python process of its own printed. It has to end well."""

    def __call__(self, *arguments: str | Path) -> str: ...


@pytest.fixture
def run_python(tmp_path: Path) -> RunPython:
    def run(*arguments: str | Path) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
