"""What is done over the driver's own connection, or goes wrong in it: both drivers of ``db.aio`` keep the promises."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, exc, func, make_url, select, text

import db
from db import aio
from db.environment import event_loop
from db.settings import Settings
from db.telemetry import log

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncConnection

    from devkit.network.faults import Lost
    from devkit.plugin import Database, MakePgBouncer, MakeWire
    from devkit.servers.postgres import Postgres
    from tests.aio.conftest import Lines, Use

INSERT = text("INSERT INTO ledger VALUES (:n, current_setting('app.tenant_id'))")
TENANT = text("SELECT current_setting('app.tenant_id', true)")
PID = text("SELECT pg_backend_pid()")
LIMIT = text("SELECT current_setting('statement_timeout')")
READ_ONLY = text("SELECT current_setting('transaction_read_only')")
# Where each flight in turn is cut; the last is not reached. asyncpg has BEGIN and prologue in flights of their own.
SAID = {
    "psycopg": ["done", "RECONNECT", "OUTCOME_UNKNOWN", "done"],
    "asyncpg": ["done", "done", "RECONNECT", "OUTCOME_UNKNOWN", "done"],
}
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
def stored(database: Database, postgres: Postgres) -> Callable[[], list[tuple[Any, ...]]]:
    return lambda: postgres.execute("SELECT n, tenant FROM ledger ORDER BY n", database=database.name)


async def below(conn: AsyncConnection) -> Any:
    """The driver's connection."""
    return (await conn.get_raw_connection()).driver_connection


async def pid() -> int:
    async with aio.read() as conn:
        return int(await conn.scalar(PID) or 0)


def in_use() -> int:
    return sum(numbers["checked_out"] for numbers in db.status()["engines"].values())


def listen(name: str, listener: Callable[..., Any]) -> None:
    """To the writer's pool, which ends with the test."""
    event.listen(aio.engine().sync_engine, name, listener)


# COMMIT, wherever it is sent.


@pytest.mark.parametrize("over_the_driver", [False, True])
@pytest.mark.parametrize("words", ["COMMIT", "end", "/* done */ COMMIT", "ROLLBACK", "abort"])
def test_what_a_text_has_ended_is_not_done_again(
    words: str, over_the_driver: bool, driver: str, stored: Callable[[], list[tuple[Any, ...]]]
) -> None:
    """It ends the unit, or is refused. What follows it has the tenant, and what fails after it runs once."""
    ran: list[int] = []

    async def work(tx: AsyncConnection) -> None:
        ran.append(len(ran) + 1)
        await tx.execute(INSERT, {"n": ran[-1]})
        if over_the_driver:
            await (await below(tx)).execute(words)
        else:
            await tx.exec_driver_sql(words)
        await tx.execute(INSERT, {"n": 10})
        raise LookupError

    with pytest.raises(Exception, match=r"^$|tx\.commit\(\)") as caught:
        event_loop.run(aio.run(work, tenant="acme"))
    assert isinstance(caught.value, LookupError) is (driver == "psycopg")
    assert ran == [1]
    assert [row for row in stored() if row != (1, "acme")] == []
    assert in_use() == 0


def test_a_savepoint_of_the_drivers_own_is_one(stored: Callable[[], list[tuple[Any, ...]]]) -> None:
    """Its ROLLBACK TO ends nothing else."""

    async def scenario() -> None:
        async with aio.begin(tenant="acme") as tx:
            await tx.execute(INSERT, {"n": 1})
            with pytest.raises(LookupError):
                async with (await below(tx)).transaction():
                    await tx.execute(INSERT, {"n": 2})
                    raise LookupError
            await tx.exec_driver_sql("SAVEPOINT mine")
            await tx.execute(INSERT, {"n": 3})
            await tx.exec_driver_sql("ROLLBACK WORK TO SAVEPOINT mine")
            await tx.execute(INSERT, {"n": 4})

    event_loop.run(scenario())
    assert stored() == [(1, "acme"), (4, "acme")]


def test_a_commit_of_the_drivers_is_noted(stored: Callable[[], list[tuple[Any, ...]]]) -> None:
    """What fails after it is not run again, although it is said to be worth another try."""
    ran: list[int] = []

    async def work(tx: AsyncConnection) -> None:
        ran.append(1)
        await tx.execute(INSERT, {"n": len(ran)})
        await tx.run_sync(lambda conn: conn.connection.commit())
        await tx.execute(INSERT, {"n": 10})
        await tx.exec_driver_sql("DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$")

    with pytest.raises(exc.DBAPIError, match="again"):
        event_loop.run(aio.run(work, tenant="acme"))
    assert (len(ran), stored()) == (1, [(1, "acme")])


@pytest.mark.parametrize("way", ["end of block", "tx.commit()", "driver"])
def test_a_commit_that_is_interrupted_has_an_unknown_outcome(way: str, database: Database, postgres: Postgres) -> None:
    """Whoever sent it, with the interruption as the cause; the slot is free."""
    postgres.execute(SLOW_COMMIT, database=database.name)

    async def scenario() -> None:
        async with asyncio.timeout(0.3), aio.begin(tenant="acme") as tx:
            await tx.execute(INSERT, {"n": 1})
            if way == "tx.commit()":
                await tx.commit()
            elif way == "driver":
                await tx.run_sync(lambda conn: conn.connection.commit())

    with pytest.raises(db.OutcomeUnknownError) as caught:
        event_loop.run(scenario())
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert in_use() == 0


def test_a_commit_that_the_server_refuses_is_known_to_have_failed(database: Database, postgres: Postgres) -> None:
    """A deferred constraint's error is its own, and asks for nothing."""
    postgres.execute(
        "ALTER TABLE ledger ADD CONSTRAINT once UNIQUE (tenant) DEFERRABLE INITIALLY DEFERRED", database=database.name
    )

    async def scenario() -> None:
        async with aio.begin(tenant="acme") as tx:
            await tx.execute(INSERT, {"n": 1})
            await tx.execute(INSERT, {"n": 2})

    with pytest.raises(exc.IntegrityError) as caught:
        event_loop.run(scenario())
    assert db.verdict(caught.value) is db.Verdict.GIVE_UP


def test_a_session_that_its_limit_ends_at_commit_has_not_committed(use: Use, driver: str) -> None:
    """The server said why it ended it, so the outcome is no riddle."""
    use(async_driver=driver, statement_timeout_s=0.2)

    async def scenario() -> None:
        async with aio.begin(tenant="acme") as tx:
            await tx.execute(INSERT, {"n": 1})
            time.sleep(0.6)  # the loop hears nothing meanwhile, as in a handler that computes

    with pytest.raises(exc.DBAPIError) as caught:
        event_loop.run(scenario())
    assert db.sqlstate(caught.value) == "25P03"


def test_a_commit_to_a_session_that_was_killed_meanwhile(
    database: Database, postgres: Postgres, stored: Callable[[], list[tuple[Any, ...]]]
) -> None:
    """The socket is looked at first: it is known that no COMMIT took place, and what the server said last."""

    async def scenario() -> None:
        async with aio.begin(tenant="acme") as tx:
            await tx.execute(INSERT, {"n": 1})
            postgres.terminate(database.name)  # the loop hears nothing meanwhile

    with pytest.raises(exc.OperationalError) as caught:
        event_loop.run(scenario())
    assert (db.sqlstate(caught.value), db.verdict(caught.value)) == ("57P01", db.Verdict.RECONNECT)
    assert (stored(), in_use()) == ([], 0)


# A transaction that the unit opened itself.


@pytest.mark.parametrize("name", ["connect", "checkout", "checkin"])
def test_what_a_listener_left_open_is_not_the_units(name: str, use: Use) -> None:
    """Tenant, limits and read-only are its own, and so is its rollback."""

    def leave_open(dbapi_connection: Any, *_: Any) -> None:
        cursor = dbapi_connection.cursor()
        cursor.execute("SELECT set_config('app.tenant_id', 'of a listener', true)")
        cursor.close()

    async def scenario() -> list[Any]:
        listen(name, leave_open)
        found: list[Any] = []
        for _ in range(2):
            async with aio.read(tenant="acme", fresh=True) as conn:
                found.append([await conn.scalar(of) for of in (TENANT, LIMIT, READ_ONLY)])
            async with aio.begin() as tx:
                found.append([await tx.scalar(of) for of in (TENANT, LIMIT, READ_ONLY)])
        return found

    assert event_loop.run(scenario()) == 2 * [["acme", "30s", "on"], ["", "30s", "off"]]


def test_a_transaction_that_was_begun_over_the_driver_ends_ahead_of_the_units() -> None:
    """As asyncpg would refuse to begin one then."""

    def begin(dbapi_connection: Any, *_: Any) -> None:
        dbapi_connection.run_async(lambda connection: connection.execute("BEGIN"))

    async def scenario() -> Any:
        listen("checkout", begin)
        async with aio.begin(tenant="acme") as tx:
            return await tx.scalar(TENANT)

    assert event_loop.run(scenario()) == "acme"


def test_the_drivers_settings_end_with_their_unit(stored: Callable[[], list[tuple[Any, ...]]]) -> None:
    """Isolation and read-only of a unit are not those of the next, nor of the plain engine."""

    async def scenario() -> list[Any]:
        seen: list[Any] = []
        async with aio.read(snapshot=True, fresh=True) as conn:
            seen.append(await conn.scalar(text("SHOW transaction_isolation")))
        async with aio.begin(tenant="acme") as tx:
            seen.append(await tx.scalar(text("SHOW transaction_isolation")))
            await tx.execute(INSERT, {"n": 1})
        async with aio.engine().connect() as plain:
            seen += [await plain.scalar(text("SHOW transaction_isolation")), await plain.scalar(READ_ONLY)]
        return seen

    assert event_loop.run(scenario()) == ["repeatable read", "read committed", "read committed", "off"]
    assert stored() == [(1, "acme")]


def test_a_second_transaction_of_a_unit_has_the_prologue_too() -> None:
    """After a rollback through the driver."""

    async def scenario() -> list[Any]:
        async with aio.begin(tenant="acme") as tx:
            before = await tx.scalar(TENANT)
            await tx.run_sync(lambda conn: conn.connection.rollback())
            return [before, await tx.scalar(TENANT), await tx.scalar(LIMIT)]

    assert event_loop.run(scenario()) == ["acme", "acme", "30s"]


def test_a_tenant_for_the_session_does_not_reach_the_next_unit() -> None:
    """The prologue says that there is none."""

    async def scenario() -> Any:
        async with aio.engine().connect() as plain:
            await plain.exec_driver_sql("SET app.tenant_id = 'acme'")
            await plain.commit()
        async with aio.begin() as tx:
            return await tx.scalar(TENANT)

    assert event_loop.run(scenario()) == ""


def test_the_isolation_level_may_be_the_first_statement() -> None:
    """It goes between BEGIN and the prologue."""

    async def scenario() -> list[Any]:
        async with aio.begin() as tx:
            await tx.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            await tx.exec_driver_sql("SET TRANSACTION READ ONLY")
            return [await tx.scalar(text("SHOW transaction_isolation")), await tx.scalar(READ_ONLY)]

    assert event_loop.run(scenario()) == ["serializable", "on"]


# What stays on the session.


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        (text("SET statement_timeout = '1h'"), "SET"),
        (text("SET ROLE NONE"), "SET ROLE"),
        (text("LISTEN news"), "LISTEN"),
        (text("CREATE TEMPORARY TABLE mine (n int)"), "a temporary table"),
        (text("SELECT pg_advisory_lock(7)"), "a session advisory lock"),
        (text("PREPARE one AS SELECT 1"), "PREPARE"),
        (text("SELECT set_config('app.x', 'y', false)"), "set_config for the session"),
        (select(func.set_config("app.x", "y", False)), "set_config for the session"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_session_that_is_not_as_it_was_is_not_kept(statement: Any, kind: str, lines: Lines) -> None:
    """One line names the kind, and the next unit has another connection."""

    async def scenario() -> tuple[Any, Any]:
        async with aio.begin() as tx:
            before = await tx.scalar(PID)
            await tx.execute(statement)
        async with aio.begin() as tx:
            return before, await tx.scalar(PID)

    log._said_to_be_left.clear()
    before, after = event_loop.run(scenario())
    assert before != after
    assert [line["left"] for line in lines.of("leftovers")] == [[kind]]


def test_what_holds_for_the_transaction_alone_costs_no_connection() -> None:
    """SET LOCAL, and set_config that says so; and all that a unit itself says."""

    async def scenario() -> set[Any]:
        pids = set()
        for _ in range(2):
            async with aio.begin(tenant="acme") as tx:
                await tx.exec_driver_sql("SET LOCAL work_mem = '8MB'")
                await tx.execute(select(func.set_config("app.x", "y", True)))
                pids.add(await tx.scalar(PID))
        return pids

    assert len(event_loop.run(scenario())) == 1


def test_what_is_left_over_the_drivers_own_connection_is_seen() -> None:
    """It is the same session."""

    async def scenario() -> tuple[Any, Any]:
        async with aio.begin() as tx:
            before = await tx.scalar(PID)
            await (await below(tx)).execute("SET work_mem = '8MB'")
        async with aio.begin() as tx:
            return before, await tx.scalar(PID)

    before, after = event_loop.run(scenario())
    assert before != after


@pytest.mark.parametrize("commits", [True, False])
def test_behind_a_pooler_the_session_is_cleaned_in_the_units_own_flight(
    commits: bool, use: Use, driver: str, lines: Lines, stored: Callable[[], list[tuple[Any, ...]]]
) -> None:
    """Other clients have it next: here it is looked at before the connection is closed."""
    use(async_driver=driver, proxy="pgbouncer")
    seen: list[Any] = []

    async def scenario() -> None:
        async with aio.begin(tenant="acme") as tx:
            await tx.execute(INSERT, {"n": 1})
            await tx.exec_driver_sql("SET work_mem = '8MB'")
            await tx.exec_driver_sql("SELECT pg_advisory_lock(7)")
            raw = await below(tx)
            await (tx.commit() if commits else tx.rollback())
            found = await _asked(raw, driver)
            seen.append(found)

    event_loop.run(scenario())
    assert seen == [("4MB", 0)]
    assert stored() == ([(1, "acme")] if commits else [])


async def _asked(raw: Any, driver: str) -> tuple[Any, ...]:
    question = (
        "SELECT current_setting('work_mem'),"
        " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())"
    )
    if driver == "asyncpg":
        return tuple(await raw.fetchrow(question))
    return tuple(await (await raw.execute(question)).fetchone())


@pytest.mark.parametrize("commits", [True, False])
def test_the_next_client_of_pgbouncer_meets_nothing(
    commits: bool, driver: str, database: Database, pgbouncer: MakePgBouncer
) -> None:
    """It has one connection to the server, which both units use."""
    through = {"url": make_url(database.through(pgbouncer(default_pool_size=1)).url()), "sslmode": "disable"}
    db.configure(Settings(**through, async_driver=driver, proxy="pgbouncer"))  # type: ignore[arg-type]

    async def scenario() -> list[Any]:
        async with aio.begin(tenant="acme") as tx:
            before = await tx.scalar(PID)
            await tx.exec_driver_sql("SET work_mem = '8MB'")
            await tx.exec_driver_sql("SET app.tenant_id = 'of the session'")
            await tx.exec_driver_sql("SELECT pg_advisory_lock(7)")
            await (tx.commit() if commits else tx.rollback())
        async with aio.engine().connect() as plain:
            after = await plain.scalar(PID)
            locks = await plain.scalar(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"))
            work_mem = await plain.scalar(text("SELECT current_setting('work_mem')"))
            return [before == after, work_mem, await plain.scalar(TENANT) or "", locks]

    assert event_loop.run(scenario()) == [True, "4MB", "", 0]


# What goes wrong amid an answer.


@pytest.mark.parametrize("how", ["statement", "driver"])
def test_a_statement_that_is_cut_short_leaves_no_connection_in_doubt(how: str) -> None:
    """Its own error comes out, once; the next unit is given its own answers."""

    async def cut_short() -> None:
        async with aio.begin() as tx, asyncio.timeout(0.2):
            if how == "statement":
                await tx.execute(text("SELECT pg_sleep(30)"))
            else:
                await (await below(tx)).execute("SELECT pg_sleep(30)")

    async def scenario() -> list[Any]:
        with pytest.raises(TimeoutError):
            await cut_short()
        async with aio.read(fresh=True) as conn:
            return [await conn.scalar(text(f"SELECT {n}")) for n in range(3)]

    assert event_loop.run(scenario()) == [0, 1, 2]
    assert in_use() == 0


# A lost connection.


def test_a_kept_connection_that_died_is_not_noticed(
    use: Use, driver: str, lines: Lines, database: Database, postgres: Postgres
) -> None:
    """Nothing had been done over it; one line says so."""
    use(async_driver=driver, pool_pre_ping=False)
    first = event_loop.run(pid())
    postgres.terminate(database.name)
    assert event_loop.run(pid()) != first
    assert lines.events().count("replay") == 1


def test_a_connection_lost_within_the_unit_is_said_and_tried_again(database: Database, postgres: Postgres) -> None:
    """By run(): the error is the server's, of a lost connection, and what is done is done once."""
    states: list[Any] = []

    async def work(tx: AsyncConnection) -> Any:
        await tx.execute(INSERT, {"n": 1})
        if not states:
            postgres.terminate(database.name)
        try:
            return await tx.scalar(TENANT)
        except exc.OperationalError as error:
            states.append((db.sqlstate(error), error.connection_invalidated, db.verdict(error)))
            raise

    assert event_loop.run(aio.run(work, tenant="acme")) == "acme"
    assert states == [("57P01", True, db.Verdict.RECONNECT)]


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_wherever_the_network_breaks_what_is_said_is_what_was_done(
    lost: Lost, driver: str, database: Database, postgres: Postgres, wire: MakeWire
) -> None:
    """Up to the first statement nobody notices; before COMMIT nothing is stored; then the outcome is unknown."""
    proxy = wire()
    through = {"url": make_url(database.through(proxy).url()), "sslmode": "disable", "async_driver": driver}
    db.configure(Settings(**through))  # type: ignore[arg-type]

    async def said(n: int) -> str:
        try:
            async with aio.begin(tenant="acme") as tx:
                await tx.execute(INSERT, {"n": n})
                await tx.execute(TENANT)
        except (exc.OperationalError, db.OutcomeUnknownError) as error:
            return db.verdict(error).name
        return "done"

    found = []
    for flight in itertools.count(1):
        event_loop.run(said(-flight))
        cut = proxy.cut_at(flight, lost=lost)
        found.append(event_loop.run(said(flight)))
        if found[-1] == "OUTCOME_UNKNOWN":
            assert postgres.all_left(database.name)
        stored = postgres.execute(f"SELECT tenant FROM ledger WHERE n = {flight}", database=database.name)
        is_there = found[-1] == "done" or (found[-1] == "OUTCOME_UNKNOWN" and lost == "answer")
        assert (stored, in_use()) == ([("acme",)] if is_there else [], 0)
        if not cut.fired:
            break
    assert found == SAID[driver]


# Reads.


@pytest.mark.parametrize("lead", ["", "/* a comment */ ", "-- a comment\n"])
def test_in_a_read_what_is_said_for_the_transaction_holds_for_it(lead: str) -> None:
    """And two statements in one text are no trap for those that follow."""

    async def scenario() -> Any:
        async with aio.read(tenant="acme") as conn:
            await conn.exec_driver_sql(lead + "SET LOCAL work_mem = '8MB'")
            return await conn.scalar(text("SELECT current_setting('work_mem')")), await conn.scalar(TENANT)

    assert event_loop.run(scenario()) == ("8MB", "acme")


def test_two_statements_in_one_text_do_not_disturb_what_follows(driver: str) -> None:
    """asyncpg's protocol refuses them by name."""

    async def scenario() -> Any:
        if driver == "asyncpg":
            with pytest.raises(exc.ProgrammingError, match="multiple commands"):
                async with aio.read() as conn:
                    await conn.exec_driver_sql("SELECT 1; SELECT 2")
        async with aio.read(tenant="acme") as conn:
            return await conn.scalar(TENANT)

    assert event_loop.run(scenario()) == "acme"
