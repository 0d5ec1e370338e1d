"""``make demo``: every payload of ``events/`` through its handler in the real Lambda runtime, and what each cost."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devkit.lambda_runtime.environment import LambdaEnvironment

from .catalogue import cases, in_a_word
from .stack import Stack
from .template import functions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from devkit.network.wire import Counts

    from .catalogue import Case

COLUMNS = ("event", "answer", "start", "ms", "trips", "connects")


@dataclass(frozen=True)
class Row:
    """What one event came to."""

    case: Case
    answer: str
    cold: bool
    duration_ms: float
    counts: Counts
    problem: str | None


def run() -> int:
    """Run all cases, a fresh environment for each function; 0 where every answer was as expected."""
    started = time.perf_counter()
    with Stack() as stack, contextlib.ExitStack() as environments:
        running = {
            function.name: environments.enter_context(
                LambdaEnvironment(
                    handler=function.handler,
                    environment={**stack.environment(), **function.environment},
                    timeout_s=function.timeout_s,
                    memory_mb=function.memory_mb,
                    name=function.name,
                )
            )
            for function in functions(stack.parameters()).values()
        }
        print(f"PostgreSQL, Secrets Manager and {len(running)} Lambda environments up after {_since(started)}\n")
        print(_line(COLUMNS))
        rows = [_run(case, stack, running) for case in cases()]
    wrong = [row for row in rows if row.problem]
    print(f"\n{len(rows) - len(wrong)} of {len(rows)} events answered as expected in {_since(started)}")
    for row in wrong:
        print(f"  {row.case.name}: {row.problem}", file=sys.stderr)
    return 1 if wrong else 0


def _run(case: Case, stack: Stack, running: Mapping[str, LambdaEnvironment]) -> Row:
    before = stack.wire.counts()
    invocation = running[case.function].invoke(stack.payload(case))
    problem = f"the function failed: {invocation.error}" if invocation.error else None
    row = Row(
        case=case,
        answer=in_a_word(invocation.payload),
        cold=invocation.cold,
        duration_ms=invocation.duration_ms,
        counts=stack.wire.counts() - before,
        problem=problem or stack.problem(case, invocation.payload),
    )
    start, counts = "cold" if row.cold else "warm", row.counts
    cells = (case.name, row.answer, start, f"{row.duration_ms:.0f}", str(counts.trips), str(counts.connections))
    print(_line(cells) + (_red("  not as expected") if row.problem else ""))
    if invocation.error:
        print("\n".join(invocation.logs), file=sys.stderr)
    return row


def _line(cells: tuple[str, ...]) -> str:
    event, *rest = cells
    return f"{event:<32}" + "".join(f"{cell:>10}" for cell in rest)


def _since(started: float) -> str:
    return f"{time.perf_counter() - started:.1f} s"


def _red(text: str) -> str:
    return f"\033[31m{text}\033[0m" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else text
