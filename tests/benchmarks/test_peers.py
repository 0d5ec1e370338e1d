"""The peers do the same work, and cost what is said of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.peers import peers
from benchmarks.peers.with_sqlalchemy import SqlAlchemy, SqlAlchemyNullPool, SqlAlchemyPrePing
from benchmarks.place import Place
from benchmarks.sections.wire import counted
from benchmarks.workers import Worker, in_turn
from benchmarks.works import HITS, Work

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.peers.peer import Peer
    from devkit.servers.postgres import Postgres

pytestmark = pytest.mark.slow

WARM_UP = 12
READS = {Work.READ, Work.FIVE, Work.BOUND_READ}


@pytest.fixture
def place(postgres: Postgres) -> Iterator[Place]:
    with Place(postgres) as made:
        yield made


@pytest.mark.parametrize("peer", peers(), ids=lambda peer: peer.name)
def test_a_peer_leaves_the_marks_of_the_works_that_it_offers(peer: type[Peer], place: Place) -> None:
    """Every peer the same for the same work; and what reads has read a row, which without its tenant it could not."""
    with Worker(peer, place.url()) as worker:
        samples = {work: worker.sample(work, 1) for work in Work if work in peer.offers}
    marks = [HITS[work] for work in peer.offers]
    assert place.hits() == (sum(plain for plain, _ in marks), sum(bound for _, bound in marks))
    assert {work for work, sample in samples.items() if sample.value is not None} == READS & peer.offers


@pytest.mark.parametrize(
    ("peer", "trips"),
    [
        (SqlAlchemy, {Work.FIRST: 15, Work.NOTHING: 0, Work.WRITE: 3, Work.BOUND_READ: 5, Work.BOUND_WRITE: 5}),
        (SqlAlchemyPrePing, {Work.FIRST: 15, Work.NOTHING: 1, Work.WRITE: 4, Work.BOUND_READ: 6, Work.BOUND_WRITE: 6}),
        (SqlAlchemyNullPool, {Work.UNPOOLED: 8}),
    ],
    ids=["plain", "pre-ping", "NullPool"],
)
def test_the_references_of_the_ratios_take_the_trips_of_the_usual_way(
    peer: type[Peer], trips: dict[Work, int], place: Place
) -> None:
    """A reference that did more than people do would flatter every ratio over it."""
    measured = {s.work: set(s.rounds[0]) for s in counted(peer, place, WARM_UP) if s.measure == "trips"}
    assert {work: measured[work] for work in trips} == {work: {count} for work, count in trips.items()}


def test_the_peers_take_turns(place: Place) -> None:
    """As many samples of each, in as many rounds; who cannot do a work is left out of it."""
    with Worker(SqlAlchemy, place.url()) as plain, Worker(SqlAlchemyNullPool, place.url()) as unpooled:
        taken = in_turn([plain, unpooled], Work.WRITE, warm_up=1, rounds=3, times=2)
    assert taken.keys() == {SqlAlchemy.name}
    assert [(len(one.wall_us), len(one.cpu_us)) for one in taken[SqlAlchemy.name]] == [(2, 2)] * 3
    assert place.hits() == (1 + 3 * 2, 0)


def test_a_peer_that_fails_says_why(place: Place) -> None:
    """With what its process printed, not with a broken pipe."""
    why = r'(?s)SQLAlchemy failed at write.*database "nowhere" does not exist'
    nowhere = place.url().replace(f"/{place.name}?", "/nowhere?")
    with Worker(SqlAlchemy, nowhere) as worker, pytest.raises(RuntimeError, match=why):
        worker.sample(Work.WRITE, 1)
