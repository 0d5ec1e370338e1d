"""The network fails at each flight of a workload in turn, and nothing is lost, done twice, or in doubt without need."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

import pytest
from sqlalchemy import exc, text

import db
from devkit.network.faults import Lost
from tests.doors import POOLERS, PROXIES, make_prologue, through

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection

    from devkit.network.wire import Wire
    from devkit.plugin import Database, MakeDoor, MakeWire
    from devkit.servers.postgres import Postgres

    from .conftest import Use

ROUNDS = 3
# The flights of a round, by the pool: what becomes of the round when one of them is cut.
KEPT = ("sent again", "lost", "in doubt")  # BEGIN with the first statement, the second statement, COMMIT
# Three to connect, which are tried again; the same, and the Terminate.
FRESH = ("tried again", "tried again", "tried again", "sent again", "lost", "in doubt", "over")
COUNT = text("INSERT INTO counts (n, step) VALUES (:n, :step)")


def add(tx: Connection, n: int) -> None:
    for step in (1, 2):
        tx.execute(COUNT, {"n": n, "step": step})


def by_run(n: int) -> None:
    db.run(add, n)


def by_begin(n: int) -> None:
    with db.begin() as tx:
        add(tx, n)


@dataclass
class Told:
    """What the caller was told of each round."""

    done: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)

    def of(self, round_of: Callable[[int], None]) -> Told:
        for n in range(ROUNDS):
            try:
                round_of(n)
            except db.OutcomeUnknownError:
                self.unknown.append(n)
            except exc.OperationalError:
                self.failed.append(n)
            else:
                self.done.append(n)
        return self


@pytest.mark.parametrize("lost", get_args(Lost))
@pytest.mark.parametrize("round_of", [by_run, by_begin])
@pytest.mark.parametrize(
    ("settings", "flights"),
    [({"pool_pre_ping": True}, KEPT), ({"pool_pre_ping": False}, KEPT), ({"pool": "null"}, FRESH)],
    ids=["with pings", "without pings", "null pool"],
)
def test_a_cut_at_any_flight(
    settings: dict[str, Any],
    flights: Sequence[str],
    round_of: Callable[[int], None],
    lost: Lost,
    *,
    database: Database,
    postgres: Postgres,
    use: Use,
    wire: MakeWire,
) -> None:
    """What was acknowledged is there, once; what failed is not; and only a lost COMMIT leaves anything in doubt."""
    use(wire=(proxy := wire()), **settings)
    cut_each_flight(proxy, round_of, flights, lost=lost, database=database, postgres=postgres)


@pytest.mark.slow
@pytest.mark.parametrize("lost", get_args(Lost))
@through(*PROXIES, *POOLERS)
def test_a_cut_at_any_flight_before_a_pooler(
    door: MakeDoor, lost: Lost, *, database: Database, postgres: Postgres, use: Use
) -> None:
    """The promises are the same there."""
    make_prologue(database.url("owner"), used_by=database.owner)
    use(wire=(proxy := door()), proxy=door.proxy)
    cut_each_flight(proxy, by_run, KEPT, lost=lost, database=database, postgres=postgres)


def cut_each_flight(
    proxy: Wire,
    round_of: Callable[[int], None],
    flights: Sequence[str],
    *,
    lost: Lost,
    database: Database,
    postgres: Postgres,
) -> None:
    with db.begin() as tx:
        tx.execute(text("CREATE TABLE counts (n int, step int)"))
    for flight, (number, fate) in enumerate(itertools.product(range(ROUNDS), flights), 1):
        with db.begin() as tx:  # what the last cut left behind is replaced here
            tx.execute(text("TRUNCATE counts"))
        if flights is FRESH:
            assert postgres.all_left(database.name)  # the wire has seen the goodbyes
        cut = proxy.cut_at(flight, lost=lost)
        told = Told().of(round_of)
        assert cut.fired or fate == "over"
        assert told.unknown == [number] * (fate == "in doubt")
        assert told.failed == [number] * (fate == "lost" and round_of is by_begin)  # run() begins anew
        # The server answers a COMMIT whose answer is lost, and never has one that is lost itself.
        arrived = sorted(told.done + (told.unknown if lost == "answer" else []))
        rows = postgres.execute("SELECT n, step FROM counts ORDER BY n, step", database=database.name)
        assert rows == [(n, step) for n in arrived for step in (1, 2)]
