"""Many rows over COPY: how fast, and whether memory stays the same however many they are."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from benchmarks.bulk import EMPTY, ROWS, TABLES
from benchmarks.place import Place
from benchmarks.series import Series
from benchmarks.workers import Worker
from benchmarks.works import Work
from devkit.servers.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.peers.peer import Peer, Samples
    from benchmarks.plan import Plan


def peers() -> list[type[Peer]]:
    """The ways to load rows, in the order of the table."""
    from benchmarks.peers.by_hand_in_bulk import PsycopgCopy
    from benchmarks.peers.ours_in_bulk import OursCopy

    return [OursCopy, PsycopgCopy]


def measure(plan: Plan, tell: Callable[[str], None]) -> list[Series]:
    """A small load for a warm-up, and then large ones into an empty table, the peers in turn."""
    with Postgres() as postgres, Place(postgres) as place, contextlib.ExitStack() as running:
        postgres.execute(TABLES.format(role=place.user), database=place.name)
        workers = [running.enter_context(Worker(peer, place.url())) for peer in peers()]
        some = [load(worker, Work.LOAD_SOME, postgres, place) for worker in workers]
        taken: list[list[Samples]] = [[] for _ in workers]
        for number in range(plan.copy_rounds):
            tell(f"copy: round {number + 1} of {plan.copy_rounds}")
            for worker, samples in zip(workers, taken, strict=True):
                samples.append(load(worker, Work.LOAD, postgres, place))
    series = []
    for worker, first, samples in zip(workers, some, taken, strict=True):
        series += _series(worker.peer.name, first, samples)
    return series


def load(worker: Worker, work: Work, postgres: Postgres, place: Place) -> Samples:
    """One load, timed. Raises RuntimeError where the rows are not there afterwards."""
    postgres.execute(EMPTY, database=place.name)
    samples = worker.sample(work, 1)
    ((loaded,),) = postgres.execute("SELECT count(*) FROM items", database=place.name)
    if loaded != ROWS[work]:
        raise RuntimeError(f"{worker.peer.name} loaded {loaded} rows of {ROWS[work]}")
    return samples


def _series(peer: str, some: Samples, taken: list[Samples]) -> list[Series]:
    walls = [one.wall_us for one in taken]
    peaks = [one.value or 0 for one in taken]
    return [
        Series(peer=peer, work=Work.LOAD_SOME, measure="peak_bytes", rounds=[[some.value or 0]]),
        Series(peer=peer, work=Work.LOAD, measure="peak_bytes", rounds=[peaks]),
        Series(peer=peer, work=Work.LOAD, measure="wall_us", rounds=walls),
    ]
