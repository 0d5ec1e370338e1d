"""The client's CPU for each warm transaction, on loopback with nothing in between, pinned."""

from __future__ import annotations

import contextlib
import statistics
from typing import TYPE_CHECKING

from benchmarks.cores import Where, aside, move
from benchmarks.peers import peers
from benchmarks.place import Place
from benchmarks.series import Series
from benchmarks.workers import Worker, in_turn
from benchmarks.works import Work
from devkit.servers.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from benchmarks.peers.peer import Samples
    from benchmarks.plan import Plan

WORKS = (Work.NOTHING, Work.READ, Work.WRITE, Work.FIVE, Work.BOUND_READ, Work.BOUND_WRITE)


def measure(plan: Plan, tell: Callable[[str], None]) -> list[Series]:
    """User and system time of the worker's process, all its threads included: a median for each round."""
    series: list[Series] = []
    with aside() as cores, Postgres() as postgres, Place(postgres) as place, contextlib.ExitStack() as running:
        workers = [running.enter_context(Worker(peer, place.url(), cores.client)) for peer in peers()]
        for where in Where:
            move(postgres, cores.of_server(where))
            tell(f"cpu: {where}")
            series += of(workers, WORKS, where, rounds=plan.cpu_rounds, times=plan.cpu_times)
    return series


def of(workers: list[Worker], works: Iterable[Work], where: str, *, rounds: int, times: int) -> Iterator[Series]:
    """The CPU of ``workers``, work by work."""
    for work in works:
        # A first transaction connects, and takes far longer than any other.
        once = max(times // 10, 1) if work is Work.FIRST else times
        taken = in_turn(workers, work, warm_up=once, rounds=rounds, times=once, seed=where)
        for peer, samples in taken.items():
            medians = [[median_cpu(one)] for one in samples]
            yield Series(peer=peer, work=work, measure="cpu_us", where=where, rounds=medians)


def median_cpu(samples: Samples) -> float:
    """What a round stores: all of its samples would be half a million numbers."""
    return round(statistics.median(samples.cpu_us), 2)
