"""Round trips of each work, and its latency where a trip takes time."""

from __future__ import annotations

import contextlib
import statistics
import time
from typing import TYPE_CHECKING

import psycopg

from benchmarks.cores import aside
from benchmarks.peers import peers
from benchmarks.place import Place
from benchmarks.series import Series
from benchmarks.workers import Worker, in_turn
from benchmarks.works import TRANSACTIONS, Work
from devkit.network.wire import Wire
from devkit.servers.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.peers.peer import Peer
    from benchmarks.plan import Plan

COUNTS = 5
TRIP = "a trip alone"  # in place of a peer: what the network costs where it is measured
TRIP_TIMES = 50


def measure(plan: Plan, tell: Callable[[str], None]) -> list[Series]:
    """Trips and connections, counted once; then latency, delay by delay, the peers in turn."""
    # Whatever delays is on the core of the server, so that the client has its own as it has in Lambda.
    with aside() as cores, Postgres() as postgres, Place(postgres) as place:
        tell("wire: round trips")
        series = [one for peer in peers() for one in counted(peer, place, plan.warm_up)]
        for delay_ms in plan.delays_ms:
            series += _latency(place, plan, delay_ms, tell, cores.client)
    return series


def counted(peer: type[Peer], place: Place, warm_up: int, where: str = "") -> Iterator[Series]:
    """Trips and connections of each of the peer's works: of FIRST in a process that has done nothing yet, else warm."""
    with Wire(place.host, place.port) as wire, Worker(peer, place.url(wire.port)) as worker:
        for work in TRANSACTIONS:
            if work not in peer.offers:
                continue
            if work is not Work.FIRST:
                worker.sample(work, warm_up)
            trips: list[float] = []
            connections: list[float] = []
            for _ in range(1 if work is Work.FIRST else COUNTS):
                before = wire.counts()
                worker.sample(work, 1)
                spent = wire.counts() - before
                trips.append(spent.trips)
                connections.append(spent.connections)
            yield Series(peer=peer.name, work=work, measure="trips", where=where, rounds=[trips])
            yield Series(peer=peer.name, work=work, measure="connections", where=where, rounds=[connections])


def _latency(place: Place, plan: Plan, delay_ms: float, tell: Callable[[str], None], core: int) -> Iterator[Series]:
    with contextlib.ExitStack() as running:
        port = place.port
        if delay_ms:
            # In this process, which otherwise waits: the workers' CPU and interpreter locks are their own.
            port = running.enter_context(Wire(place.host, place.port, delay_s=delay_ms / 1000)).port
        url = place.url(port)
        yield Series(peer=TRIP, work="SELECT 1", measure="wall_us", delay_ms=delay_ms, rounds=[_trips_us(url)])
        workers = [running.enter_context(Worker(peer, url, core)) for peer in peers()]
        for work in TRANSACTIONS:
            tell(f"wire: {delay_ms:g} ms, {work}")
            yield from latency(workers, work, plan, delay_ms)


def latency(workers: list[Worker], work: Work, plan: Plan, delay_ms: float, where: str = "") -> Iterator[Series]:
    """Of one work, in rounds."""
    first = work is Work.FIRST
    taken = in_turn(
        workers,
        work,
        warm_up=1 if first else plan.warm_up,
        rounds=plan.latency_rounds,
        times=plan.first_times if first else plan.latency_times,
        seed=f"{delay_ms} {where}",
    )
    for peer, samples in taken.items():
        rounds: list[list[float]] = [[round(us) for us in one.wall_us] for one in samples]
        yield Series(peer=peer, work=work, measure="wall_us", delay_ms=delay_ms, where=where, rounds=rounds)


def _trips_us(url: str) -> list[float]:
    """A statement that costs the server nothing, as often as it takes for a median."""
    with psycopg.connect(url, autocommit=True) as connection:
        taken = []
        for _ in range(TRIP_TIMES):
            started = time.perf_counter_ns()
            connection.execute("SELECT 1")
            taken.append((time.perf_counter_ns() - started) // 1000)
    return [int(statistics.median(taken))]
