"""Each ``python -m …`` of the project ends quietly when nobody reads what it prints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from db.environment.commands import NOBODY_READS, run

ROOT = Path(__file__).parents[2]
ENTRIES = sorted([*(ROOT / "src").rglob("__main__.py"), *(ROOT / "benchmarks").rglob("__main__.py")])


def printed_to_nobody(*arguments: str) -> tuple[int, str]:
    """The status, and what went to stderr, of a Python whose stdout has been closed at the other end."""
    reader, writer = os.pipe()
    os.close(reader)
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, *arguments]
    try:
        done = subprocess.run(
            command, stdout=writer, stderr=subprocess.PIPE, env=buffered, text=True, timeout=60, check=False
        )
    finally:
        os.close(writer)
    return done.returncode, done.stderr


@pytest.mark.parametrize("arguments", [["-m", "devkit", "settings"], ["-m", "db", "--help"]])
def test_a_reader_that_has_gone_ends_it_without_a_traceback(arguments: list[str]) -> None:
    """As it ends what SIGPIPE ends; in the middle, or when all is said, be it by argparse."""
    assert printed_to_nobody(*arguments) == (NOBODY_READS, "")


def test_a_pipe_that_breaks_elsewhere_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    """Such as a connection's: stdout has its reader."""

    def main() -> int:
        raise BrokenPipeError("a socket's")

    with pytest.raises(BrokenPipeError, match="a socket's"):
        run(main)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: str(entry.parent.relative_to(ROOT)))
def test_every_command_runs_so(entry: Path) -> None:
    """One that is new as well."""
    assert entry.read_text().rstrip().endswith("run(main)")


def test_there_are_some() -> None:
    """Those of the layer, of its migrations, of the kit, and of the benchmarks."""
    assert len(ENTRIES) >= 4
