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


def test_a_reader_of_errors_that_has_gone_ends_it_likewise() -> None:
    """What is printed goes to a file: the status is not 1, which says of a check that there are warnings."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-m", "db", "check", "--allowed", "nowhere"]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=writer, timeout=60, check=False)
    finally:
        os.close(writer)
    assert done.returncode == NOBODY_READS


@pytest.mark.parametrize("closed", [[1], [2], [1, 2]])
def test_without_an_output_the_status_is_told_as_ever(closed: list[int]) -> None:
    """``python -m … >&-``: Python has None in its place, and its number would be the next socket's."""
    work = "\n".join(
        [
            "import os, sys",
            "from db.environment.commands import run",
            "def main():",
            "    print('to nobody'); print('to nobody', file=sys.stderr)",
            "    return 2 if min(os.pipe()) > 2 else 3",
            "run(main)",
        ]
    )
    closing = " ".join(f"{number}>&-" for number in closed)
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -c "$1" {closing}', sys.executable, work],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    said = "to nobody\n"
    assert (done.stdout, done.stderr) == ("" if 1 in closed else said, "" if 2 in closed else said)


def test_a_pipe_that_breaks_elsewhere_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    """Such as a connection's: stdout and stderr have their readers."""

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
