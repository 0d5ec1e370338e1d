"""What is built on units of work, on the event loop: sessions, once, batches, bulk loads, reflection, plain engines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import column, insert, select, table, text

import db
from db import aio
from db.environment import event_loop
from tests.postgres.test_units_of_work import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.ext.asyncio import AsyncConnection

    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres
    from tests.aio.conftest import Use

LEDGER = table("ledger", column("n"), column("tenant"))
EFFECTS = table("effects", column("note"))


@pytest.fixture(params=["psycopg", "asyncpg"])
def driver(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def on_ledger(ledger: None, use: Use, driver: str) -> None:
    use(async_driver=driver)


@pytest.fixture
def on_effects(effects: None, use: Use, driver: str) -> None:
    use(async_driver=driver)


@pytest.fixture
def notes(database: Database, postgres: Postgres) -> Callable[[], list[str]]:
    return lambda: [n for (n,) in postgres.execute("SELECT note FROM effects ORDER BY note", database=database.name)]


async def count() -> int:
    async with aio.read() as conn:
        return int((await conn.execute(text("SELECT count(*) FROM ledger"))).scalar_one())


@pytest.mark.usefixtures("on_ledger")
def test_a_session_flushes_and_commits() -> None:
    """Its objects stay readable after the block."""

    async def scenario() -> Any:
        async with aio.session(tenant="acme") as orm:
            orm.add(entry := Entry(n=1, tenant="acme"))
        assert (entry.tenant, await count()) == ("acme", 1)
        async with aio.session() as orm:
            return (await orm.scalars(select(Entry))).one().n

    assert event_loop.run(scenario()) == 1


@pytest.mark.usefixtures("on_ledger")
def test_a_session_that_raises_leaves_nothing() -> None:
    """Not even what it had committed inside."""

    async def scenario() -> int:
        with pytest.raises(LookupError):
            async with aio.session() as orm:
                orm.add(Entry(n=1))
                await orm.commit()
                raise LookupError
        return await count()

    assert event_loop.run(scenario()) == 0


async def note(tx: AsyncConnection, body: str) -> dict[str, str]:
    await tx.execute(insert(EFFECTS), {"note": body})
    return {"noted": body}


@pytest.mark.usefixtures("on_effects")
def test_once_runs_once(notes: Callable[[], list[str]]) -> None:
    """As a function it gives the stored result; as a block it raises with it; with tx it is the caller's."""

    async def scenario() -> list[Any]:
        given = [await aio.once("k").run(note, "first") for _ in range(2)]
        with pytest.raises(db.AlreadyDoneError) as caught:
            async with aio.once("k"):
                raise AssertionError("it has been done")
        async with aio.begin() as tx:
            given.append(await aio.once("l", tx=tx).run(note, "second"))
        return [*given, caught.value.result]

    assert event_loop.run(scenario()) == [{"noted": "first"}] * 2 + [{"noted": "second"}, {"noted": "first"}]
    assert notes() == ["first", "second"]


@pytest.mark.usefixtures("on_effects")
def test_once_as_a_block_stores_its_result() -> None:
    """And the expired are purged, of which there are none."""

    async def scenario() -> Any:
        work = aio.once("k")
        async with work as tx:
            work.result = await note(tx, "kept")
        return await aio.once("k").run(note, "never"), await aio.purge_once()

    assert event_loop.run(scenario()) == ({"noted": "kept"}, 0)


@pytest.mark.usefixtures("on_effects")
def test_concurrent_duplicates_run_once(use: Use, driver: str, notes: Callable[[], list[str]]) -> None:
    """Those that come while the first is at work wait for it, and the loop with them."""

    async def scenario() -> list[Any]:
        return await aio.gather(*(aio.once("k").run(note, "one") for _ in range(8)))

    results = event_loop.run(scenario())
    assert (results, notes()) == ([{"noted": "one"}] * 8, ["one"])


@pytest.mark.usefixtures("on_effects")
def test_an_idempotent_handler_answers_from_its_record(notes: Callable[[], list[str]]) -> None:
    """Below ``db.invocation``, as any handler."""

    @db.invocation
    @aio.idempotent(key="id")
    async def handler(tx: AsyncConnection, event: Any, _context: Any) -> dict[str, str]:
        return await note(tx, event["body"])

    answers: list[Any] = [handler({"id": 1, "body": body}, None) for body in ("a", "b")]
    assert answers == [{"noted": "a"}] * 2
    assert notes() == ["a"]


def message(number: int, body: str) -> dict[str, Any]:
    source = {"eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:standard"}
    return {"messageId": str(number), "body": json.dumps({"note": body}), **source}


@pytest.mark.usefixtures("on_effects")
def test_a_batch_commits_what_is_good(notes: Callable[[], list[str]]) -> None:
    """A savepoint for each record; tenants and all else as ever."""

    async def handle(tx: AsyncConnection, record: Any) -> None:
        await note(tx, record.json_body["note"])

    event = {"Records": [message(1, "a"), message(2, "bad"), message(3, "c")]}
    answer = event_loop.run(aio.batch(event, handle, tenant=lambda record: f"t{record.message_id}"))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "2"}]}
    assert notes() == ["a", "c"]


def rows() -> Iterator[tuple[int, str]]:
    return ((n, "acme") for n in range(25_000))


@pytest.mark.usefixtures("ledger")
def test_copy_rows_streams() -> None:
    """In a transaction of its own, and in the caller's; progress is told."""
    told: list[int] = []

    async def scenario() -> tuple[int, int]:
        copied = await aio.copy_rows("ledger", rows(), columns=["n", "tenant"], progress=told.append)
        with pytest.raises(LookupError):
            async with aio.begin() as tx:
                await aio.copy_rows("ledger", [{"n": -1}], tx=tx)
                raise LookupError
        return copied, await count()

    assert event_loop.run(scenario()) == (25_000, 25_000)
    assert told == [10_000, 20_000, 25_000]


@pytest.mark.usefixtures("on_ledger")
def test_reflection_is_shared() -> None:
    """Tasks that ask at once, and the plain twin afterwards, all get the same tables."""

    async def scenario() -> list[Any]:
        return await aio.gather(aio.reflect(only=["ledger"]), aio.reflect(only=["ledger"]))

    first, second = event_loop.run(scenario())
    assert list(first.tables) == ["ledger"]
    assert first is second is db.reflect(only=["ledger"])


@pytest.mark.usefixtures("on_ledger")
def test_the_plain_engine_is_the_one_that_units_use() -> None:
    """With the same connection, in SQLAlchemy's own wrapping."""

    async def scenario() -> int:
        async with aio.engine().connect() as conn:
            found = (await conn.execute(text("SELECT count(*) FROM ledger"))).scalar_one()
        return int(found) + await count()

    assert event_loop.run(scenario()) == 0
    assert db.status()["totals"]["connects"] == 1


@pytest.mark.usefixtures("on_ledger")
def test_rows_stream_from_a_server_side_cursor() -> None:
    """Within the unit of work, under its tenant."""

    async def scenario() -> list[Any]:
        async with aio.begin(tenant="acme") as tx:
            result = await tx.stream(text("SELECT n, current_setting('app.tenant_id') FROM generate_series(1, 3) n"))
            return [tuple(row) async for row in result]

    assert event_loop.run(scenario()) == [(1, "acme"), (2, "acme"), (3, "acme")]


@pytest.mark.usefixtures("on_ledger")
def test_fetch_gives_results_in_order() -> None:
    """Plain ones, as the rows are there."""
    results = event_loop.run(aio.fetch(text("SELECT 1"), text("SELECT 'two'"), tenant="acme"))
    assert [result.scalar_one() for result in results] == [1, "two"]
