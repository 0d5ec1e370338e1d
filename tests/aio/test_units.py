"""The same scenarios on both twins and both async drivers, with a kept connection and with one for each unit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import exc, text

import db
from db.environment import event_loop
from tests.aio.conftest import Twin
from tests.postgres.test_units_of_work import KILL_AT_COMMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from devkit.plugin import Database, MakeLambdaContext
    from devkit.servers.postgres import Postgres
    from tests.aio.conftest import Lines, Use

INSERT = text("INSERT INTO ledger VALUES (:n)")
TENANT = text("SELECT current_setting('app.tenant_id', true)")


@pytest.fixture(params=["db", "aio", "asyncpg"])
def twin(request: pytest.FixtureRequest) -> Twin:
    return Twin("db" if request.param == "db" else "aio", driver="asyncpg" if request.param == "asyncpg" else "psycopg")


@pytest.fixture(params=["queue", "null"], autouse=True)
def pool(request: pytest.FixtureRequest, twin: Twin, ledger: None, use: Use) -> str:
    kind: str = request.param
    use(pool=kind, async_driver=twin.driver)
    return kind


@pytest.fixture
def stored(database: Database, postgres: Postgres) -> Callable[[], list[int]]:
    return lambda: [n for (n,) in postgres.execute("SELECT n FROM ledger ORDER BY n", database=database.name)]


def done(scenario: Coroutine[Any, Any, Any]) -> Any:
    return event_loop.run(scenario)


def test_begin_commits(twin: Twin, stored: Callable[[], list[int]]) -> None:
    """When the block ends."""

    async def scenario() -> None:
        async with twin.begin() as tx:
            await tx.execute(INSERT, {"n": 1})

    done(scenario())
    assert stored() == [1]


def test_begin_rolls_back(twin: Twin, stored: Callable[[], list[int]]) -> None:
    """When the block raises; the block's own error comes out."""

    async def scenario() -> None:
        async with twin.begin() as tx:
            await tx.execute(INSERT, {"n": 1})
            raise LookupError

    with pytest.raises(LookupError):
        done(scenario())
    assert stored() == []


def test_a_statement_after_an_early_commit_is_refused(twin: Twin, stored: Callable[[], list[int]]) -> None:
    """It would know neither tenant nor time limit."""

    async def scenario() -> None:
        async with twin.begin() as tx:
            await tx.execute(INSERT, {"n": 1})
            await tx.commit()
            await tx.execute(INSERT, {"n": 2})

    with pytest.raises(exc.InvalidRequestError):
        done(scenario())
    assert stored() == [1]


def test_a_swallowed_failure_commits_nothing(twin: Twin, stored: Callable[[], list[int]]) -> None:
    """The server would have answered COMMIT with a rollback."""

    async def scenario() -> None:
        async with twin.begin() as tx:
            await tx.execute(INSERT, {"n": 1})
            with pytest.raises(exc.IntegrityError):
                await tx.execute(INSERT, {"n": 1})

    with pytest.raises(exc.PendingRollbackError):
        done(scenario())
    assert stored() == []


def test_a_failure_inside_a_savepoint_leaves_the_rest(twin: Twin, stored: Callable[[], list[int]]) -> None:
    """It is undone by itself."""

    async def scenario() -> None:
        async with twin.begin() as tx:
            await tx.execute(INSERT, {"n": 1})
            with pytest.raises(exc.IntegrityError):
                async with tx.begin_nested():
                    await tx.execute(INSERT, {"n": 1})
            await tx.execute(INSERT, {"n": 2})

    done(scenario())
    assert stored() == [1, 2]


def test_read_refuses_to_write(twin: Twin) -> None:
    """By the server's word."""

    async def scenario() -> None:
        async with twin.read() as conn:
            await conn.execute(INSERT, {"n": 1})

    with pytest.raises(exc.DBAPIError) as caught:
        done(scenario())
    assert db.sqlstate(caught.value) == "25006"


def test_a_tenant_is_gone_with_its_transaction(twin: Twin) -> None:
    """Bound around the unit or named by it; the next one, on whatever connection, has none."""

    async def tenant(**named: str) -> str | None:
        async with twin.begin(**named) as tx:
            return (await tx.scalar(TENANT)) or None

    async def scenario() -> list[str | None]:
        with db.scope(tenant="acme"):
            bound = [await tenant(), await tenant(tenant="globex")]
        return [*bound, await tenant()]

    assert done(scenario()) == ["acme", "globex", None]


def test_without_a_required_tenant_nothing_is_sent(twin: Twin, use: Use) -> None:
    """TenantError comes before a connection is opened."""
    use(tenant_required=True, async_driver=twin.driver)

    async def scenario() -> None:
        async with twin.read():
            pass

    with pytest.raises(db.TenantError):
        done(scenario())
    assert db.status()["totals"]["connects"] == 0


def test_the_deadline_cuts_a_statement(twin: Twin, lambda_context: MakeLambdaContext) -> None:
    """And with no time left nothing is begun."""

    @db.invocation
    async def handler(event: float, _context: Any) -> None:
        async with twin.begin() as tx:
            await tx.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": event})

    with pytest.raises(exc.DBAPIError) as caught:
        handler(30.0, lambda_context(remaining_s=1.5))
    assert db.sqlstate(caught.value) == "57014"
    with pytest.raises(db.DeadlineError):
        handler(0.0, lambda_context(remaining_s=0.4))


def test_run_tries_again_what_was_lost_before_commit(
    twin: Twin, database: Database, postgres: Postgres, stored: Callable[[], list[int]], lines: Lines
) -> None:
    """All of it, and says so."""
    calls: list[int] = []

    async def add(tx: Any, base: int) -> int:
        calls.append(1)
        await tx.execute(INSERT, {"n": base + len(calls)})
        if len(calls) == 1:
            postgres.terminate(database.name)
            await tx.execute(text("SELECT 1"))
        return len(calls)

    assert done(twin.run(add, 10)) == 2
    assert stored() == [12]
    assert [line["verdict"] for line in lines.of("retry")] == ["connect again, then retry the transaction"]


def test_a_connection_lost_during_commit_leaves_the_outcome_unknown(
    twin: Twin, database: Database, postgres: Postgres
) -> None:
    """And run() does not try again."""
    postgres.execute(KILL_AT_COMMIT, database=database.name)
    calls: list[int] = []

    async def add(tx: Any) -> None:
        calls.append(1)
        await tx.execute(INSERT, {"n": 1})

    with pytest.raises(db.OutcomeUnknownError):
        done(twin.run(add))
    assert len(calls) == 1


def test_the_log_and_the_counts_are_the_same(twin: Twin, pool: str, lines: Lines) -> None:
    """A line for each event of a connection's life, and a number in the metrics."""

    async def scenario() -> None:
        for _ in range(2):
            async with twin.begin() as tx:
                await tx.execute(INSERT, {"n": 1})
                await tx.execute(text("DELETE FROM ledger"))

    done(scenario())
    db.dispose()
    each = {"queue": ["checkout", "checkin"], "null": ["connect", "checkout", "checkin", "close"]}[pool] * 2
    around = (["connect"], ["close", "dispose"]) if pool == "queue" else ([], ["dispose"])
    assert [event for event in lines.events() if event != "slow query"] == [*around[0], *each, *around[1]]
    assert all(line["backend_pid"] for line in lines.of("connect"))
    totals = db.status()["totals"]
    assert (totals["statements"], totals["connects"], totals["closes"]) == ((4, 1, 1) if pool == "queue" else (4, 2, 2))
