"""``make sam-local``: every event through ``sam local invoke``, in Docker, against the local stack.

SAM and the template are the real ones: what is proven here is what ``sam build`` packs, that the template gives each
function the settings that it needs, and that the package runs in Lambda's container. Stack and cases are the demo's.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.lambda_runtime import docker, image
from devkit.lambda_runtime.docker_bridge import HOST, Doors

from .expectations import in_a_word
from .sam_cli import SamLocal, build
from .stack import Stack

if TYPE_CHECKING:
    from types import FrameType

    from .catalogue import Case
    from .project import Project
    from .sam_cli import Outcome


def run(project: Project) -> int:
    """Build, invoke every case in order, print a table. Returns 1 if anything was not as expected."""
    signal.signal(signal.SIGTERM, leave)
    cases = project.cases()
    try:
        with docker.engine() as engine:
            outcomes = invoke_all(project, cases, engine)
    except docker.DockerError as error:
        print(f"make sam-local: {error}", file=sys.stderr)
        return 1
    failed = [outcome for outcome in outcomes if outcome.problem]
    print(f"\n{len(outcomes) - len(failed)} of {len(outcomes)} events answered as expected")
    return 1 if failed else 0


def invoke_all(project: Project, cases: list[Case], engine: docker.Engine) -> list[Outcome]:
    """All cases on one engine, each shown when it is done."""
    functions = project.functions()
    for runtime in sorted({functions[case.function].runtime for case in cases}):
        started = time.monotonic()
        origin = image.runtime_image(engine, runtime)
        print(f"image of {runtime}: {origin} ({time.monotonic() - started:.0f} s)", flush=True)
    build(project)
    with (
        Stack(project, database_host=HOST) as stack,
        Doors(engine.gateway()) as doors,
        tempfile.TemporaryDirectory() as folder,
    ):
        sam = SamLocal(stack, doors, engine, Path(folder))
        print(f"\n{line('event', 'function', 'answer', 'ms', 'trips', 'connects')}", flush=True)
        return [show(sam.outcome(case)) for case in cases]


def leave(number: int, _frame: FrameType | None) -> None:
    """End through the open blocks, so that the engine and the stack go too. A second signal changes nothing."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


def show(outcome: Outcome) -> Outcome:
    """One line of the table, and the log under one that failed."""
    case, counts = outcome.case, outcome.counts
    cells = (in_a_word(outcome.answer), f"{outcome.ms:.0f}", counts.trips, counts.connections)
    print(line(case.name, case.function, *cells), flush=True)
    if outcome.problem:
        print(
            f"  {outcome.problem}\n  it answered {json.dumps(outcome.answer)[:2000]}\n{outcome.log[-4000:]}", flush=True
        )
    return outcome


def line(event: str, function: str, *cells: object) -> str:
    """A line of the table."""
    return f"{event:<32} {function:<22}" + "".join(f"{cell!s:>10}" for cell in cells)
