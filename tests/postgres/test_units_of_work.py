"""Units of work on a real server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import exc, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import db

from .conftest import Lines, Use, backend_pid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from devkit.plugin import Database, MakeLambdaContext
    from devkit.servers.postgres import Postgres

pytestmark = pytest.mark.usefixtures("ledger")

INSERT = text("INSERT INTO ledger VALUES (:n)")


def stored() -> list[int]:
    with db.read() as conn:
        return list(conn.execute(text("SELECT n FROM ledger ORDER BY n")).scalars())


def test_begin_commits_when_the_block_ends() -> None:
    """And gives SQLAlchemy's own connection."""
    with db.begin() as tx:
        tx.execute(INSERT, {"n": 1})
    assert stored() == [1]


def test_begin_rolls_back_when_the_block_raises() -> None:
    """The block's own error comes out, and nothing stays."""
    with pytest.raises(LookupError), db.begin() as tx:
        tx.execute(INSERT, {"n": 1})
        raise LookupError
    assert stored() == []


def test_a_statement_after_an_early_commit_is_refused() -> None:
    """It would run in a transaction that knows neither tenant nor time limit."""
    with pytest.raises(exc.InvalidRequestError), db.begin() as tx:
        tx.execute(INSERT, {"n": 1})
        tx.commit()
        tx.execute(INSERT, {"n": 2})
    assert stored() == [1]


def test_read_refuses_to_write() -> None:
    """By the server's word: SQLSTATE 25006."""
    with pytest.raises(exc.InternalError) as caught, db.read() as conn:
        conn.execute(INSERT, {"n": 1})
    assert db.sqlstate(caught.value) == "25006"


@pytest.mark.parametrize(("snapshot", "seen"), [(True, 0), (False, 1)])
def test_a_snapshot_sees_one_state(snapshot: bool, seen: int, database: Database, postgres: Postgres) -> None:
    """Without it, each statement sees what was committed before it."""
    count = text("SELECT count(*) FROM ledger")
    with db.read(snapshot=snapshot) as conn:
        assert conn.execute(count).scalar_one() == 0
        postgres.execute("INSERT INTO ledger VALUES (1)", database=database.name)
        assert conn.execute(count).scalar_one() == seen


def test_a_write_after_a_read_is_no_longer_read_only() -> None:
    """The two share a connection, not its characteristics."""
    pid = backend_pid()
    with db.begin() as tx:
        tx.execute(INSERT, {"n": 1})
        assert tx.execute(text("SELECT pg_backend_pid()")).scalar_one() == pid
        assert tx.execute(text("SHOW transaction_isolation")).scalar_one() == "read committed"


class Base(DeclarativeBase):
    pass


class Entry(Base):
    __tablename__ = "ledger"
    n: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str | None]


def test_a_session_flushes_and_commits_when_the_block_ends() -> None:
    """Its objects stay readable afterwards."""
    with db.session(tenant="acme") as orm:
        entry = Entry(n=1, tenant="acme")
        orm.add(entry)
    assert stored() == [1]
    assert entry.tenant == "acme"


def test_a_session_that_raises_leaves_nothing() -> None:
    """Not even what it had committed inside: the transaction is the block's."""
    with pytest.raises(LookupError), db.session() as orm:
        orm.add(Entry(n=1))
        orm.commit()
        raise LookupError
    assert stored() == []


def test_run_passes_arguments_and_returns_the_result() -> None:
    """Positional and by keyword."""

    def add(tx: Connection, first: int, *, second: int) -> int:
        for n in (first, second):
            tx.execute(INSERT, {"n": n})
        return first + second

    assert db.run(add, 1, second=2) == 3
    assert stored() == [1, 2]


def test_run_tries_a_deadlock_again(use: Use, lines: Lines) -> None:
    """The one whom the server chose to abort starts over, and both have their way."""
    with db.begin() as tx:
        tx.execute(text("INSERT INTO ledger VALUES (1, ''), (2, '')"))
    use(pool_size=2)
    met = threading.Barrier(2)
    attempts: list[str] = []

    def swap(tx: Connection, name: str, order: tuple[int, int]) -> None:
        attempts.append(name)
        for n in order:
            tx.execute(text("UPDATE ledger SET tenant = tenant || :name WHERE n = :n"), {"name": name, "n": n})
            if n == order[0] and attempts.count(name) == 1:
                met.wait(10)  # each holds its first row before either wants its second

    threads = [
        threading.Thread(target=db.run, args=(swap, "a", (1, 2))),
        threading.Thread(target=db.run, args=(swap, "b", (2, 1))),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(attempts) == 3
    assert [line["verdict"] for line in lines.of("retry")] == ["retry the transaction"]
    with db.read() as conn:
        assert {"".join(sorted(v)) for v in conn.execute(text("SELECT tenant FROM ledger")).scalars()} == {"ab"}


def test_run_reconnects_when_the_connection_is_lost_before_commit(database: Database, postgres: Postgres) -> None:
    """Nothing had been committed, so all of it runs again."""
    calls = []

    def add(tx: Connection) -> None:
        calls.append(1)
        tx.execute(INSERT, {"n": len(calls)})
        if len(calls) == 1:
            postgres.terminate(database.name)
            tx.execute(text("SELECT 1"))

    db.run(add)
    assert (len(calls), stored()) == (2, [2])


def test_run_gives_up_on_what_would_fail_alike() -> None:
    """A duplicate key stays one; the caller sees SQLAlchemy's error after one attempt."""
    calls = []

    def add(tx: Connection) -> None:
        calls.append(1)
        tx.execute(INSERT, {"n": 1})
        tx.execute(INSERT, {"n": 1})

    with pytest.raises(exc.IntegrityError):
        db.run(add)
    assert len(calls) == 1


KILL_AT_COMMIT = """
CREATE FUNCTION vanish() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
    $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()), pg_sleep(10); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER vanish AFTER INSERT ON ledger DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION vanish()
"""


@pytest.mark.parametrize("own_commit", [False, True])
def test_a_connection_lost_during_commit_leaves_the_outcome_unknown(
    own_commit: bool, database: Database, postgres: Postgres
) -> None:
    """It has its own error, and run() does not try again; also where the block itself had called commit()."""
    postgres.execute(KILL_AT_COMMIT, database=database.name)
    calls = []

    def add(tx: Connection) -> None:
        calls.append(1)
        tx.execute(INSERT, {"n": 1})
        if own_commit:
            tx.commit()

    with pytest.raises(db.OutcomeUnknownError) as caught:
        db.run(add)
    assert isinstance(caught.value.__cause__, exc.DBAPIError)
    assert len(calls) == 1


def test_a_lost_rollback_does_not_hide_the_blocks_own_error(database: Database, postgres: Postgres) -> None:
    """Nothing was committed, and the reason is what the block raised."""
    with pytest.raises(LookupError), db.begin() as tx:
        tx.execute(INSERT, {"n": 1})
        postgres.terminate(database.name)
        raise LookupError
    assert stored() == []


def test_a_read_that_is_complete_does_not_fail_for_its_rollback(database: Database, postgres: Postgres) -> None:
    """The rows are there, and there is nothing to commit."""
    with db.read() as conn:
        rows = conn.execute(text("SELECT 1")).scalars().all()
        postgres.terminate(database.name)
    assert rows == [1]


def test_run_reconnects_when_the_connection_is_lost_between_rows(database: Database, postgres: Postgres) -> None:
    """A fetch fails without a statement, as a commit does, and is none."""
    calls = []

    def walk(tx: Connection) -> int:
        calls.append(1)
        tx.execution_options(stream_results=True, max_row_buffer=1)
        with tx.execute(text("SELECT * FROM generate_series(1, 1000)")) as result:
            result.fetchone()
            if len(calls) == 1:
                postgres.terminate(database.name)
            return len(result.fetchall())

    assert db.run(walk) == 999
    assert len(calls) == 2


def test_run_does_not_repeat_what_its_function_has_committed(use: Use, database: Database, postgres: Postgres) -> None:
    """Whatever fails after that."""
    use(pool_size=2)
    calls = []

    def add(tx: Connection) -> None:
        calls.append(1)
        tx.execute(INSERT, {"n": len(calls)})
        tx.commit()
        with db.read(snapshot=True) as conn:
            conn.execute(text("SELECT 1"))
            postgres.terminate(database.name)
            conn.execute(text("SELECT 1"))

    with pytest.raises(exc.OperationalError):
        db.run(add)
    assert stored() == [1]


def test_run_tries_a_serialization_failure_again(use: Use) -> None:
    """Here COMMIT itself meets it: two units each read what the other writes, and the later one starts over."""
    use(pool_size=2)
    seen: list[int] = []

    def add(tx: Connection) -> None:
        seen.append(tx.execute(text("SELECT count(*) FROM ledger")).scalar_one())
        if len(seen) == 1:
            with db.begin(isolation="SERIALIZABLE") as other:
                other.execute(text("SELECT count(*) FROM ledger"))
                other.execute(INSERT, {"n": 100})
        tx.execute(INSERT, {"n": len(seen)})

    db.run(add, isolation="SERIALIZABLE")
    assert seen == [0, 1]
    assert stored() == [2, 100]


def test_a_commit_after_dispose_has_certainly_not_taken_place(use: Use) -> None:
    """This side closed the connection, so nothing was sent; run() tries again."""
    calls = []

    def add(tx: Connection) -> None:
        calls.append(1)
        tx.execute(INSERT, {"n": len(calls)})
        if len(calls) == 1:
            db.dispose()

    db.run(add)
    assert stored() == [2]


def test_a_failover_spares_the_units_around(use: Use, database: Database, postgres: Postgres) -> None:
    """Only idle connections are dropped for a server that has become read-only."""
    use(pool_size=2)
    calls = []

    def refused(tx: Connection) -> None:
        calls.append(1)
        postgres.execute(f"ALTER DATABASE {database.name} RESET default_transaction_read_only")  # for the next session
        tx.execute(INSERT, {"n": 1})

    with db.begin() as outer:
        outer.execute(INSERT, {"n": 2})
        postgres.execute(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
        db.run(refused)
    assert len(calls) == 2
    assert stored() == [1, 2]


def test_units_may_end_in_any_order(use: Use) -> None:
    """As generators do; what has ended no longer counts."""
    use(pool_size=2)

    def numbers() -> Iterator[int]:
        with db.read() as conn:
            yield from conn.execute(text("SELECT 1 UNION SELECT 2")).scalars()

    for _ in range(3):
        assert list(zip(numbers(), numbers(), strict=True)) == [(1, 1), (2, 2)]


def test_nesting_beyond_the_pool_is_refused_at_once(use: Use) -> None:
    """The inner unit could only wait for the outer one, which waits for it; run() does not try that six times."""
    use(pool_timeout_s=60)
    with db.begin(), pytest.raises(db.ConfigurationError, match="raise DB_POOL_SIZE"):
        db.run(lambda _tx: None)


@pytest.mark.parametrize("settings", [{"pool": "null"}, {"pool_size": 2}, {"max_overflow": 1}])
def test_nesting_within_the_pool_is_two_transactions(settings: dict[str, Any], use: Use) -> None:
    """The inner one commits whatever becomes of the outer one."""
    use(**settings)
    with pytest.raises(LookupError), db.begin() as outer:
        outer.execute(INSERT, {"n": 1})
        with db.begin() as inner:
            inner.execute(INSERT, {"n": 2})
        raise LookupError
    assert stored() == [2]


FORK = """
import os, sys, db
from sqlalchemy import text
def pid():
    with db.read() as conn:
        return conn.execute(text("SELECT pg_backend_pid()")).scalar_one()
parent, (out, into) = pid(), os.pipe()
if os.fork() == 0:
    os.write(into, str(pid()).encode())
    db.dispose()
    os._exit(0)
os.wait()
print(parent, os.read(out, 100).decode(), pid())
"""


def test_a_forked_child_has_connections_of_its_own(database: Database) -> None:
    """Two processes on one wire would read each other's answers."""
    environment = os.environ | {"DB_URL": database.url(), "POWERTOOLS_LOG_LEVEL": "ERROR"}
    command = [sys.executable, "-W", "ignore", "-c", FORK]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    parent, child, parent_again = done.stdout.split()
    assert parent == parent_again != child


FORK_INSIDE = """
import os
import db
from sqlalchemy import text
def child(work):
    out, into = os.pipe()
    if os.fork() == 0:
        try:
            said = work()
        except Exception as error:
            said = type(error).__name__
        os.write(into, str(said).encode())
        os._exit(0)
    os.wait()
    return os.read(out, 100).decode()
def one():
    with db.begin() as tx:
        tx.execute(text("INSERT INTO ledger (n) VALUES (2)"))
        return "stored"
with db.begin() as tx:
    tx.execute(text("INSERT INTO ledger (n) VALUES (1)"))
    print(child(one), child(lambda: tx.execute(text("SELECT 1")).scalar()))
    tx.execute(text("INSERT INTO ledger (n) VALUES (3)"))
out, into = os.pipe()
try:
    with db.begin() as tx:
        tx.execute(text("INSERT INTO ledger (n) VALUES (4)"))
        parent = os.fork()
        if parent:
            os.wait()
            raise ValueError
    said = "committed"
except ValueError:
    said = "rolled back"
except Exception as error:
    said = type(error).__name__
if not parent:
    os.write(into, said.encode())
    os._exit(0)
print(os.read(out, 100).decode(), said)
"""


def test_a_fork_inside_a_unit_leaves_it_the_parents(ledger: None, database: Database, postgres: Postgres) -> None:
    """The child works on connections of its own; the parent's it can neither use nor commit by leaving the block."""
    environment = os.environ | {"DB_URL": database.url(), "POWERTOOLS_LOG_LEVEL": "CRITICAL"}
    command = [sys.executable, "-W", "ignore", "-c", FORK_INSIDE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["stored OperationalError", "OperationalError rolled back"]
    assert postgres.execute("SELECT n FROM ledger ORDER BY n", database=database.name) == [(1,), (2,), (3,)]


def test_the_own_pools_error_names_who_holds_it(use: Use, lambda_context: MakeLambdaContext) -> None:
    """Since when and from where; the wait keeps to the invocation's time, and the database has no part in it."""
    use(pool_timeout_s=60)
    context = lambda_context(remaining_s=1.5)
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            with db.begin():
                pass
        except exc.TimeoutError as error:
            caught.append(error)

    def handler(_event: object, _context: object) -> None:
        with db.begin():
            thread = threading.Thread(target=wait)
            thread.start()
            thread.join(10)

    db.invocation(handler)({}, context)
    holder = r"in use, by thread 'MainThread' for \d\.\d s, from test_units_of_work\.py:\d+ in .*handler"
    assert re.search(holder, str(caught[0]))
    assert db.verdict(caught[0]) is db.Verdict.GIVE_UP


def test_a_write_in_a_read_is_the_callers_mistake(use: Use, database: Database, postgres: Postgres) -> None:
    """A server that failed over says the same, but there nobody had asked to be read-only."""
    use()
    with pytest.raises(exc.InternalError) as caught, db.read() as conn:
        conn.execute(text("CREATE TABLE t (n int)"))
    assert db.verdict(caught.value) is db.Verdict.GIVE_UP
    postgres.execute(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    db.dispose()
    with pytest.raises(exc.InternalError) as caught, db.begin() as tx:
        tx.execute(text("CREATE TABLE t (n int)"))
    assert db.verdict(caught.value) is db.Verdict.DISCARD_POOL


@pytest.mark.parametrize("over_the_driver", [False, True])
def test_a_writer_that_takes_no_write_is_left_by_run_however_it_is_heard(
    over_the_driver: bool, use: Use, ledger: None, database: Database, postgres: Postgres
) -> None:
    """Each attempt has another connection; the engine's events hear nothing of what the driver's own raises."""
    postgres.execute(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    use(pool_size=2)
    with db.begin(), db.begin():
        pass  # both are kept
    pids: list[Any] = []

    def work(tx: Connection) -> None:
        pids.append(tx.scalar(text("SELECT pg_backend_pid()")))
        driver: Any = tx.connection.driver_connection
        if len(pids) < 3:
            (driver.execute if over_the_driver else tx.exec_driver_sql)("INSERT INTO ledger VALUES (1, '')")

    db.run(work)
    assert len(set(pids)) == 3
