"""A server that says nothing any more is given up when the invocation's time is over, by both drivers of ``db.aio``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import exc, make_url, text

import db
from db import aio
from db.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from devkit.network.wire import Wire
    from devkit.plugin import Database, MakeLambdaContext, MakeWire
    from tests.aio.conftest import Lines, Use

    Invoke = Callable[[Callable[[], Awaitable[Any]]], float]

pytestmark = pytest.mark.slow

ONE = text("SELECT 1")
INSERT = text("INSERT INTO ledger (n, tenant) VALUES (:n, :tenant)")
MUCH = "x" * 200_000  # in each of fifty rows, of which a socket that nobody reads holds a part


@pytest.fixture(params=["psycopg", "asyncpg"])
def line(request: pytest.FixtureRequest, ledger: None, use: Use, database: Database, wire: MakeWire) -> Wire:
    """The way to the server, for each driver."""
    proxy = wire()
    url = make_url(database.through(proxy).url())
    db.configure(Settings(url=url, sslmode="disable", async_driver=request.param, deadline_reserve_s=1))
    return proxy


@pytest.fixture
def invoke(lambda_context: MakeLambdaContext) -> Invoke:
    """Invokes a handler that has two seconds, and keeps one; gives the seconds that it left."""

    def invoked(work: Callable[[], Awaitable[Any]]) -> float:
        context = lambda_context(remaining_s=2)

        @db.invocation
        async def handler(_event: Any, _context: Any) -> None:
            await work()

        handler({}, context)
        return context.get_remaining_time_in_millis() / 1000

    return invoked


@pytest.mark.parametrize("tenants", [["acme"], [MUCH] * 50], ids=["a row", "much"])
def test_a_statement_amid_a_unit_ends_with_the_time(tenants: list[str], line: Wire, invoke: Invoke) -> None:
    """As a lost connection, and whatever of it has been sent."""

    async def work() -> None:
        with pytest.raises(exc.OperationalError, match="no answer from the server") as caught:
            async with aio.begin() as tx:
                # Prepared, so that what is silent is the sending of the rows.
                await tx.execute(INSERT, [{"n": n, "tenant": "acme"} for n in (-1, -2)])
                line.blackhole()
                await tx.execute(INSERT, [{"n": n, "tenant": tenant} for n, tenant in enumerate(tenants)])
        assert caught.value.connection_invalidated
        assert db.verdict(caught.value) is db.Verdict.RECONNECT

    assert 0 < invoke(work) < 1


def test_a_first_statement_ends_as_a_connect_would(line: Wire, invoke: Invoke, lines: Lines) -> None:
    """There is no time for another connection."""

    async def work() -> None:
        async with aio.begin() as tx:
            await tx.execute(ONE)
        with pytest.raises(db.DeadlineError):
            async with aio.begin() as tx:
                line.blackhole()
                await tx.execute(ONE)

    assert 0 < invoke(work) < 1


def test_a_commit_without_an_answer_is_unknown(line: Wire, invoke: Invoke) -> None:
    """It may have arrived."""

    async def work() -> None:
        with pytest.raises(db.OutcomeUnknownError):
            async with aio.begin() as tx:
                await tx.execute(INSERT, {"n": 1, "tenant": "acme"})
                line.blackhole()

    assert 0 < invoke(work) < 1


def test_the_environment_works_on(line: Wire, invoke: Invoke) -> None:
    """On another connection, and within the next invocation's time."""

    async def silent() -> None:
        with pytest.raises(exc.OperationalError):
            async with aio.read() as conn:
                await conn.execute(ONE)
                line.blackhole()
                await conn.execute(ONE)

    async def next_one() -> None:
        async with aio.read() as conn:
            assert await conn.scalar(ONE) == 1

    invoke(silent)
    assert invoke(next_one) > 0
