"""The client's CPU for each warm transaction, on loopback with nothing in between."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from benchmarks.peers import peers
from benchmarks.place import Place
from benchmarks.series import Series
from benchmarks.workers import Worker, in_turn
from benchmarks.works import Work
from devkit.servers.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.plan import Plan

WORKS = (Work.READ, Work.WRITE, Work.FIVE, Work.BOUND_READ, Work.BOUND_WRITE)


def measure(plan: Plan, tell: Callable[[str], None]) -> list[Series]:
    """User and system time of the worker's process, all its threads included."""
    series = []
    with Postgres() as postgres, Place(postgres) as place, contextlib.ExitStack() as running:
        workers = [running.enter_context(Worker(peer, place.url())) for peer in peers()]
        for work in WORKS:
            tell(f"cpu: {work}")
            taken = in_turn(workers, work, warm_up=plan.cpu_times, rounds=plan.cpu_rounds, times=plan.cpu_times)
            for peer, samples in taken.items():
                series.append(Series(peer=peer, work=work, measure="cpu_us", rounds=[one.cpu_us for one in samples]))
    return series
