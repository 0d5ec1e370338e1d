"""Where the lines of the layer's log go: inside Lambda, and in a script whose output is its result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

# As a script does it, which logs by Powertools as well: the logger is then one.
SCRIPT = """
import sys
if "before" in sys.argv:
    from aws_lambda_powertools import Logger
    logger = Logger({stream})
import db
if "after" in sys.argv:
    from aws_lambda_powertools import Logger
    logger = Logger()
from sqlalchemy import text
if len(sys.argv) > 1:
    logger.append_keys(order=7)
    logger.info("the script's own")
with db.read() as conn:
    print(conn.execute(text("SELECT 1")).scalar())
db.dispose()
"""


def written(*args: str, stream: str = "", **environ: str) -> tuple[str, list[dict[str, Any]]]:
    """What the script printed, and the lines of its stderr."""
    without = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "DB_", "POWERTOOLS_"))}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("{stream}", stream), *args],
        env={**without, "DB_URL": "sqlite://", **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, [json.loads(line) for line in done.stderr.splitlines()]


def test_a_scripts_output_is_its_own() -> None:
    """INFO lines are no part of what `script.py | ...` reads."""
    printed, logged = written()
    assert printed == "1\n"
    assert "database connect" in [line["message"] for line in logged]


@pytest.mark.slow
@pytest.mark.parametrize("logger_made", ["before", "after"])
def test_a_scripts_own_lines_stay_where_they_went(logger_made: str) -> None:
    """The logger is shared, so that ours have its keys and its level; where it writes is the script's business."""
    printed, logged = written(logger_made)
    own, answer = printed.splitlines()
    assert (json.loads(own)["message"], answer) == ("the script's own", "1")
    assert {line["order"] for line in logged} == {7}
    assert {line["message"] for line in logged} >= {"database connect", "database dispose"}


def test_the_level_of_the_shared_logger_holds_for_both() -> None:
    """A script that wants quiet has it."""
    assert written("after", POWERTOOLS_LOG_LEVEL="WARNING") == ("1\n", [])


def test_a_logger_that_writes_elsewhere_keeps_our_lines(tmp_path: Path) -> None:
    """Whoever made it before has said where lines go."""
    printed, logged = written("before", stream=f"stream=open({str(tmp_path / 'log')!r}, 'w')")
    assert (printed, logged) == ("1\n", [])
    assert "database connect" in (tmp_path / "log").read_text()


def test_inside_lambda_all_lines_go_where_powertools_writes() -> None:
    """Lambda reads both streams, in no order between them."""
    printed, logged = written("after", AWS_LAMBDA_RUNTIME_API="127.0.0.1:9001")
    assert logged == []
    assert "database connect" in printed
