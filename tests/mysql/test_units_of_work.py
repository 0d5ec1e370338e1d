"""The promises of a unit of work, kept on MariaDB: all or nothing, bounded, alive, and no silent lie."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pymysql
import pytest
from sqlalchemy import exc, text

import db

from .conftest import add, numbers

if TYPE_CHECKING:
    from devkit.network.mysql_statements import MySqlWire
    from devkit.plugin import Database, MakeLambdaContext
    from devkit.servers.mariadb import MariaDb

    from .conftest import Use

pytestmark = pytest.mark.usefixtures("ledger")
INSERT = text("INSERT INTO ledger (n) VALUES (:n)")


def test_a_block_commits_as_a_whole_or_not_at_all() -> None:
    """What raises undoes it; what is undone by a savepoint is that part."""
    add(1)
    with pytest.raises(KeyError), db.begin() as tx:
        tx.execute(INSERT, {"n": 2})
        raise KeyError
    with db.begin() as tx:
        tx.execute(INSERT, {"n": 3})
        part = tx.begin_nested()
        tx.execute(INSERT, {"n": 4})
        part.rollback()
    with db.session() as orm:
        orm.execute(INSERT, {"n": 5})
    assert numbers() == [1, 3, 5]


def test_a_value_that_does_not_fit_is_an_error() -> None:
    """Whatever the server's own sql_mode says: what is cut to fit would be a lie."""
    with pytest.raises(exc.DataError) as refused, db.begin() as tx:
        tx.execute(text("INSERT INTO ledger VALUES (1, 'too long')"))
    assert db.sqlstate(refused.value) == "22001"
    assert numbers() == []


def test_the_session_is_strict_and_in_utc(use: Use, mariadb: MariaDb) -> None:
    """Where the server is neither."""
    mariadb.execute("SET GLOBAL sql_mode = '', GLOBAL time_zone = '+05:00'")
    try:
        use()
        with db.read() as conn:
            row = conn.execute(text("SELECT @@sql_mode, @@time_zone, @@character_set_client, @@autocommit")).one()
    finally:
        mariadb.execute("SET GLOBAL sql_mode = DEFAULT, GLOBAL time_zone = DEFAULT")
    assert "STRICT_TRANS_TABLES" in row[0]
    assert tuple(row[1:]) == ("+00:00", "utf8mb4", 0)


@pytest.mark.parametrize("snapshot", [False, True])
def test_a_write_in_a_read_is_an_error(snapshot: bool) -> None:
    """And asks for nothing: it is the code that has to be mended, not a stale failover. DDL, too, which would run."""
    with pytest.raises(exc.OperationalError) as refused, db.read(snapshot=snapshot) as conn:
        conn.execute(INSERT, {"n": 1})
    assert db.sqlstate(refused.value) == "25006"
    assert db.verdict(refused.value) is db.Verdict.GIVE_UP
    with pytest.raises(db.ConfigurationError, match="only reads"), db.read(snapshot=snapshot) as conn:
        conn.execute(text("CREATE TABLE other (n int)"))
    assert numbers() == []


def test_a_statement_ends_before_the_invocation_does(lambda_context: MakeLambdaContext) -> None:
    """By the server's own limit, which leaves the connection usable."""
    held = []

    @db.invocation
    def handler(_event: object, _context: object) -> object:
        with db.read() as conn:
            held.append(conn.connection.driver_connection)
            return conn.execute(text("SELECT sleep(4)")).scalar()

    with pytest.raises(exc.OperationalError) as ended:
        handler({}, lambda_context(remaining_s=1.0))
    assert db.sqlstate(ended.value) == "57014"
    with db.read() as conn:
        assert conn.connection.driver_connection is held[0]


def test_what_the_server_does_not_limit_is_killed_from_outside(
    lambda_context: MakeLambdaContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As MySQL's writes, which no setting of it limits: here MariaDB stands in, told nothing of a limit."""
    from db.wire.mysql_connections import MySqlConnection

    monkeypatch.setattr(MySqlConnection, "limits_writes", False)
    monkeypatch.setattr(MySqlConnection, "_limit_value", lambda *_: "0")
    add(1)

    @db.invocation
    def handler(_event: object, _context: object) -> None:
        with db.begin() as tx:
            tx.execute(text("UPDATE ledger SET note = sleep(4)"))

    with pytest.raises(exc.OperationalError) as ended:
        handler({}, lambda_context(remaining_s=1.0))
    assert ended.value.orig is not None
    assert ended.value.orig.args[0] == 1317
    with db.read() as conn:
        assert conn.execute(text("SELECT note FROM ledger")).scalar() is None


def test_a_kill_goes_to_the_server_that_runs_the_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its address: what a reader's name leads to next is another server, with somebody else under the number."""
    add(1)
    with db.engine().connect() as conn:
        driver: Any = conn.connection.driver_connection
        monkeypatch.setattr(driver, "host", "another.invalid")
        killer = threading.Timer(0.1, driver._kill)
        killer.start()
        with pytest.raises(exc.OperationalError) as ended:
            conn.execute(text("UPDATE ledger SET note = sleep(4)"))
        killer.join()
    assert isinstance(ended.value.orig, pymysql.err.OperationalError)
    assert ended.value.orig.args[0] == 1317


def test_a_lock_is_not_waited_for_longer_than_the_setting_says(use: Use) -> None:
    """Its error undoes the statement alone, and asks for another try."""
    use(lock_timeout_s=1.0, pool_size=2)
    add(1)
    with db.begin() as first:
        first.execute(text("UPDATE ledger SET note = 'a' WHERE n = 1"))
        with db.begin() as second:
            with pytest.raises(exc.OperationalError) as refused:
                second.execute(text("UPDATE ledger SET note = 'b' WHERE n = 1"))
            second.execute(INSERT, {"n": 2})
    assert db.verdict(refused.value) is db.Verdict.RETRY_TRANSACTION
    assert db.sqlstate(refused.value) == "55P03"
    assert numbers() == [1, 2]


def test_a_deadlock_that_is_caught_does_not_commit_the_rest(use: Use) -> None:
    """The server has rolled back all of it: what comes after were in a transaction of its own."""
    use(pool_size=2)
    add(1)
    add(2)
    other_waits, error = threading.Event(), []

    def other() -> None:
        with db.begin() as tx:
            # More than the first one changes, so that InnoDB ends that one.
            tx.execute(INSERT, [{"n": n} for n in range(100, 200)])
            tx.execute(text("UPDATE ledger SET note = 'b' WHERE n = 2"))
            other_waits.set()
            tx.execute(text("UPDATE ledger SET note = 'b' WHERE n = 1"))

    thread = threading.Thread(target=other)
    with pytest.raises(exc.PendingRollbackError), db.begin() as tx:
        tx.execute(text("UPDATE ledger SET note = 'a' WHERE n = 1"))
        thread.start()
        other_waits.wait(5)
        with pytest.raises(exc.OperationalError) as refused:
            tx.execute(text("UPDATE ledger SET note = 'a' WHERE n = 2"))
        error.append(refused.value)
        with pytest.raises(exc.DBAPIError, match="rolled back the whole transaction"):
            tx.execute(INSERT, {"n": 9})
    thread.join()
    assert db.verdict(error[0]) is db.Verdict.RETRY_TRANSACTION
    assert 9 not in numbers()


@pytest.mark.parametrize("statement", ["COMMIT", "ROLLBACK", "START TRANSACTION", "SET autocommit = 1", "BEGIN"])
def test_the_transaction_is_the_blocks_to_end(statement: str) -> None:
    """Named, and undone."""
    with pytest.raises(db.ConfigurationError, match="within a unit of work"), db.begin() as tx:
        tx.execute(INSERT, {"n": 1})
        tx.execute(text(statement))
    assert numbers() == []


def test_ddl_does_not_commit_what_came_before_it_unasked(use: Use) -> None:
    """It would, and a rollback would bring nothing back. By itself it is done, and never run again."""
    use(role="owner")
    with pytest.raises(db.ConfigurationError, match=r"^CREATE TABLE would commit"), db.begin() as tx:
        tx.execute(INSERT, {"n": 1})
        tx.execute(text("CREATE TABLE other (n int)"))
    assert numbers() == []
    runs = []

    def make(tx: object) -> None:
        runs.append(1)
        tx.execute(text("CREATE TABLE other (n int)"))  # type: ignore[attr-defined]
        error = pymysql.err.OperationalError(1213, "as if")
        raise exc.OperationalError("SELECT 1", {}, error)

    with pytest.raises(exc.OperationalError):
        db.run(make)
    assert runs == [1]


def test_a_second_statement_in_a_text_is_refused_by_the_server() -> None:
    """Though the layer itself sends several at a time: a text of somebody else's is one, or an error."""
    add(1)
    for injected in (
        "SELECT 1; DELETE FROM ledger",
        "SELECT 1 -- ;\n; DELETE FROM ledger",
        "SELECT 1 /*! ; DELETE FROM ledger */",
    ):
        with pytest.raises(exc.ProgrammingError) as refused, db.begin() as tx:
            tx.exec_driver_sql(injected)
        assert refused.value.orig is not None
        assert refused.value.orig.args[0] == 1064
    with pytest.raises(exc.ProgrammingError), db.engine().begin() as conn:
        conn.exec_driver_sql("SELECT 1; DELETE FROM ledger")
    with db.begin() as tx:
        row = tx.execute(text("SELECT 'a;b', :value"), {"value": "c'; DELETE FROM ledger; --"}).one()
    assert tuple(row) == ("a;b", "c'; DELETE FROM ledger; --")
    assert numbers() == [1]


def test_a_procedure_with_statements_in_it_is_made_and_called(use: Use) -> None:
    """Its semicolons are its own."""
    use(role="owner")
    with db.begin() as tx:
        tx.exec_driver_sql("CREATE PROCEDURE twice() BEGIN INSERT INTO ledger (n) VALUES (1); SELECT 2 AS n; END")
    with db.begin() as tx:
        assert tx.exec_driver_sql("CALL twice()").scalar() == 2
    assert numbers() == [1]


@pytest.mark.parametrize(
    "statement",
    ["SET SESSION sql_mode = ''", "SET @mine = 1", "CREATE TEMPORARY TABLE t (n int)", "SELECT GET_LOCK('mine', 0)"],
)
def test_what_is_left_on_a_session_is_nobody_elses(statement: str, use: Use, wire: MySqlWire) -> None:
    """The connection is not kept."""
    use(role="owner")
    before = wire.counts()
    with db.begin() as tx:
        tx.execute(text(statement))
    numbers()
    assert (wire.counts() - before).connections == 2


def test_what_the_drivers_own_calls_leave_is_nobody_elses(use: Use, mariadb_database: Database) -> None:
    """As what a text would; autocommit is refused, as it would commit statement by statement."""
    use(role="owner")
    with db.begin() as tx:
        driver: Any = tx.connection.driver_connection
        driver.set_character_set("latin1")
    with db.engine().connect() as conn:
        driver = conn.connection.driver_connection
        driver.select_db(mariadb_database.name)
        driver.autocommit(True)
        used = driver.thread_id()
    with pytest.raises(db.ConfigurationError, match="autocommit within"), db.begin() as tx:
        tx.execute(INSERT, {"n": 1})
        tx.connection.driver_connection.autocommit(True)  # type: ignore[union-attr]
    with db.read() as conn:
        row = conn.execute(
            text("SELECT @@character_set_client, @@autocommit, connection_id() <> :used"), {"used": used}
        )
        assert tuple(row.one()) == ("utf8mb4", 0, 1)
    assert numbers() == []


def test_a_tenant_is_refused_everywhere(mariadb_database: Database, use: Use) -> None:
    """There is no row-level security that would keep it: no call takes one, and no scope, nor does a setting."""
    for call in (db.begin, db.read, db.session):
        with pytest.raises(db.ConfigurationError, match=r"tenant=…\) on MySQL"), call(tenant="acme"):
            pass
    with db.scope(tenant="acme"), pytest.raises(db.ConfigurationError, match="on MySQL"):
        numbers()
    with pytest.raises(db.ConfigurationError, match="DB_TENANT_REQUIRED on MySQL"):
        use(tenant_required=True)
    with pytest.raises(db.ConfigurationError, match="DB_PROXY on MySQL"):
        use(proxy="rds-proxy")


def test_a_comment_that_never_ends_takes_nothing_along() -> None:
    """It would swallow what the layer sends behind it, and leave it waiting for answers that do not come."""
    for statement in ("SELECT 1 /* for ever", "SELECT 1 /*! + 1"):
        with contextlib.suppress(exc.DBAPIError), db.read() as conn:
            conn.exec_driver_sql(statement)
    with contextlib.suppress(exc.DBAPIError), db.begin() as tx:
        tx.exec_driver_sql("INSERT INTO ledger (n) VALUES (7) -- no more")
    with db.engine().connect() as conn:
        left = conn.execute(text("SELECT @@max_statement_time, @@tx_read_only")).one()
    assert tuple(left) == (0, 0)
    assert numbers() == [7]


@pytest.mark.parametrize("level", ["READ COMMITTED", "SERIALIZABLE"])
def test_a_level_holds_for_its_unit_or_for_the_engine(level: Any, use: Use, wire: MySqlWire) -> None:
    """By the call, or by the engine's options; then no session keeps another's."""
    with db.begin(isolation=level) as tx:
        tx.execute(INSERT, {"n": 1})
    assert f"SET TRANSACTION ISOLATION LEVEL {level}" in "".join(wire.statements())
    with db.engine().connect().execution_options(isolation_level=level) as conn:
        assert conn.execute(text("SELECT @@tx_isolation")).scalar() == level.replace(" ", "-")
    with db.engine().connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.execute(INSERT, {"n": 2})
    with db.engine().connect() as conn:
        assert tuple(conn.execute(text("SELECT @@tx_isolation, @@autocommit")).one()) == ("REPEATABLE-READ", 0)
    assert numbers() == [1, 2]


def test_rows_may_be_streamed() -> None:
    """Unbuffered, behind an opening of its own."""
    with db.begin() as tx:
        tx.execute(INSERT, [{"n": n} for n in range(50)])
    with db.read() as conn:
        rows = conn.execution_options(stream_results=True).execute(text("SELECT n FROM ledger ORDER BY n"))
        assert [row.n for row in rows] == list(range(50))
    assert len(numbers()) == 50


def test_a_connection_says_whose_it_is_without_asking(mariadb_database: Database, wire: MySqlWire) -> None:
    """For the log, the spans and KILL, by the names that psycopg has."""
    numbers()
    before = wire.counts()
    with db.engine().connect() as conn:
        driver: Any = conn.connection.driver_connection
        info = driver.info
    assert (wire.counts() - before).trips == 0
    assert tuple(info)[1:] == (mariadb_database.name, wire.host, wire.port, mariadb_database.app)
    with db.read() as conn:
        assert conn.execute(text("SELECT connection_id()")).scalar() == info.backend_pid


def test_without_a_pool_nothing_is_kept(use: Use, mariadb: MariaDb, mariadb_database: Database) -> None:
    """Each unit opens a connection, in two trips, and closes it."""
    use(pool="null")
    add(1)
    assert numbers() == [1]
    assert mariadb.all_left(mariadb_database.name, mariadb_database.app)
    assert db.status()["totals"]["connects"] == 2


def test_a_statement_that_is_too_long_for_the_server_is_not_sent(
    use: Use, mariadb: MariaDb, wire: MySqlWire, mariadb_database: Database
) -> None:
    """By name, and for good: the server would hang up in the middle of it, which looks like a lost connection."""
    mariadb.execute("SET GLOBAL max_allowed_packet = 1048576")
    try:
        use()
        add(1)
        before = wire.counts()
        with pytest.raises(exc.OperationalError, match="max_allowed_packet is 1,048,576: nothing was sent") as refused:
            db.run(lambda tx: tx.execute(text("SELECT length(:x)"), {"x": "x" * 1_048_000}))
        assert wire.counts() == before
        assert (db.sqlstate(refused.value), db.verdict(refused.value)) == ("54000", db.Verdict.GIVE_UP)
        with db.read() as conn:
            long = conn.execute(text("SELECT length(:x)"), {"x": "x" * 1_047_500}).scalar_one()
        assert long == 1_047_500
        assert (wire.counts() - before).connections == 0
    finally:
        mariadb.execute("SET GLOBAL max_allowed_packet = DEFAULT")
