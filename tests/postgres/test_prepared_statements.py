"""Prepared statements behind PgBouncer: the layer names none unless DB_PREPARE says so; a newer one keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import pytest
from sqlalchemy import exc, make_url, text

import db
from db import aio
from db.environment import event_loop
from db.settings import Settings
from devkit.network.faults import Lost
from devkit.network.statements import Statement
from devkit.servers.pgbouncer import NEWEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devkit.network.statements import PostgresWire
    from devkit.plugin import Database, MakePgBouncer, MakeWire

COUNT = text("SELECT count(*) FROM ledger WHERE n > :n")
SERVES = {"kept": "200", "not kept": "0"}


def named(wire: PostgresWire) -> int:
    return sum(isinstance(message, Statement) and bool(message.name) for message in wire.messages())


@pytest.fixture
def behind(
    ledger: None, pgbouncer: MakePgBouncer, wire: MakeWire, database: Database
) -> Iterator[Callable[..., PostgresWire]]:
    """Configures the layer behind the newest PgBouncer with so many prepared statements, over a wire."""

    def configure(kept: str, **settings: Any) -> PostgresWire:
        pooler = pgbouncer(release=NEWEST, default_pool_size=1, settings={"max_prepared_statements": SERVES[kept]})
        tapped = wire(upstream=pooler)
        url = make_url(database.through(tapped).url())
        db.configure(Settings(url=url, sslmode="disable", proxy="pgbouncer", **settings))
        return tapped

    yield configure
    db.dispose()
    event_loop.close()


def write() -> None:
    with db.begin(tenant="acme") as tx:
        for _ in range(3):
            tx.execute(COUNT, {"n": 1})


def read() -> None:
    with db.read(tenant="acme") as conn:
        conn.execute(COUNT, {"n": 1})


def awrite() -> None:
    async def unit() -> None:
        async with aio.begin(tenant="acme") as tx:
            for _ in range(3):
                await tx.execute(COUNT, {"n": 1})

    event_loop.run(unit())


@pytest.mark.slow
@pytest.mark.parametrize("kept", SERVES)
@pytest.mark.parametrize(
    ("settings", "work", "trips"),
    [
        ({}, write, 4),
        ({}, read, 1),
        ({}, awrite, 4),
        ({"async_driver": "asyncpg"}, awrite, None),
    ],
    ids=["write", "read", "write on a loop", "write by asyncpg"],
)
def test_by_itself_the_layer_names_none(
    kept: str,
    settings: dict[str, Any],
    work: Callable[[], None],
    trips: int | None,
    behind: Callable[..., PostgresWire],
) -> None:
    """However often a statement comes; so it does not matter whether the pooler would keep them."""
    wire = behind(kept, **settings)
    for _ in range(6):
        before = wire.counts()
        work()
    assert named(wire) == 0
    assert trips in {None, (wire.counts() - before).trips}


@pytest.mark.parametrize(("work", "trips"), [(write, 4), (awrite, 4)])
def test_asked_for_they_cost_no_trip(work: Callable[[], None], trips: int, behind: Callable[..., PostgresWire]) -> None:
    """Prologue and statement are named once. The pooler prepares them on whatever connection it has."""
    wire = behind("kept", prepare=2)
    work()
    for _ in range(3):
        before = wire.counts()
        work()
        assert (wire.counts() - before).trips == trips
    assert named(wire) == 2


@pytest.mark.parametrize("lost", get_args(Lost))
@pytest.mark.parametrize("flight", [1, 2])
def test_a_replay_prepares_anew(flight: int, lost: Lost, behind: Callable[..., PostgresWire]) -> None:
    """The new connection knows none of the names that the lost one had."""
    wire = behind("kept", prepare=2)
    for _ in range(3):
        write()
    cut = wire.cut_at(flight, lost=lost)
    db.run(lambda tx: [tx.execute(COUNT, {"n": 1}).scalar() for _ in range(3)], tenant="acme")
    assert cut.fired
    before = named(wire)
    write()
    write()
    read()
    assert named(wire) - before <= 2


def test_asked_for_where_none_are_kept_they_fail_by_name(behind: Callable[..., PostgresWire]) -> None:
    """Two clients of one connection: whoever comes second finds the other's statement there."""
    behind("not kept", prepare=1, pool_size=2)
    with db.engine().connect() as first, db.engine().connect() as second:
        for _ in range(2):
            first.execute(COUNT, {"n": 1})
        first.commit()
        second.execute(COUNT, {"n": 1})
        with pytest.raises(exc.ProgrammingError, match=r"prepared statement .* already exists"):
            second.execute(COUNT, {"n": 1})
