"""Records of a queue: a batch in one transaction, beside a transaction for each record."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from benchmarks.bulk import BAD, EMPTY, RECORDS, TABLES
from benchmarks.cores import aside
from benchmarks.place import Place
from benchmarks.series import Series
from benchmarks.workers import Worker, in_turn
from benchmarks.works import Work
from devkit.network.wire import Wire
from devkit.servers.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.peers.peer import Peer
    from benchmarks.plan import Plan

DELAY_MS = 1.0
COUNTED = ("trips", "committed", "reported")


def peers() -> list[type[Peer]]:
    """The ways to take a batch, in the order of the table."""
    from benchmarks.peers.by_hand_in_bulk import Each, EachBoundPrePing
    from benchmarks.peers.ours_in_bulk import OursBatch, OursEach

    return [OursBatch, OursEach, EachBoundPrePing, Each]


def measure(plan: Plan, tell: Callable[[str], None]) -> list[Series]:
    """What a batch with bad records costs and leaves, counted once; then how long a good one takes."""
    with aside() as cores, Postgres() as postgres, Place(postgres) as place:
        postgres.execute(TABLES.format(role=place.user), database=place.name)
        tell("batch: round trips")
        series = [one for peer in peers() for one in spoiled(peer, postgres, place)]
        tell(f"batch: {DELAY_MS:g} ms")
        with contextlib.ExitStack() as running:
            wire = running.enter_context(Wire(place.host, place.port, delay_s=DELAY_MS / 1000))
            workers = [running.enter_context(Worker(peer, place.url(wire.port), cores.client)) for peer in peers()]
            taken = in_turn(workers, Work.BATCH, warm_up=1, rounds=plan.batch_rounds, times=1)
        for peer, samples in taken.items():
            rounds: list[list[float]] = [[round(us) for us in one.wall_us] for one in samples]
            series.append(Series(peer=peer, work=Work.BATCH, measure="wall_us", delay_ms=DELAY_MS, rounds=rounds))
        return series


def spoiled(peer: type[Peer], postgres: Postgres, place: Place) -> Iterator[Series]:
    """Trips of a warm batch with bad records, and what becomes of them. Raises RuntimeError if that is wrong."""
    with Wire(place.host, place.port) as wire, Worker(peer, place.url(wire.port)) as worker:
        worker.sample(Work.BATCH, 1)
        postgres.execute(EMPTY, database=place.name)
        before = wire.counts()
        reported = worker.sample(Work.SPOILED, 1).value
        trips = (wire.counts() - before).trips
    count = "SELECT (SELECT count(*) FROM readings) + (SELECT count(*) FROM tenant_readings)"
    ((committed,),) = postgres.execute(count, database=place.name)
    if (committed, reported) != (RECORDS - BAD, BAD):
        raise RuntimeError(f"{peer.name} committed {committed} and reported {reported} of {RECORDS}, {BAD} of them bad")
    for measure, value in zip(COUNTED, (trips, committed, reported), strict=True):
        yield Series(peer=peer.name, work=Work.SPOILED, measure=measure, rounds=[[value]])
