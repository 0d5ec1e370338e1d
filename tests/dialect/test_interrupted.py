"""An exception out of nowhere, amid an answer: a signal's handler raises, or a handler of the driver's does.

Whatever the driver was at, the statement is cancelled, the connection is never used again, the pool is as large as it
was, and the exception reaches the caller as itself, once.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from sqlalchemy import exc, text

import db
from db import aio

from .conftest import insert, queue_of, stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncConnection

    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres

    from .conftest import Use

    Work = Callable[[Connection], object]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("ledger"),
    # psycopg says so of a server-side cursor whose connection was closed below it.
    pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning"),
]

ONE = text("SELECT 1")
SLEEP = "SELECT pg_sleep(60)"
ASLEEP = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event = 'PgSleep'"
DEFERRED_SLEEP = """
CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER linger AFTER INSERT ON ledger DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION linger()
"""


class TimeIsUpError(Exception):
    """What a handler raises before Lambda's own limit: no error of the driver's, nor of the operating system's."""


class WhenAsleep(Protocol):
    """``when_asleep(act)`` calls ``act`` in a thread, as soon as the server is at a ``pg_sleep``."""

    def __call__(self, act: Callable[[], object]) -> None: ...


@pytest.fixture
def asleep(postgres: Postgres, database: Database) -> Callable[[], int]:
    """How many of the test's sessions are at a ``pg_sleep``."""
    return lambda: int(postgres.execute(ASLEEP, (database.name,))[0][0])


@pytest.fixture
def when_asleep(asleep: Callable[[], int]) -> Iterator[WhenAsleep]:
    threads: list[threading.Thread] = []
    over = threading.Event()

    def watch(act: Callable[[], object]) -> None:
        def wait() -> None:
            while not (found := asleep()) and not over.wait(0.005):
                pass
            if found:
                act()

        threads.append(threading.Thread(target=wait))
        threads[-1].start()

    yield watch
    over.set()
    for thread in threads:
        thread.join(30)


@pytest.fixture
def on_alarm() -> Iterator[Callable[[type[BaseException]], None]]:
    """``on_alarm(kind)`` has SIGALRM raise ``kind``."""
    before = signal.getsignal(signal.SIGALRM)

    def set_handler(kind: type[BaseException]) -> None:
        def ring(*_: object) -> None:
            raise kind

        signal.signal(signal.SIGALRM, ring)

    yield set_handler
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=[TimeIsUpError, KeyboardInterrupt])
def alarm(
    request: pytest.FixtureRequest, on_alarm: Callable[[type[BaseException]], None], when_asleep: WhenAsleep
) -> type[BaseException]:
    """An alarm that goes off when the server is at a ``pg_sleep``, and whose handler raises this."""
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    on_alarm(request.param)
    when_asleep(lambda: signal.pthread_kill(main_thread, signal.SIGALRM))
    kind: type[BaseException] = request.param
    return kind


def raw_of(tx: Connection) -> Any:
    return tx.connection.driver_connection


def first_statement(tx: Connection) -> None:
    tx.exec_driver_sql(SLEEP)


def later_statement(tx: Connection) -> None:
    tx.execute(ONE)
    tx.exec_driver_sql(SLEEP)


def in_a_savepoint(tx: Connection) -> None:
    with tx.begin_nested():
        tx.exec_driver_sql(SLEEP)


def two_in_one_text(tx: Connection) -> None:
    tx.exec_driver_sql(f"{SLEEP}; SELECT 2")


def by_executemany(tx: Connection) -> None:
    raw_of(tx).cursor().executemany("SELECT pg_sleep(%s)", [(60,), (0,)])


def in_a_pipeline(tx: Connection) -> None:
    with raw_of(tx).pipeline():
        raw_of(tx).execute(SLEEP)
        raw_of(tx).execute("SELECT 2").fetchone()


def in_the_drivers_transaction(tx: Connection) -> None:
    with raw_of(tx).transaction():
        raw_of(tx).execute(SLEEP)


def out_by_copy(tx: Connection) -> None:
    with raw_of(tx).cursor() as cursor, cursor.copy("COPY (SELECT pg_sleep(60)) TO STDOUT") as copy:
        copy.read()


def in_by_copy(tx: Connection) -> None:
    raw = raw_of(tx)
    raw.execute("CREATE TEMP TABLE slow (n int CHECK (pg_sleep(60) IS NOT NULL)) ON COMMIT DROP")
    with raw.cursor() as cursor, cursor.copy("COPY slow FROM STDIN") as copy:
        copy.write("1\n")


def by_stream(tx: Connection) -> None:
    list(raw_of(tx).cursor().stream(SLEEP))


def over_a_server_cursor(tx: Connection) -> None:
    tx.execute(text(SLEEP), execution_options={"stream_results": True}).all()


WORK = [
    first_statement,
    later_statement,
    in_a_savepoint,
    two_in_one_text,
    by_executemany,
    in_a_pipeline,
    in_the_drivers_transaction,
    out_by_copy,
    in_by_copy,
    by_stream,
    over_a_server_cursor,
]


def gone(asleep: Callable[[], int]) -> bool:
    """Whether nothing sleeps on the server any more, once it had a moment to end."""
    ends_at = time.monotonic() + 10
    while asleep() and time.monotonic() < ends_at:
        time.sleep(0.01)
    return not asleep()


def checked_out() -> int:
    return db.status()["engines"]["writer"]["checked_out"]


@pytest.mark.parametrize("pool", ["queue", "null"])
@pytest.mark.parametrize("work", WORK)
def test_an_alarm_ends_statement_and_connection_and_nothing_else(
    work: Work, pool: str, use: Use, alarm: type[BaseException], asleep: Callable[[], int]
) -> None:
    """In whatever the driver was at; the next units are given their own answers, and by a pool of one."""
    use(pool=pool)
    with pytest.raises(alarm) as caught, db.begin() as tx:
        tx.exec_driver_sql(insert(1))
        work(tx)
    assert type(caught.value) is alarm
    assert gone(asleep)
    assert checked_out() == 0
    with db.begin() as tx:
        assert tx.execute(text("SELECT n FROM ledger")).all() == []
        assert tx.execute(text("SELECT 'own'")).scalar_one() == "own"


@pytest.mark.parametrize("work", WORK)
def test_an_alarm_on_a_plain_connection_leaves_none_that_answers_for_another(
    work: Work, use: Use, alarm: type[BaseException], asleep: Callable[[], int]
) -> None:
    """Even where the handler catches it within the transaction and goes on."""
    use()
    engine = db.engine()
    with engine.connect() as conn:
        with pytest.raises(alarm):
            work(conn)
        # What psycopg itself brought to an end may go on, in a savepoint of its own above all.
        with contextlib.suppress(exc.SQLAlchemyError):
            assert conn.execute(text("SELECT 'own'")).scalar_one() == "own"
    assert gone(asleep)
    with engine.connect() as conn:
        assert conn.execute(text("SELECT 'own'")).scalar_one() == "own"


@pytest.mark.parametrize("unit", [db.read, db.session])
@pytest.mark.parametrize("alarm", [TimeIsUpError], indirect=True)
def test_an_alarm_in_any_kind_of_unit(
    unit: Callable[[], contextlib.AbstractContextManager[Any]],
    use: Use,
    alarm: type[BaseException],
    asleep: Callable[[], int],
) -> None:
    """A read's own transaction, and the ORM's."""
    use()
    with pytest.raises(alarm), unit() as work:
        work.execute(text(SLEEP))
    assert gone(asleep)
    with unit() as work:
        assert work.execute(text("SELECT 'own'")).scalar_one() == "own"


@pytest.mark.parametrize("alarm", [TimeIsUpError], indirect=True)
def test_an_alarm_in_reads_that_leave_together(use: Use, alarm: type[BaseException], asleep: Callable[[], int]) -> None:
    """What was gathered is nobody's afterwards."""
    use()
    with pytest.raises(alarm):
        db.fetch(ONE, text(SLEEP))
    assert gone(asleep)
    assert [result.scalar_one() for result in db.fetch(text("SELECT 2"), text("SELECT 3"))] == [2, 3]


@pytest.mark.parametrize("runner", [db.run, lambda fn: db.once("key").run(fn)], ids=["run", "once"])
@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("alarm", [TimeIsUpError], indirect=True)
def test_what_an_alarm_ended_is_not_run_again(
    work: Work, runner: Callable[[Work], object], alarm: type[BaseException], once_table: None, stock: Engine
) -> None:
    """It is the handler's own word that time is up."""
    ran: list[int] = []

    def fn(tx: Connection) -> None:
        ran.append(1)
        tx.exec_driver_sql(insert(len(ran)))
        work(tx)

    with pytest.raises(alarm):
        runner(fn)
    assert ran == [1]
    assert stored(stock) == []


@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("alarm", [TimeIsUpError], indirect=True)
def test_an_alarm_in_a_record_fails_it_and_what_shares_its_transaction(
    work: Work, use: Use, alarm: type[BaseException], stock: Engine
) -> None:
    """All are reported where the connection is gone; none runs a second time, and what is reported is not stored."""
    use()
    ran: list[str] = []

    def handler(tx: Connection, record: Any) -> None:
        ran.append(record.message_id)
        tx.exec_driver_sql(insert(int(record.message_id)))
        if record.message_id == "2":
            work(tx)

    failed = db.batch(queue_of("1", "2", "3"), handler)["batchItemFailures"]
    reported = {failure["itemIdentifier"] for failure in failed}
    assert reported in ({"1", "2", "3"}, {"2"})
    assert ran == (["1", "2"] if "3" in reported else ["1", "2", "3"])
    assert stored(stock) == [n for n in (1, 2, 3) if str(n) not in reported]


@pytest.fixture
def slow_commit(ledger: None, stock: Engine) -> None:
    """COMMIT of an INSERT into ``ledger`` sleeps."""
    with stock.begin() as conn:
        conn.exec_driver_sql(DEFERRED_SLEEP)
    stock.dispose()


@pytest.fixture
def once_table(use: Use) -> None:
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    from db.migrations.operations import create_once_table

    use()
    with db.begin() as tx:
        user = tx.execute(text("SELECT current_user")).scalar_one()
        create_once_table(Operations(MigrationContext.configure(tx)), used_by=[user])


def at_the_end(tx: Connection) -> None:
    tx.exec_driver_sql(insert(1))


def by_the_block(tx: Connection) -> None:
    tx.exec_driver_sql(insert(1))
    tx.commit()


def by_the_driver(tx: Connection) -> None:
    tx.exec_driver_sql(insert(1))
    raw_of(tx).commit()


def as_a_text(tx: Connection) -> None:
    tx.exec_driver_sql(insert(1))
    tx.exec_driver_sql("/* done */ COMMIT")


def among_other_texts(tx: Connection) -> None:
    tx.exec_driver_sql(f"{insert(1)}; END")


def in_the_users_pipeline(tx: Connection) -> None:
    with raw_of(tx).pipeline():
        raw_of(tx).execute(insert(1))
        raw_of(tx).commit()


def as_a_text_in_the_users_pipeline(tx: Connection) -> None:
    with raw_of(tx).pipeline():
        raw_of(tx).execute(insert(1))
        raw_of(tx).execute("COMMIT")


def behind_a_savepoint(tx: Connection) -> None:
    with tx.begin_nested():
        tx.exec_driver_sql(insert(1))


COMMITS = [
    at_the_end,
    by_the_block,
    by_the_driver,
    as_a_text,
    among_other_texts,
    in_the_users_pipeline,
    as_a_text_in_the_users_pipeline,
    behind_a_savepoint,
]


@pytest.mark.usefixtures("slow_commit")
@pytest.mark.parametrize("commit", COMMITS)
@pytest.mark.parametrize("alarm", [TimeIsUpError], indirect=True)
def test_an_alarm_while_it_commits_leaves_the_outcome_unknown(
    commit: Work, use: Use, alarm: type[BaseException], asleep: Callable[[], int]
) -> None:
    """Whoever sent the COMMIT; the handler's own exception is the cause, and nothing runs twice."""
    use()
    ran: list[int] = []

    def fn(tx: Connection) -> None:
        ran.append(1)
        commit(tx)

    with pytest.raises(db.OutcomeUnknownError) as caught:
        db.run(fn)
    assert type(caught.value.__cause__) is alarm
    assert ran == [1]
    assert gone(asleep)
    assert checked_out() == 0
    with db.begin() as tx:
        assert tx.execute(text("SELECT 'own'")).scalar_one() == "own"


@pytest.mark.usefixtures("slow_commit")
@pytest.mark.parametrize("commit", [at_the_end, by_the_block, by_the_driver, behind_a_savepoint])
@pytest.mark.parametrize("alarm", [KeyboardInterrupt], indirect=True)
def test_ctrl_c_while_it_commits_leaves_the_outcome_unknown(
    commit: Work, use: Use, alarm: type[BaseException], asleep: Callable[[], int]
) -> None:
    """psycopg cancels and hears the answer out, and tells nobody what it was."""
    use()
    with pytest.raises(db.OutcomeUnknownError) as caught:
        db.run(commit)
    assert type(caught.value.__cause__) is alarm
    assert gone(asleep)
    assert checked_out() == 0


@pytest.mark.usefixtures("slow_commit", "once_table")
@pytest.mark.parametrize("alarm", [TimeIsUpError], indirect=True)
def test_once_does_not_find_out_for_whom_an_alarm_has_called(alarm: type[BaseException]) -> None:
    """Nobody has the time for it: the next delivery finds out."""
    with pytest.raises(db.OutcomeUnknownError) as caught:
        db.once("key").run(at_the_end)
    assert type(caught.value.__cause__) is alarm


@pytest.mark.parametrize("pool", ["queue", "null"])
def test_a_notify_handler_that_raises_ends_the_connection(
    pool: str, use: Use, database: Database, postgres: Postgres
) -> None:
    """psycopg lets its exception through, from whichever statement the notification came with."""
    use(pool=pool)

    def refuse(_notify: object) -> None:
        raise TimeIsUpError

    with pytest.raises(TimeIsUpError) as caught, db.begin() as tx:
        raw_of(tx).add_notify_handler(refuse)
        with tx.begin_nested():
            tx.exec_driver_sql("LISTEN news")
        tx.commit()
        postgres.execute("NOTIFY news", database=database.name)
        raw_of(tx).execute("SELECT 1")
    assert type(caught.value) is TimeIsUpError
    assert checked_out() == 0
    with db.begin() as tx:
        assert tx.execute(text("SELECT 'own'")).scalar_one() == "own"


def test_a_notice_handler_that_raises_is_logged_by_psycopg(either: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """It stands between no statement and its answer."""

    def refuse(_notice: object) -> None:
        raise TimeIsUpError

    with either.begin() as conn:
        raw_of(conn).add_notice_handler(refuse)
        conn.execute(text("DROP TABLE IF EXISTS missing"))
        assert conn.execute(ONE).scalar_one() == 1
    assert "error processing notice callback" in caplog.text


async def aio_first_statement(tx: AsyncConnection) -> None:
    await tx.exec_driver_sql(SLEEP)


async def aio_in_a_savepoint(tx: AsyncConnection) -> None:
    async with tx.begin_nested():
        await tx.exec_driver_sql(SLEEP)


async def aio_raw_of(tx: AsyncConnection) -> Any:
    return (await tx.get_raw_connection()).driver_connection


async def aio_by_executemany(tx: AsyncConnection) -> None:
    raw = await aio_raw_of(tx)
    await raw.cursor().executemany("SELECT pg_sleep(%s)", [(60,), (0,)])


async def aio_in_a_pipeline(tx: AsyncConnection) -> None:
    raw = await aio_raw_of(tx)
    async with raw.pipeline():
        await raw.execute(SLEEP)
        await (await raw.execute("SELECT 2")).fetchone()


async def aio_out_by_copy(tx: AsyncConnection) -> None:
    raw = await aio_raw_of(tx)
    async with raw.cursor() as cursor, cursor.copy("COPY (SELECT pg_sleep(60)) TO STDOUT") as copy:
        await copy.read()


async def aio_by_stream(tx: AsyncConnection) -> None:
    raw = await aio_raw_of(tx)
    async for _ in raw.cursor().stream(SLEEP):
        pass


async def aio_over_a_server_cursor(tx: AsyncConnection) -> None:
    async with tx.stream(text(SLEEP)) as rows:
        await rows.all()


AIO_WORK = [
    aio_first_statement,
    aio_in_a_savepoint,
    aio_by_executemany,
    aio_in_a_pipeline,
    aio_out_by_copy,
    aio_by_stream,
    aio_over_a_server_cursor,
]


@pytest.mark.parametrize("work", AIO_WORK)
def test_a_task_that_is_cancelled_ends_its_statement_and_nothing_else(
    work: Callable[[AsyncConnection], Any], use: Use, when_asleep: WhenAsleep, asleep: Callable[[], int]
) -> None:
    """It ends as cancelled, and the next has its own answer."""
    use()

    async def unit() -> None:
        async with aio.begin() as tx:
            await tx.exec_driver_sql(insert(1))
            await work(tx)

    async def main() -> Any:
        task = asyncio.ensure_future(unit())
        loop = asyncio.get_running_loop()
        when_asleep(lambda: loop.call_soon_threadsafe(task.cancel))
        with pytest.raises(asyncio.CancelledError):
            await task
        async with aio.begin() as tx:
            found = (await tx.execute(text("SELECT n FROM ledger"))).all(), (await tx.execute(ONE)).scalar_one()
        out = db.status()["engines"]["aio writer"]["checked_out"]
        db.dispose()
        return *found, out

    assert asyncio.run(main()) == ([], 1, 0)
    assert gone(asleep)
