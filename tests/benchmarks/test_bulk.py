"""What the sections about many records, many rows and many duplicates measure."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from benchmarks.bulk import TABLES
from benchmarks.pgbench import PgBench
from benchmarks.place import Place
from benchmarks.releases import NEWEST, VERSIONS, installation
from benchmarks.sections import batch, copy, once, throughput
from benchmarks.workers import Worker
from benchmarks.works import Work
from db.environment import process
from devkit.fleet.once_storm import Storm
from devkit.servers.pgbouncer import PgBouncer
from devkit.servers.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.peers.peer import Peer

# With ten bad records of a hundred. Where a transaction has a statement for each trip, it is BEGIN, the INSERT, and
# COMMIT or ROLLBACK; the ping and two settings where it is bound. After each ROLLBACK psycopg deallocates its prepared
# statements, one trip, and after nine of them prepares each again, one more trip.
TRIPS = {
    "db.batch": 101,
    "db.begin for each record": 200,
    "SQLAlchemy, pre-ping, bound: a transaction for each record": 6 * 100 + 10 + 9 * 3,
    "SQLAlchemy: a transaction for each record": 3 * 100 + 10 + 9 * 1,
}


@pytest.fixture
def place(postgres: Postgres) -> Iterator[Place]:
    with Place(postgres) as made:
        postgres.execute(TABLES.format(role=made.user), database=made.name)
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("peer", batch.peers(), ids=lambda peer: peer.name)
def test_of_a_spoiled_batch_each_peer_commits_and_reports_the_same(
    peer: type[Peer], postgres: Postgres, place: Place
) -> None:
    """For as many trips as are said of it: one that did more than people do would flatter the ratio over it."""
    counted = {one.measure: one.median() for one in batch.spoiled(peer, postgres, place)}
    assert counted == {"trips": TRIPS[peer.name], "committed": 90, "reported": 10}


def test_each_peer_loads_the_same_rows(postgres: Postgres, place: Place) -> None:
    """And says how much memory it took, which never shrinks."""
    seen = []
    for peer in copy.peers():
        with Worker(peer, place.url()) as worker:
            peaks = [copy.load(worker, Work.LOAD_SOME, postgres, place).value or 0 for _ in range(2)]
        assert 0 < peaks[0] <= peaks[1]
        rows = "SELECT count(*), sum(id), min(name), max(name), sum(amount) FROM items"
        seen.append(postgres.execute(rows, database=place.name))
    assert seen[0] == seen[1]


@pytest.mark.slow
def test_environments_and_pgbench_leave_the_same_marks() -> None:
    """Each transaction of either is one more on the note of its tenant."""
    core, number = min(os.sched_getaffinity(0)), 3
    programs = installation(NEWEST)
    with Postgres(installation=programs) as server, Place(server) as made, PgBouncer(server) as pooler:
        assert server.execute("SHOW server_version") == [(VERSIONS[NEWEST].removesuffix(".0"),)]
        server.execute(throughput.TENANTS, database=made.name)
        marks = "SELECT count(*), sum(hits) FROM tenant_notes WHERE hits > 0"
        with throughput.Environments(made.url(pooler.port), core, number) as environments:
            taken = [environments.taken(seconds=0, pause_us=pause_us) for pause_us in (0, 1000)]
        assert [len(one.latencies_us) for one in taken] == [number, number]
        assert server.execute(marks, database=made.name) == [(number, 2 * number)]
        bench = PgBench(programs / "bin" / "pgbench", made, pooler.port, core)
        further = len(bench.taken(clients=number, seconds=1, pause_us=1000).latencies_us)
        assert further >= number
        assert server.execute(marks, database=made.name) == [(number, 2 * number + further)]


def test_a_storm_is_counted_by_key() -> None:
    """A key is wrong whose effect is missing or there twice, and one that has no answer or two."""
    effects = {"key 0": 1, "key 1": 2, "key 3": 1}
    answers = {"key 0": {"a"}, "key 1": {"a", "b"}, "key 2": {"a"}}
    found = once.counted(Storm(effects, answers, kills=5, calls_again=6), keys=4, duplicates=7)
    assert list(found.values()) == [4, 7, 5, 6, 2, 2]


@pytest.fixture
def no_runtime() -> Iterator[None]:
    yield
    process.DEFAULT._runtime = None


@pytest.mark.usefixtures("no_runtime")
def test_a_small_storm_leaves_no_key_wrong(postgres: Postgres) -> None:
    """On a place of the benchmarks' own."""
    with Place(postgres) as place:
        came = once.weathered(postgres, place, keys=5, duplicates=4)
    found = once.counted(came, keys=5, duplicates=4)
    assert (found[once.WRONG_EFFECTS], found[once.WRONG_ANSWERS]) == (0, 0)
    assert came.effects.keys() == came.answers.keys() == {f"key {number}" for number in range(5)}
