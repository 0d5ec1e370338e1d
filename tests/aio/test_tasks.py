"""Concurrent tasks: what reaches them, what they share, and what is left when one is cancelled."""

from __future__ import annotations

import asyncio
import signal
import time
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import exc, text

import db
from db import aio
from db.environment import event_loop
from db.timing.invocation import current_invocation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devkit.plugin import Database, MakeLambdaContext, PutSecret
    from devkit.servers.aws import LocalAws
    from devkit.servers.postgres import Postgres
    from tests.aio.conftest import Lines, Use

pytestmark = pytest.mark.usefixtures("ledger")

INSERT = text("INSERT INTO ledger VALUES (:n)")
SLOW_COMMIT = """
CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(30); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER linger AFTER INSERT ON ledger DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION linger()
"""


@pytest.fixture(params=["psycopg", "asyncpg"], autouse=True)
def driver(request: pytest.FixtureRequest, ledger: None, use: Use) -> str:
    name: str = request.param
    use(async_driver=name)
    return name


@pytest.fixture
def at_work(database: Database, postgres: Postgres) -> Callable[[], int]:
    """How many of the test's sessions have a transaction open, once cancelled ones had a moment to end."""
    open_ones = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database.name}' AND xact_start IS NOT NULL"

    def count() -> int:
        for _ in range(50):
            if (found := postgres.execute(open_ones)[0][0]) == 0:
                break
            time.sleep(0.1)
        return int(found)

    return count


async def pid(seconds: float = 0.0) -> int:
    async with aio.read() as conn:
        row = (await conn.execute(text("SELECT pg_backend_pid(), pg_sleep(:seconds)"), {"seconds": seconds})).one()
        return int(row[0])


def in_use() -> int:
    return sum(numbers["checked_out"] for numbers in db.status()["engines"].values())


async def cut_short(*before: Any) -> None:
    async with asyncio.timeout(0.3), aio.begin() as tx:
        for statement in before:
            await tx.execute(statement)
        await tx.execute(text("SELECT pg_sleep(30)"))


@pytest.mark.parametrize("before", [(), (text("INSERT INTO ledger VALUES (1)"),)], ids=["first flight", "later"])
def test_a_cancelled_statement_leaves_no_transaction(before: tuple[Any, ...], at_work: Callable[[], int]) -> None:
    """The statement ends on the server, the connection is given up, and the next unit of work has another."""

    async def scenario() -> None:
        with pytest.raises(TimeoutError):
            await cut_short(*before)
        assert in_use() == 0
        await pid()

    event_loop.run(scenario())
    assert at_work() == 0
    totals = db.status()["totals"]
    assert totals["connects"] - totals["closes"] == 1


def test_a_task_cancelled_between_statements_rolls_back(at_work: Callable[[], int]) -> None:
    """And the connection is good for the next."""

    async def scenario() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), aio.begin() as tx:
                await tx.execute(INSERT, {"n": 1})
                await asyncio.sleep(30)
        async with aio.read() as conn:
            assert (await conn.execute(text("SELECT count(*) FROM ledger"))).scalar_one() == 0

    event_loop.run(scenario())
    assert (at_work(), in_use(), db.status()["totals"]["connects"]) == (0, 0, 1)


def test_a_task_cancelled_while_it_commits_does_not_know(
    database: Database, postgres: Postgres, at_work: Callable[[], int]
) -> None:
    """COMMIT has been sent: whoever hears of a time-out would take it for undone."""
    postgres.execute(SLOW_COMMIT, database=database.name)

    async def scenario() -> None:
        async with asyncio.timeout(0.3), aio.begin() as tx:
            await tx.execute(INSERT, {"n": 1})

    with pytest.raises(db.OutcomeUnknownError):
        event_loop.run(scenario())
    assert (at_work(), in_use()) == (0, 0)


class TimeIsUpError(Exception):
    """What a handler's own alarm raises."""


@pytest.fixture
def alarm() -> Iterator[Callable[[float], None]]:
    """Sets an alarm that raises in so many seconds."""

    def strike(_signal: int, _frame: object) -> None:
        raise TimeIsUpError

    before = signal.signal(signal.SIGALRM, strike)
    yield lambda after_s: signal.setitimer(signal.ITIMER_REAL, after_s) and None
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_an_alarm_out_of_the_loop_ends_the_task(alarm: Callable[[float], None], at_work: Callable[[], int]) -> None:
    """It strikes where the loop waits, and no task knows of it: left pending, one would go on, and commit, later."""

    async def scenario() -> None:
        async with aio.begin() as tx:
            await tx.execute(INSERT, {"n": 1})
            await tx.execute(text("SELECT pg_sleep(30)"))

    alarm(0.3)
    with pytest.raises(TimeIsUpError):
        event_loop.run(scenario())
    assert (at_work(), in_use()) == (0, 0)

    async def count() -> int:
        async with aio.read() as conn:
            return int((await conn.execute(text("SELECT count(*) FROM ledger"))).scalar_one())

    assert event_loop.run(count()) == 0


def test_an_alarm_while_it_commits_leaves_the_outcome_unknown(
    alarm: Callable[[float], None], database: Database, postgres: Postgres, at_work: Callable[[], int]
) -> None:
    """With the alarm as its cause."""
    postgres.execute(SLOW_COMMIT, database=database.name)

    async def scenario() -> None:
        async with aio.begin() as tx:
            await tx.execute(INSERT, {"n": 1})

    alarm(0.3)
    with pytest.raises(db.OutcomeUnknownError) as caught:
        event_loop.run(scenario())
    assert isinstance(caught.value.__cause__, TimeIsUpError)
    assert (at_work(), in_use()) == (0, 0)


def test_a_task_cancelled_while_it_waits_for_a_connection_leaves_none(use: Use, driver: str) -> None:
    """The one that it waited for goes back to the pool, and to the next."""
    use(async_connections=1, async_driver=driver)

    async def scenario() -> None:
        holder = asyncio.create_task(pid(0.5))
        await asyncio.sleep(0.1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await pid()
        assert await holder == await pid()

    event_loop.run(scenario())
    assert (in_use(), db.status()["totals"]["connects"]) == (0, 1)


def test_deadline_and_tenant_reach_the_tasks(lambda_context: MakeLambdaContext) -> None:
    """They go with the context; what a task binds for itself stays its own."""

    async def seen(own: str | None) -> tuple[Any, bool]:
        async with aio.read(tenant=own) as conn:
            tenant = await conn.scalar(text("SELECT current_setting('app.tenant_id')"))
        return tenant, current_invocation().deadline is not None

    @db.invocation
    async def handler(_event: Any, _context: Any) -> list[tuple[Any, bool]]:
        with db.scope(tenant="acme"):
            return await aio.gather(seen(None), seen("globex"), seen(None))

    assert handler({}, lambda_context(remaining_s=10)) == [("acme", True), ("globex", True), ("acme", True)]


def test_an_invocation_without_time_begins_nothing_in_its_tasks(lambda_context: MakeLambdaContext) -> None:
    """Each raises before it sends; the first error is the caller's."""

    @db.invocation
    async def handler(_event: Any, _context: Any) -> None:
        await aio.gather(pid(), pid())

    with pytest.raises(db.DeadlineError):
        handler({}, lambda_context(remaining_s=0.3))
    assert db.status()["totals"]["connects"] == 0


@pytest.mark.parametrize("pool", ["queue", "null"])
def test_gather_bounds_the_connections(
    pool: str, use: Use, driver: str, database: Database, postgres: Postgres
) -> None:
    """Ten reads on three connections; results come in the order of the arguments."""
    use(pool=pool, async_connections=3, async_driver=driver)
    postgres.execute(f"ALTER ROLE {database.app} CONNECTION LIMIT 3")

    async def echo(n: int) -> int:
        async with aio.read() as conn:
            await conn.execute(text("SELECT pg_sleep(0.02)"))
            return n

    assert event_loop.run(aio.gather(*map(echo, range(10)))) == list(range(10))
    assert db.status()["totals"]["connects"] == (3 if pool == "queue" else 10)
    assert db.status()["totals"]["checkouts"] == 10


def test_gather_leaves_room_for_the_unit_around_it(use: Use, driver: str) -> None:
    """What that holds is not there for its tasks."""
    use(async_connections=2, pool_timeout_s=0.1, async_driver=driver)

    async def scenario() -> set[int]:
        async with aio.begin() as tx:
            outer = await tx.scalar(text("SELECT pg_backend_pid()"))
            return set(await aio.gather(*(pid(0.2) for _ in range(3)))) - {outer}

    assert len(event_loop.run(scenario())) == 1


def test_the_own_pools_error_names_the_tasks_that_hold_it(use: Use, driver: str) -> None:
    """Each by its name, since when and where from."""
    use(async_connections=1, pool_timeout_s=0.1, async_driver=driver)

    async def hold() -> None:
        async with aio.begin() as tx:
            await tx.execute(text("SELECT pg_sleep(0.5)"))

    async def scenario() -> str:
        holder = asyncio.create_task(hold(), name="holder")
        await asyncio.sleep(0.2)
        with pytest.raises(exc.TimeoutError, match="in use, by task 'holder' for") as caught:
            await pid(0)
        await holder
        return str(caught.value)

    assert "from test_tasks.py" in event_loop.run(scenario())


def test_a_write_in_a_read_is_the_callers_mistake(use: Use, driver: str) -> None:
    """With either driver."""
    use(async_driver=driver)

    async def write() -> None:
        async with aio.read() as conn:
            await conn.execute(text("CREATE TABLE t (n int)"))

    with pytest.raises(exc.DBAPIError) as caught:
        event_loop.run(write())
    assert db.verdict(caught.value) is db.Verdict.GIVE_UP


def test_the_first_error_ends_the_others_of_a_gather() -> None:
    """It is raised as it is; those that wait for their turn never begin, and nothing is left running."""
    ended: list[str] = []

    async def lasting() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.append("lasting")

    async def failing() -> None:
        await asyncio.sleep(0.05)
        raise LookupError

    async def scenario() -> int:
        with pytest.raises(LookupError):
            await aio.gather(lasting(), failing(), lasting(), limit=2)
        return len(asyncio.all_tasks())

    assert (event_loop.run(scenario()), ended) == (1, ["lasting"])


def test_a_gather_of_none_at_a_time_is_refused() -> None:
    """It would wait for ever."""
    with pytest.raises(ValueError, match="limit is 0"):
        event_loop.run(aio.gather(pid(), limit=0))


@pytest.mark.parametrize(("writes", "engines"), [(True, {"aio writer"}), (False, {"aio reader"})])
def test_what_the_invocation_wrote_its_tasks_read_from_the_writer(
    writes: bool, engines: set[str], use: Use, driver: str, database: Database
) -> None:
    """A reader may be a moment behind."""
    use(reader_host=database.host, async_driver=driver)

    @db.invocation
    async def handler(_event: Any, _context: Any) -> None:
        if writes:
            async with aio.begin() as tx:
                await tx.execute(INSERT, {"n": 1})
        await aio.gather(pid(), pid())

    handler({}, None)
    assert set(db.status()["engines"]) == engines


def test_a_unit_that_could_only_wait_for_those_around_it_is_refused(use: Use, driver: str) -> None:
    """At once, and the setting is named."""
    use(async_connections=1, async_driver=driver)

    async def scenario() -> None:
        async with aio.begin():
            await pid()

    with pytest.raises(db.ConfigurationError, match="DB_ASYNC_CONNECTIONS"):
        event_loop.run(scenario())


def test_a_wait_for_room_lets_the_loop_go_on(database: Database, postgres: Postgres, lines: Lines) -> None:
    """Another task makes the room that the connect waits for."""
    postgres.execute(f"ALTER ROLE {database.app} CONNECTION LIMIT 0")

    async def make_room() -> None:
        while "connect waits" not in lines.events():
            await asyncio.sleep(0.01)
        postgres.execute(f"ALTER ROLE {database.app} CONNECTION LIMIT -1")

    async def scenario() -> None:
        await asyncio.gather(pid(), make_room())

    event_loop.run(scenario())
    assert db.status()["totals"]["connects"] == 1


def test_credentials_are_fetched_beside_the_loop(
    database: Database, driver: str, secret: PutSecret, local_aws: LocalAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here it is the loop itself that carries the question to Secrets Manager: blocked, it would never be answered."""
    login = {"username": database.app, "password": database.app_password, "host": database.host, "port": database.port}
    secret_id = f"aio-{uuid.uuid4().hex}"
    secret(secret_id, {**login, "dbname": database.name})
    endpoint = urlsplit(local_aws.endpoint)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(endpoint.hostname, endpoint.port)
        await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))

    async def scenario() -> None:
        server = await asyncio.start_server(carry, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", f"http://127.0.0.1:{port}")
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
            await pid()

    db.configure(db.Settings(secret_id=secret_id, async_driver=driver))  # type: ignore[arg-type]
    event_loop.run(scenario())
    assert db.status()["totals"]["connects"] == 1


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        sink.write(data)
        await sink.drain()
    sink.close()


def test_a_connect_that_outlasts_the_invocation_is_cut(
    database: Database, driver: str, lambda_context: MakeLambdaContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DeadlineError, while there is time to answer; nothing was sent."""

    async def hang(*_: Any, **__: Any) -> None:
        await asyncio.sleep(30)

    monkeypatch.setattr("psycopg.AsyncConnection.connect" if driver == "psycopg" else "asyncpg.connect", hang)

    @db.invocation
    async def handler(_event: Any, _context: Any) -> None:
        await pid()

    with pytest.raises(db.DeadlineError):
        handler({}, lambda_context(remaining_s=1.0))
    assert in_use() == 0


def test_a_lost_connection_is_found_when_several_tasks_share_the_pool(database: Database, postgres: Postgres) -> None:
    """Each has its own replaced, and none sees another's error."""

    async def scenario() -> None:
        await aio.gather(*(pid(0.1) for _ in range(4)))
        postgres.terminate(database.name)
        assert len(set(await aio.gather(*(pid(0.1) for _ in range(4))))) == 4

    event_loop.run(scenario())


def test_an_error_of_one_task_is_its_own() -> None:
    """The connection goes back rolled back."""

    async def broken() -> None:
        async with aio.begin() as tx:
            await tx.execute(text("SELECT 1 / 0"))

    async def scenario() -> None:
        results = await asyncio.gather(broken(), pid(), broken(), return_exceptions=True)
        assert [type(result) for result in results] == [type(results[0]), int, type(results[0])]
        assert isinstance(results[0], exc.DBAPIError)
        await pid()

    event_loop.run(scenario())
    assert in_use() == 0
