"""What each unit of work costs on the wire is the same in both twins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import make_url, text

import db
from db.environment import event_loop
from db.settings import Settings
from tests.aio.conftest import Twin

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from devkit.network.wire import Wire
    from devkit.plugin import Database, MakeWire
    from tests.aio.conftest import Use

ONE = text("SELECT 1")


async def write(twin: Twin) -> None:
    async with twin.begin(tenant="acme") as tx:
        await tx.execute(ONE)


async def read(twin: Twin) -> None:
    async with twin.read(tenant="acme") as conn:
        await conn.execute(ONE)


async def snapshot(twin: Twin) -> None:
    async with twin.read(tenant="acme", snapshot=True) as conn:
        await conn.execute(ONE)
        await conn.execute(ONE)


async def known_up_front(twin: Twin) -> None:
    await twin.write(ONE, ONE, ONE)


async def savepoint(twin: Twin) -> None:
    async with twin.begin() as tx, tx.begin_nested():
        await tx.execute(ONE)


async def fetch(twin: Twin) -> None:
    await twin.fetch(ONE, ONE, ONE)


async def run(twin: Twin) -> None:
    async def one(tx: Any) -> None:
        await tx.execute(ONE)

    await twin.run(one)


async def bit_by_bit(twin: Twin) -> None:
    async with twin.begin() as tx:
        rows = await tx.stream(text("SELECT generate_series(1, 5)"), execution_options={"yield_per": 3})
        assert [n async for (n,) in rows] == [1, 2, 3, 4, 5]


async def nothing(twin: Twin) -> None:
    async with twin.begin(tenant="acme"):
        pass


@pytest.fixture
def counted(database: Database, wire: MakeWire, use: Use) -> Callable[..., Wire]:
    """The layer behind a counting wire, without TLS."""

    def configure(**settings: Any) -> Wire:
        proxy = wire()
        db.configure(Settings(url=make_url(database.through(proxy).url()), sslmode="disable", **settings))
        return proxy

    return configure


@pytest.mark.parametrize(
    ("work", "trips"),
    [(write, 2), (read, 1), (snapshot, 3), (savepoint, 2), (fetch, 1), (known_up_front, 1), (run, 2), (nothing, 0)],
)
def test_a_warm_unit_of_work(
    work: Callable[[Twin], Awaitable[None]], trips: int, twin: Twin, counted: Callable[..., Wire]
) -> None:
    """On a kept connection."""
    proxy = counted()
    assert event_loop.run(_cost_of_the_second(work, twin, proxy)) == (trips, 0)


def test_rows_that_come_bit_by_bit_cost_a_trip_for_each_batch(counted: Callable[..., Wire]) -> None:
    """The first with BEGIN, the second, and COMMIT. Without a loop, tests/dialect/test_trips_shapes.py counts them."""
    proxy = counted()
    assert event_loop.run(_cost_of_the_second(bit_by_bit, Twin("aio"), proxy)) == (3, 0)


@pytest.mark.parametrize(("pool", "trips"), [("queue", 2), ("null", 5)])
def test_a_cold_and_a_warm_transaction(pool: str, trips: int, twin: Twin, counted: Callable[..., Wire]) -> None:
    """Three more where it connects."""
    proxy = counted(pool=pool)
    before = proxy.counts()
    event_loop.run(write(twin))
    assert (proxy.counts() - before).trips == 5
    assert event_loop.run(_cost_of_the_second(write, twin, proxy)) == (trips, int(pool == "null"))


async def _cost_of_the_second(work: Callable[[Twin], Awaitable[None]], twin: Twin, proxy: Wire) -> tuple[int, int]:
    await work(twin)
    before = proxy.counts()
    await work(twin)
    cost = proxy.counts() - before
    return cost.trips, cost.connections
