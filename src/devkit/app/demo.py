"""``make demo``: every event of an application through its handler in the real Lambda runtime, and what each cost."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devkit.lambda_runtime.environment import RUNNING, LambdaEnvironment

from .expectations import in_a_word
from .stack import Stack

if TYPE_CHECKING:
    from collections.abc import Mapping

    from devkit.network.wire import Counts

    from .catalogue import Case
    from .project import Project
    from .template import Function

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


def run(project: Project) -> int:
    """Run all cases, a fresh environment for each function; 0 where every answer was as expected."""
    started = time.perf_counter()
    cases = project.cases()
    with Stack(project) as stack, contextlib.ExitStack() as environments:
        called = {case.function for case in cases}
        functions = [function for name, function in stack.functions().items() if name in called]
        running = {
            function.name: environments.enter_context(_environment(function, stack.variables(function)))
            for function in functions
        }
        print(f"PostgreSQL, Secrets Manager and {len(running)} Lambda environments up after {_since(started)}")
        for function in functions:
            for key, limit in function.assumed.items():
                print(
                    f"{function.name}: its {key} is not known here, so it has Lambda's own, {limit};"
                    " tool.devkit.parameters gives a parameter its value"
                )
            if function.runtime != RUNNING:
                print(f"{function.name}: its Runtime is {function.runtime}, and what runs here is {RUNNING}")
            if unknown := stack.unknown(function):
                print(f"{function.name}: empty, as only a deployed stack knows it: {', '.join(unknown)}")
        print(f"\n{_line(COLUMNS)}")
        rows = [_run(case, stack, running[case.function]) for case in cases]
    wrong = [row for row in rows if row.problem]
    print(f"\n{len(rows) - len(wrong)} of {len(rows)} events answered as expected in {_since(started)}")
    for row in wrong:
        print(f"  {row.case.name}: {row.problem}", file=sys.stderr)
    return 1 if wrong else 0


def _environment(function: Function, variables: Mapping[str, str]) -> LambdaEnvironment:
    return LambdaEnvironment(
        handler=function.handler,
        code=[function.code, *function.layers],
        environment=variables,
        timeout_s=function.timeout_s,
        memory_mb=function.memory_mb,
        name=function.name,
        runtime=function.runtime,
    )


def _run(case: Case, stack: Stack, environment: LambdaEnvironment) -> Row:
    before = stack.wire.counts()
    invocation = environment.invoke(stack.payload(case))
    row = Row(
        case=case,
        answer=in_a_word(invocation.payload),
        cold=invocation.cold,
        duration_ms=invocation.duration_ms,
        counts=stack.wire.counts() - before,
        problem=stack.problem(case, invocation.payload),
    )
    start, counts = "cold" if row.cold else "warm", row.counts
    cells = (case.name, row.answer, start, f"{row.duration_ms:.0f}", str(counts.trips), str(counts.connections))
    print(_line(cells) + (_red("  not as expected") if row.problem else ""))
    if row.problem:
        print("\n".join(invocation.logs), file=sys.stderr)
    return row


def _line(cells: tuple[str, ...]) -> str:
    event, *rest = cells
    return f"{event:<32}" + "".join(f"{cell:>10}" for cell in rest)


def _since(started: float) -> str:
    return f"{time.perf_counter() - started:.1f} s"


def _red(text: str) -> str:
    return f"\033[31m{text}\033[0m" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else text
