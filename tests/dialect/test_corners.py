"""Where a flight that fails, is interrupted or is too large could leave a connection that works no more."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import event, exc, text

import db
from db.environment import process
from db.wire.psycopg_dialect import DRIVER

from .conftest import stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Engine

    from devkit.plugin import Database, MakeLambdaContext
    from devkit.servers.postgres import Postgres

    from .conftest import MakeEngine, Use

ONE = text("SELECT 1")
INSERT = text("INSERT INTO ledger (n) VALUES (:n)")
MOST_PARAMETERS = 65_535


def test_more_parameters_than_the_protocol_has_leave_a_transaction_that_works(either: Engine) -> None:
    """libpq refuses the statement when BEGIN has been handed to it already."""
    too_many = (1,) * (MOST_PARAMETERS + 1)
    with either.connect() as conn:
        with pytest.raises(exc.OperationalError, match="number of parameters must be between 0 and 65535"):
            conn.exec_driver_sql(f"SELECT 1 WHERE 1 IN ({', '.join(['%s'] * len(too_many))})", too_many)
        assert not conn.invalidated
        assert conn.execute(ONE).scalar_one() == 1


def test_a_savepoint_in_autocommit_is_refused_where_it_is_set(either: Engine) -> None:
    """By the server's word, and for that command; nothing of it is left over."""
    with either.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        with pytest.raises(exc.InternalError, match="SAVEPOINT can only be used in transaction blocks"):
            conn.begin_nested()
        assert conn.execute(ONE).scalar_one() == 1


@pytest.mark.parametrize("driver", [DRIVER, "postgresql+psycopg"])
def test_prepared_statements_are_given_up_when_a_first_statement_changes_their_table(
    driver: str, make_engine: MakeEngine
) -> None:
    """As by the stock driver, where somebody has switched them on."""
    engine = make_engine(driver, connect_args={"prepare_threshold": 1})

    def columns() -> list[int]:
        with engine.begin() as conn:
            conn.execute(ONE)
            return [len(conn.execute(text("SELECT * FROM shapes")).keys()) for _ in range(3)]

    with engine.begin() as conn:
        conn.execute(text("CREATE TABLE shapes (a int)"))
    assert columns() == [1, 1, 1]
    for n in (2, 3):
        with engine.begin() as conn:
            conn.execute(text(f"ALTER TABLE shapes ADD COLUMN a{n} int"))
        assert columns() == [n, n, n]


@pytest.mark.parametrize("size", [1, 20_000_000])
def test_size_is_no_matter(size: int, either: Engine) -> None:
    """Both ends send at the same time and neither waits for the other to be done."""
    with either.begin() as conn:
        sent = conn.execute(text("SELECT CAST(:x AS text), repeat('y', :n)"), {"x": "x" * size, "n": size}).one()
    assert [len(value) for value in sent] == [size, size]


def test_notices_of_a_first_statement_are_heard(either: Engine) -> None:
    """Through the driver's handlers."""
    heard: list[str | None] = []
    with either.begin() as conn:
        driver: Any = conn.connection.driver_connection
        driver.add_notice_handler(lambda notice: heard.append(notice.message_primary))
        conn.execute(text("DROP TABLE IF EXISTS missing"))
    assert heard == ['table "missing" does not exist, skipping']


def test_notifications_that_come_with_a_flight_are_heard(
    either: Engine, postgres: Postgres, database: Database
) -> None:
    """Those of another session's that wait in the socket."""
    heard: list[str] = []
    with either.connect() as conn:
        driver: Any = conn.connection.driver_connection
        driver.add_notify_handler(lambda notify: heard.append(notify.payload))
        conn.execute(text("LISTEN news"))
        conn.commit()
        postgres.execute("NOTIFY news, 'one'", database=database.name)
        conn.execute(ONE)
        conn.commit()
        conn.execute(ONE)
    assert heard == ["one"]


def test_a_pipeline_of_the_callers_own_is_one(either: Engine) -> None:
    """BEGIN and a savepoint that is due go into it, and so does what ends the savepoint."""
    with either.connect() as conn:
        driver: Any = conn.connection.driver_connection
        with conn.begin_nested(), driver.pipeline():
            cursors = [driver.execute("SELECT %s::int", [n]) for n in (1, 2)]
            assert [cursor.fetchone() for cursor in cursors] == [(1,), (2,)]
        conn.commit()
        assert conn.execute(ONE).scalar_one() == 1


@pytest.mark.usefixtures("ledger")
def test_the_drivers_own_transaction_has_the_prologue(use: Use, stock: Engine) -> None:
    """Whoever begins through psycopg has the tenant and the time limits all the same."""
    use()
    with db.begin(tenant="acme") as tx:
        driver: Any = tx.connection.driver_connection
        with driver.transaction():
            tx.execute(INSERT, {"n": 1})
            shown = tx.execute(text("SELECT current_setting('app.tenant_id'), current_setting('statement_timeout')"))
            assert tuple(shown.one()) == ("acme", "30s")
    assert stored(stock) == [1]


def test_a_single_read_that_fails_leaves_the_next_one_alone(use: Use) -> None:
    """Each is a transaction of its own."""
    use()
    with db.read() as conn:
        with pytest.raises(exc.DataError):
            conn.execute(text("SELECT 1 / 0"))
        assert conn.execute(ONE).scalar_one() == 1


def test_a_single_read_may_fail_at_its_very_end(use: Use) -> None:
    """A deferred constraint speaks when the implicit transaction commits: it is the statement's error, and the last."""
    use()

    @event.listens_for(db.engine(), "connect")  # what it says stays
    def make_table(connection: psycopg.Connection[Any], _: object) -> None:
        connection.execute("CREATE TEMP TABLE later (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        connection.commit()

    with db.read() as conn:
        with pytest.raises(exc.IntegrityError, match="INSERT INTO later"):
            conn.execute(text("INSERT INTO later VALUES (1), (1)"))
        assert conn.execute(ONE).scalar_one() == 1


def test_a_prologue_that_fails_says_so_and_spoils_nothing(use: Use) -> None:
    """Here for want of the function that a migration installs; the connection serves the next user."""
    use(proxy="rds-proxy")
    for work in (db.begin, db.read):
        with pytest.raises(db.ConfigurationError, match=r"db_begin_unit.*create_prologue_function"), work() as conn:
            conn.execute(ONE)
    with db.engine().begin() as conn:
        assert conn.execute(ONE).scalar_one() == 1


@pytest.mark.usefixtures("ledger")
def test_a_deadline_that_passes_before_the_first_flight_leaves_the_unit_as_it_was(
    use: Use, lambda_context: MakeLambdaContext, stock: Engine
) -> None:
    """Nothing is sent; savepoints are still due, and with time again the work goes on."""
    use()
    late_s = 0.0
    process.current().clock = lambda: time.time() + late_s

    @db.invocation
    def handler(_event: Any, _context: Any) -> None:
        nonlocal late_s
        with db.begin() as tx:
            savepoint = tx.begin_nested()
            late_s = 100.0
            with pytest.raises(db.DeadlineError):
                tx.execute(INSERT, {"n": 1})
            late_s = 0.0
            tx.execute(INSERT, {"n": 2})
            savepoint.rollback()
            tx.execute(INSERT, {"n": 3})

    handler({}, lambda_context(remaining_s=30))
    assert stored(stock) == [3]


SLEEP = text("SELECT pg_sleep(60)")
ASLEEP = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND state = 'active' AND query LIKE '%%pg_sleep%%'"


@pytest.fixture
def once_asleep(postgres: Postgres, database: Database) -> Iterator[Callable[[Callable[[], object]], None]]:
    """``once_asleep(act)`` calls ``act()``, in a thread, when the server is at the sleep."""
    threads: list[threading.Thread] = []

    def watch(act: Callable[[], object]) -> None:
        def wait() -> None:
            # pg_stat_activity shows a pipeline's last statement, and the watcher sits in another database.
            while postgres.execute(ASLEEP, (database.name,)) == [(0,)]:
                time.sleep(0.01)
            act()

        threads.append(threading.Thread(target=wait))
        threads[-1].start()

    yield watch
    for thread in threads:
        thread.join(30)


@pytest.mark.parametrize("work", [db.begin, db.read])
def test_ctrl_c_in_a_first_flight_ends_it_on_the_server_too(
    work: Callable[[], contextlib.AbstractContextManager[Connection]],
    use: Use,
    once_asleep: Callable[[Callable[[], object]], None],
    ctrl_c: Callable[[], None],
    *,
    database: Database,
    postgres: Postgres,
) -> None:
    """And the next unit of work is none the worse for it."""
    use()
    once_asleep(ctrl_c)
    with pytest.raises(KeyboardInterrupt), work() as conn:
        conn.execute(SLEEP)
    assert postgres.execute(ASLEEP, (database.name,)) == [(0,)]
    with work() as conn:
        assert conn.execute(ONE).scalar_one() == 1


def test_a_task_cancelled_in_a_first_flight_ends_it_on_the_server_too(
    use: Use, once_asleep: Callable[[Callable[[], object]], None], *, database: Database, postgres: Postgres
) -> None:
    """Likewise."""
    from db import aio

    use()

    async def sleep() -> None:
        async with aio.begin() as tx:
            await tx.execute(SLEEP)

    async def main() -> Any:
        task = asyncio.ensure_future(sleep())
        loop = asyncio.get_running_loop()
        once_asleep(lambda: loop.call_soon_threadsafe(task.cancel))
        with pytest.raises(asyncio.CancelledError):
            await task
        async with aio.begin() as tx:
            one = (await tx.execute(ONE)).scalar_one()
        db.dispose()
        return one

    assert asyncio.run(main()) == 1
    assert postgres.execute(ASLEEP, (database.name,)) == [(0,)]


@pytest.mark.usefixtures("ledger")
def test_threads_share_a_pool_and_no_flight(use: Use, stock: Engine) -> None:
    """Each unit has a connection to itself, savepoints and all."""
    use(pool_size=3)

    def work(first: int) -> None:
        for n in range(first, first + 20):
            with db.begin() as tx:
                with contextlib.suppress(exc.DataError), tx.begin_nested():
                    tx.execute(text("SELECT 1 / 0"))
                tx.execute(INSERT, {"n": n})

    threads = [threading.Thread(target=work, args=(100 * number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stored(stock) == [100 * number + n for number in range(3) for n in range(20)]


@pytest.mark.usefixtures("ledger")
def test_a_result_outlives_its_transaction(either: Engine) -> None:
    """Its rows are here already."""
    with either.connect() as conn:
        result = conn.execute(text("SELECT generate_series(1, 3)"))
        conn.commit()
        conn.execute(INSERT, {"n": 1})
        conn.commit()
        assert result.scalars().all() == [1, 2, 3]


def test_the_cursors_are_psycopgs(use: Use) -> None:
    """So whatever a library does with the driver's connection works."""
    use()
    with db.engine().begin() as conn:
        driver: Any = conn.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        with driver.cursor() as cursor:
            assert list(cursor.stream("SELECT generate_series(1, 3)")) == [(1,), (2,), (3,)]
        assert driver.execute("SELECT %s", ["x"]).fetchone() == ("x",)
