"""Events that nobody would send, to an application's handlers. Its test says what must not happen; here is the
number."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from devkit.fleet.finding import OURS, Finding

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES_VARIABLE = "FUZZ_EXAMPLES"
LONGEST_S = 400
SHOWN_LINES = 15


def fuzz(test: Path, *, events: int = 10_000) -> Finding:
    """``events`` events, drawn anew by ``test``, in a pytest of their own. Raises TimeoutExpired after 400 s.

    The test is a file for pytest that fails where a handler does, and draws as many as FUZZ_EXAMPLES says.
    """
    started = time.perf_counter()
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--show-capture=no", "-p", "no:cacheprovider", str(test.resolve())],
        env={**os.environ, EXAMPLES_VARIABLE: str(events)},
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    passed = ran.returncode == 0
    said = [] if passed else ran.stdout.splitlines()[-SHOWN_LINES:]
    return Finding(
        name="fuzz",
        title=f"{events:,} fuzzed events on the handlers",
        target="no 5xx, no unhandled exception",
        parts={"no 5xx, no unhandled exception": passed},
        figures={OURS: f"{events:,} answered, none by 5xx" if passed else "see below"},
        notes={"seconds": round(time.perf_counter() - started), **({"said": said} if said else {})},
    )
