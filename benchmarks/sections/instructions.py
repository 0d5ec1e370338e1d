"""Instructions of the client for each warm transaction, as valgrind counts them: no clock, so a busy machine tells too.

They repeat to some 1 %. The kernel's are not among them: what a system call costs, and so a part of what a round trip
does, is in the section ``cpu``. https://valgrind.org/docs/manual/cl-manual.html
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.peers.ours import Ours
from benchmarks.peers.with_sqlalchemy import SqlAlchemy
from benchmarks.place import Place
from benchmarks.releases import CannotMeasureError, run
from benchmarks.series import Series
from benchmarks.workers import Worker
from benchmarks.works import Work
from devkit.servers.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.peers.peer import Peer
    from benchmarks.plan import Plan

WORKS = (Work.NOTHING, Work.READ, Work.WRITE, Work.BOUND_WRITE)
# All of a sample are in one invocation with its deadline, whose own million instructions are to be no part of a unit's:
# these share it, and 1 % of a write's are left. Each takes fifty times as long here.
UNITS = 200
END_S = 60.0


def measure(plan: Plan, tell: Callable[[str], None]) -> list[Series]:
    """One peer after the other; nothing is counted while it starts and warms up."""
    if not shutil.which("valgrind"):
        raise CannotMeasureError("valgrind counts the instructions, and is not installed")
    with Postgres() as postgres, Place(postgres) as place:
        return [one for peer in (Ours, SqlAlchemy) for one in _counted(peer, place, plan, tell)]


def _counted(peer: type[Peer], place: Place, plan: Plan, tell: Callable[[str], None]) -> Iterator[Series]:
    with tempfile.TemporaryDirectory() as name:
        written = Path(name) / "counts"
        tool = ("valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={written}")
        with Worker(peer, place.url(), under=tool, end_s=END_S) as worker:
            for number, work in enumerate(WORKS, 1):
                tell(f"instructions: {peer.name}, {work}")
                worker.sample(work, plan.warm_up)
                run(["callgrind_control", "--instr=on", str(worker.pid)])
                worker.sample(work, UNITS)
                run(["callgrind_control", "--instr=off", str(worker.pid)])
                run(["callgrind_control", "--dump", str(worker.pid)])  # and begin at zero
                count = total(written.with_name(f"counts.{number}").read_text()) / UNITS
                yield Series(peer=peer.name, work=work, measure="instructions", rounds=[[round(count)]])


def total(counts: str) -> int:
    """What a file of callgrind's sums up to."""
    (line,) = (line for line in counts.splitlines() if line.startswith("totals:"))
    return int(line.split()[1])
