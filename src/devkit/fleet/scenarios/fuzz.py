"""Events that nobody would send, to the handlers of this checkout. The test says what must not happen; here is the
number."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from devkit.fleet.finding import OURS, Finding
from devkit.lambda_runtime.environment import SOURCE

if TYPE_CHECKING:
    from devkit.fleet.nursery import Nursery

TEST = "tests/handlers/test_fuzz.py"
LONGEST_S = 400
SHOWN_LINES = 15


def fuzz(_: Nursery | None = None, *, events: int = 10_000) -> Finding:
    """``events`` events, drawn anew by hypothesis, in a pytest of their own. Raises TimeoutExpired after 400 s."""
    started = time.perf_counter()
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--show-capture=no", "-p", "no:cacheprovider", TEST],
        cwd=SOURCE.parent,
        env={**os.environ, "FUZZ_EXAMPLES": str(events)},
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
