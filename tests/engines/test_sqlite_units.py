"""What a unit of work promises, on SQLite: what a test with it passes, PostgreSQL passes as well."""

from __future__ import annotations

import sqlite3
import threading
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import exc, text

import db
from db.environment import process
from db.settings import Settings
from db.telemetry import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
    from sqlalchemy import Connection

    from devkit.plugin import MakeLambdaContext

FOREVER = text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n")
INSERT = text("INSERT INTO ledger VALUES (:n)")
ALL = text("SELECT n FROM ledger ORDER BY n")


class File:
    """A database in a file, and somebody else who has it open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.use(pool_size=2)
        with db.begin() as tx:
            tx.execute(text("CREATE TABLE ledger (n int PRIMARY KEY)"))
        self.other = sqlite3.connect(path, isolation_level=None, timeout=0)

    def use(self, **settings: Any) -> None:
        db.configure(Settings(url=f"sqlite:///{self.path}", **settings))

    @staticmethod
    def rows() -> list[int]:
        with db.read() as conn:
            return list(conn.execute(ALL).scalars())


@pytest.fixture
def file(tmp_path: Path) -> Iterator[File]:
    made = File(tmp_path / "a.db")
    yield made
    made.other.close()
    db.dispose()
    process.DEFAULT._runtime = None


@pytest.fixture
def memory() -> Iterator[None]:
    db.configure(Settings(url="sqlite://", pool_timeout_s=0.05))
    with db.begin() as tx:
        tx.execute(text("CREATE TABLE ledger (n int PRIMARY KEY)"))
    yield
    db.dispose()
    process.DEFAULT._runtime = None


def state_of(error: pytest.ExceptionInfo[exc.DBAPIError]) -> tuple[str | None, db.Verdict]:
    return db.sqlstate(error.value), db.verdict(error.value)


@pytest.mark.usefixtures("memory")
def test_a_write_in_a_read_is_refused_and_the_next_unit_writes() -> None:
    """Whatever ended the block: the connection is the same, and reads only while somebody reads."""
    with pytest.raises(exc.OperationalError) as refused, db.read() as conn:
        conn.execute(INSERT, {"n": 1})
    assert state_of(refused) == ("25006", db.Verdict.GIVE_UP)
    with pytest.raises(KeyboardInterrupt), db.read(snapshot=True) as conn:
        conn.execute(ALL)
        raise KeyboardInterrupt
    with db.begin() as tx:
        tx.execute(INSERT, {"n": 2})
    assert File.rows() == [2]


def test_a_read_sees_what_is_newest_and_a_snapshot_what_was(file: File) -> None:
    """As on PostgreSQL: with ``snapshot`` all statements of the block see one state."""
    seen = {}
    for snapshot in (False, True):
        with db.read(snapshot=snapshot) as conn:
            conn.execute(ALL)
            file.other.execute("INSERT INTO ledger SELECT count(*) FROM ledger")
            seen[snapshot] = len(conn.execute(ALL).all())
    assert seen == {False: 1, True: 1}
    assert file.rows() == [0, 1]


def test_the_reads_of_a_fetch_see_one_state(file: File) -> None:
    """They are one transaction, though not one trip."""
    file.other.create_function("other", 0, lambda: 0)
    with db.engine().connect() as conn:
        conn.connection.driver_connection.create_function(  # type: ignore[union-attr]
            "meanwhile", 0, lambda: file.other.execute("INSERT INTO ledger VALUES (7)").rowcount
        )
    first, second = db.fetch(text("SELECT count(*), meanwhile() FROM ledger"), text("SELECT count(*) FROM ledger"))
    assert (first.one(), second.scalar_one()) == ((0, 1), 0)


@pytest.mark.parametrize("asked", [db.begin, db.read])
def test_a_statement_is_cut_off_at_its_limit(asked: Callable[[], Any], file: File) -> None:
    """By the code and the verdict of PostgreSQL's statement_timeout."""
    file.use(statement_timeout_s=0.05)
    with pytest.raises(exc.OperationalError) as cut, asked() as conn:
        conn.execute(FOREVER)
    assert state_of(cut) == ("57014", db.Verdict.GIVE_UP)
    assert file.rows() == []


def test_a_statement_is_cut_off_before_the_invocation_ends(file: File, lambda_context: MakeLambdaContext) -> None:
    """And what comes after it in the transaction, too late, is not begun."""

    @db.invocation
    def handler(_event: object, _context: object) -> None:
        with db.begin() as tx:
            tx.execute(INSERT, {"n": 1})
            tx.execute(FOREVER)

    file.use(deadline_reserve_s=0.4)
    with pytest.raises(exc.OperationalError) as cut:
        handler({}, lambda_context(remaining_s=0.5))
    assert db.sqlstate(cut.value) == "57014"
    assert file.rows() == []


def test_a_second_writer_waits_no_longer_than_for_a_lock(file: File) -> None:
    """The one writer's place is taken with the first statement; where nothing runs, nobody waits."""
    file.use(lock_timeout_s=0.05)
    file.other.execute("BEGIN IMMEDIATE")
    with db.begin():
        pass
    assert file.rows() == []
    with pytest.raises(exc.OperationalError, match="locked") as busy, db.begin() as tx:
        tx.execute(ALL)
    assert state_of(busy) == ("55P03", db.Verdict.RETRY_TRANSACTION)


def test_run_tries_again_when_the_writer_has_ended(file: File) -> None:
    """As after a serialization failure."""
    file.use(lock_timeout_s=0.05)
    file.other.execute("BEGIN IMMEDIATE")
    tried: list[Any] = []

    def work(tx: Any) -> None:
        if tried:
            file.other.execute("ROLLBACK")
        tried.append(tx)
        tx.execute(INSERT, {"n": 1})

    db.run(work)
    assert (len(tried), file.rows()) == (2, [1])


def test_a_reader_that_turns_writer_on_the_plain_engine_is_to_be_run_again(file: File) -> None:
    """There BEGIN is deferred. What it has read, another has changed since: a serialization failure."""
    with pytest.raises(exc.OperationalError) as busy, db.engine().begin() as conn:
        conn.execute(ALL)
        file.other.execute("INSERT INTO ledger VALUES (1)")
        conn.execute(INSERT, {"n": 2})
    assert state_of(busy) == ("40001", db.Verdict.RETRY_TRANSACTION)


@pytest.mark.usefixtures("memory")
def test_threads_take_turns_on_what_is_in_memory() -> None:
    """A second unit neither writes into the first one's transaction nor sees what that has not committed."""
    came: list[object] = []

    def other() -> None:
        try:
            with db.begin() as tx:
                came.append(len(tx.execute(ALL).all()))
        except Exception as error:  # noqa: BLE001 - looked at below
            came.append(error)

    def in_a_thread() -> object:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        return came.pop()

    with db.begin() as tx:
        tx.execute(INSERT, {"n": 1})
        assert isinstance(in_a_thread(), exc.TimeoutError)
    assert in_a_thread() == 1


@pytest.mark.usefixtures("memory")
def test_the_plain_engine_in_a_unit_is_refused_in_memory() -> None:
    """When it gave the connection back, it would roll the unit's transaction back."""
    with db.begin() as tx:
        tx.execute(INSERT, {"n": 1})
        with pytest.raises(db.ConfigurationError, match="lives in one connection"):
            db.engine().connect()
    assert File.rows() == [1]


def test_a_writer_inside_of_a_writer_is_refused_at_once(file: File) -> None:
    """It would wait for itself. A reader sees what was committed before."""
    with db.begin() as tx:
        tx.execute(INSERT, {"n": 1})
        with pytest.raises(db.ConfigurationError, match="SQLite has one writer at a time"), db.begin():
            pass
        assert file.rows() == []
    assert file.rows() == [1]


def test_two_databases_in_one_file_have_one_writer(file: File) -> None:
    """However its path is spelled: the inner one would wait for the outer until it gave up."""
    spelled = file.path.parent / ".." / file.path.parent.name / file.path.name
    other = db.Database(Settings(url=f"sqlite:///{spelled}"), name="other")
    with db.begin() as tx:
        tx.execute(INSERT, {"n": 1})
        with pytest.raises(db.ConfigurationError, match=r"^database 'other': .* the same file"), other.begin():
            pass
    with other.begin() as tx:
        tx.execute(INSERT, {"n": 2})
        assert file.rows() == [1]
    other.dispose()


@pytest.mark.usefixtures("memory")
def test_ddl_is_of_the_transaction() -> None:
    """sqlite3's own handling would have committed at CREATE TABLE."""
    with pytest.raises(KeyError), db.begin() as tx:
        tx.execute(INSERT, {"n": 1})
        tx.execute(text("CREATE TABLE gone (n int)"))
        raise KeyError
    assert db.reflect().tables.keys() == {"ledger"}
    assert File.rows() == []


@pytest.mark.usefixtures("memory")
def test_a_transaction_in_which_a_statement_failed_commits_nothing() -> None:
    """SQLite itself would commit the rest, and a test of code that swallows an error would pass."""
    with pytest.raises(exc.PendingRollbackError), db.begin() as tx:
        tx.execute(INSERT, {"n": 1})
        with pytest.raises(exc.IntegrityError):
            tx.execute(INSERT, {"n": 1})
        with pytest.raises(exc.OperationalError, match="transaction is aborted") as aborted:
            tx.execute(ALL)
        assert db.sqlstate(aborted.value) == "25P02"
    assert File.rows() == []


@pytest.mark.usefixtures("memory")
def test_a_savepoint_undoes_what_failed_in_it() -> None:
    """And the rest commits."""
    with db.begin() as tx:
        tx.execute(INSERT, {"n": 1})
        with pytest.raises(exc.IntegrityError), tx.begin_nested():
            tx.execute(INSERT, {"n": 2})
            tx.execute(INSERT, {"n": 1})
        with tx.begin_nested():
            tx.execute(INSERT, {"n": 3})
    assert File.rows() == [1, 3]


@pytest.mark.usefixtures("memory")
def test_what_follows_an_end_by_sql_is_not_committed_by_itself() -> None:
    """Without a transaction each statement would be one."""
    with pytest.raises(exc.OperationalError, match="has ended within its block"), db.begin() as tx:
        tx.execute(text("ROLLBACK"))
        tx.execute(INSERT, {"n": 1})
    assert File.rows() == []


@pytest.mark.usefixtures("memory")
def test_foreign_keys_hold_and_deferred_ones_at_commit() -> None:
    """A refused COMMIT is known to be none; in a batch, each record is then checked by itself."""
    with db.begin() as tx:
        tx.execute(text("CREATE TABLE line (n int REFERENCES ledger DEFERRABLE INITIALLY DEFERRED)"))
    add = text("INSERT INTO line VALUES (:n)")
    with pytest.raises(exc.IntegrityError) as refused, db.begin() as tx:
        tx.execute(add, {"n": 1})
    assert state_of(refused) == ("23503", db.Verdict.GIVE_UP)
    with db.begin() as tx:
        tx.execute(INSERT, {"n": 1})
    event = {"Records": [{"messageId": n, "body": n, "eventSource": "aws:sqs"} for n in ("1", "2", "1b")]}

    def handle(tx: Connection, record: SQSRecord) -> None:
        tx.execute(add, {"n": int(record.body[0])})

    answer = db.batch(event, handle)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "2"}]}


def test_of_two_that_come_with_one_key_one_works_and_the_other_waits(file: File) -> None:
    """As at the row on PostgreSQL: the second reads what the first has stored."""
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    from db.migrations.operations import create_once_table

    with db.begin() as tx:
        create_once_table(Operations(MigrationContext.configure(tx)), used_by=[])
    started, done, results = threading.Event(), [], []

    def work(tx: Any) -> str:
        started.set()
        tx.execute(INSERT, {"n": 1})
        done.append(1)
        return "done"

    def come() -> None:
        results.append(db.once("key").run(work))

    threads = [threading.Thread(target=come) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (results, done, file.rows()) == (["done", "done"], [1], [1])


@pytest.mark.usefixtures("memory")
def test_unchecked_tenants_have_keys_of_their_own_and_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They see every row, which is said once; what is done once is done once for each."""
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    from db.migrations.operations import create_once_table, enable_tenant_rls

    monkeypatch.setattr(log, "_said_to_be_unchecked", set())
    db.configure(Settings(url="sqlite://", sqlite_tenants="unchecked", tenant_required=True))
    with db.begin(tenant="acme") as tx:
        op = Operations(MigrationContext.configure(tx))
        create_once_table(op, used_by=["app"], purged_by="report")
        tx.execute(text("CREATE TABLE owned (tenant_id text)"))
        enable_tenant_rls(op, "owned")
    for tenant in ("acme", "globex", "acme"):
        db.once("key", tenant=tenant).run(lambda tx: tx.execute(text("INSERT INTO owned VALUES ('x')")).rowcount)
    with db.read(tenant="globex") as conn:
        assert conn.execute(text("SELECT count(*) FROM owned")).scalar_one() == 2
    assert [record.getMessage().partition(":")[0] for record in caplog.records if "apart" in record.getMessage()] == [
        "tenants are not kept apart"
    ]
    with pytest.raises(db.TenantError), db.begin():
        pass


@pytest.mark.parametrize(
    ("url", "statement", "state"),
    [
        ("sqlite:///{}/none/a.db", "SELECT 1", "58P01"),
        ("sqlite:///{}/text.db", "SELECT * FROM sqlite_master", "XX001"),
        ("sqlite:///file:{}/a.db?mode=ro&uri=true", "CREATE TABLE made (n int)", "42501"),
        ("sqlite:///{}/a.db", "INSERT INTO filled VALUES (zeroblob(100000))", "53100"),
        ("sqlite:///{}/a.db", "INSERT INTO filled (none) VALUES (1)", "42703"),
        ("sqlite:///{}/a.db", "SELECT * FROM none", "42P01"),
        ("sqlite:///{}/a.db", "SELEC", "42601"),
        ("sqlite:///{}/a.db", "INSERT INTO filled VALUES (NULL)", "23502"),
        ("sqlite:///{}/a.db", "INSERT INTO filled VALUES ('')", "23514"),
    ],
)
def test_its_errors_have_the_names_that_postgresql_has(url: str, statement: str, state: str, tmp_path: Path) -> None:
    """Trying again would mend none of these."""
    with sqlite3.connect(tmp_path / "a.db") as prepared:
        prepared.execute("CREATE TABLE filled (body NOT NULL CHECK (body <> ''))")
    prepared.close()
    (tmp_path / "text.db").write_text("no database at all, and long enough for a header of one" * 20)
    db.configure(Settings(url=url.format(tmp_path)))
    with pytest.raises(exc.DBAPIError) as refused, db.begin() as tx:
        tx.execute(text("PRAGMA max_page_count = 4"))
        tx.execute(text(statement))
    assert state_of(refused) == (state, db.Verdict.GIVE_UP)
    db.dispose()
    process.DEFAULT._runtime = None


def test_further_arguments_of_the_driver_are_given_to_it(tmp_path: Path) -> None:
    """DB_CONNECT_ARGS holds on SQLite, too, but for what makes transactions what they are."""
    sqlite3.register_converter("LOUD", lambda given: given.decode().upper())
    url = f"sqlite:///{tmp_path}/a.db"
    db.configure(Settings(url=url, connect_args={"detect_types": sqlite3.PARSE_DECLTYPES}))
    with db.begin() as tx:
        tx.execute(text("CREATE TABLE said (word LOUD)"))
        tx.execute(text("INSERT INTO said VALUES ('a')"))
        assert tx.execute(text("SELECT word FROM said")).scalar_one() == "A"
    db.configure(Settings(url=url, connect_args={"isolation_level": "DEFERRED"}))
    with pytest.raises(db.ConfigurationError, match="isolation_level, which is the layer's own"), db.begin() as tx:
        tx.execute(ALL)
    db.dispose()
    process.DEFAULT._runtime = None
