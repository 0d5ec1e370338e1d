"""Many rows over COPY: how fast, and whether memory stays the same however many they are."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from benchmarks.bulk import EMPTY, ROWS, TABLES
from benchmarks.cores import aside
from benchmarks.pairs import turns
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
    """A small load for a warm-up, and then large ones into an empty table, in rounds."""
    with aside() as cores, Postgres() as postgres, Place(postgres) as place, contextlib.ExitStack() as running:
        postgres.execute(TABLES.format(role=place.user), database=place.name)
        workers = [running.enter_context(Worker(peer, place.url(), cores.client)) for peer in peers()]
        some = {worker: load(worker, Work.LOAD_SOME, postgres, place) for worker in workers}
        taken: dict[Worker, list[Samples]] = {worker: [] for worker in workers}
        for number, order in enumerate(turns(workers, rounds=plan.copy_rounds, seed="copy"), 1):
            tell(f"copy: round {number} of {plan.copy_rounds}")
            for worker in order:
                taken[worker].append(load(worker, Work.LOAD, postgres, place))
    return [one for worker in workers for one in _series(worker.peer.name, some[worker], taken[worker])]


def load(worker: Worker, work: Work, postgres: Postgres, place: Place) -> Samples:
    """One load, timed. Raises RuntimeError where the rows are not there afterwards."""
    postgres.execute(EMPTY, database=place.name)
    samples = worker.sample(work, 1)
    ((loaded,),) = postgres.execute("SELECT count(*) FROM items", database=place.name)
    if loaded != ROWS[work]:
        raise RuntimeError(f"{worker.peer.name} loaded {loaded} rows of {ROWS[work]}")
    return samples


def _series(peer: str, some: Samples, taken: list[Samples]) -> list[Series]:
    peaks: list[float] = [one.value or 0 for one in taken]
    walls, cpus = ([[round(us) for us in getattr(one, measure)] for one in taken] for measure in ("wall_us", "cpu_us"))
    return [
        Series(peer=peer, work=Work.LOAD_SOME, measure="peak_bytes", rounds=[[some.value or 0]]),
        Series(peer=peer, work=Work.LOAD, measure="peak_bytes", rounds=[peaks]),
        Series(peer=peer, work=Work.LOAD, measure="wall_us", rounds=walls),
        Series(peer=peer, work=Work.LOAD, measure="cpu_us", rounds=cpus),
    ]
