"""What is built of units of work, on MariaDB: once, batch, copy_rows, fetch, reflect; and migrations."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import JSON, Column, Integer, MetaData, String, Table, exc, select, text

import db
from db import migrations
from db.migrations.operations import create_once_table
from db.wire import orjson_codec

from .conftest import add, numbers

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.network.faults import Lost
    from devkit.network.mysql_statements import MySqlWire
    from devkit.plugin import Database
    from devkit.servers.mariadb import MariaDb

    from .conftest import Use

INSERT = text("INSERT INTO ledger (n) VALUES (:n)")
LEDGER = Table("ledger", MetaData(), Column("n", Integer, primary_key=True), Column("note", String(5)))


def test_json_is_read_by_orjson_and_written_as_before(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    """With DB_JSON=orjson. MariaDB compares a document by its text."""
    found: list[str] = []

    def loads(stored: str) -> Any:
        found.append(stored)
        return json.loads(stored)

    monkeypatch.setattr(orjson_codec, "loads", loads)
    use(role="owner", json="orjson")
    table = Table("documents", MetaData(), Column("n", Integer, primary_key=True), Column("body", JSON))
    with db.begin() as tx:
        table.create(tx)
        tx.execute(table.insert(), {"n": 1, "body": {"a": [2**70, 2]}})
        tx.execute(text("""INSERT INTO documents VALUES (2, '{"a": [1, 2]}')"""))
        assert tx.execute(select(table).where(table.c.body == {"a": [1, 2]})).one() == (2, {"a": [1, 2]})
        assert tx.scalars(select(table.c.body).where(table.c.n == 1)).one() == {"a": [2**70, 2]}
    assert len(found) == 2


@pytest.fixture
def _once_table(ledger: None, use: Use, mariadb_database: Database) -> None:
    use(role="owner")
    with db.begin() as tx:
        operations = Operations(MigrationContext.configure(tx))
        create_once_table(operations, used_by=[mariadb_database.app], purged_by=mariadb_database.app)
    use()


def record(number: int) -> dict[str, Any]:
    return {
        "messageId": f"m{number}",
        "receiptHandle": "r",
        "body": str(number),
        "attributes": {},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-central-1:1:q",
        "awsRegion": "eu-central-1",
        "md5OfBody": "",
    }


def failed(answer: Any) -> list[str]:
    return [one["itemIdentifier"] for one in answer["batchItemFailures"]]


@pytest.mark.usefixtures("_once_table")
def test_work_is_done_once_for_a_key(wire: MySqlWire) -> None:
    """Keys are compared as they are; a COMMIT whose answer is lost is looked for, and not done twice."""

    def work(tx: Any, n: int) -> dict[str, int]:
        tx.execute(INSERT, {"n": n})
        return {"n": n}

    assert [db.once("key").run(work, 1), db.once("key").run(work, 2)] == [{"n": 1}, {"n": 1}]
    assert [db.once("KEY").run(work, 3), db.once("key ").run(work, 4), db.once("kéy").run(work, 5)] == [
        {"n": 3},
        {"n": 4},
        {"n": 5},
    ]
    losses: tuple[Lost, ...] = ("request", "answer")
    for lost in losses:
        cut = wire.cut_at(4, lost=lost)
        n = len(numbers()) + 10
        assert db.once(f"cut {lost}").run(work, n) == {"n": n}
        assert cut.fired
        assert n in numbers()
    with pytest.raises(db.KeyReusedError), db.once("key", payload="another"):
        pass


@pytest.mark.usefixtures("_once_table")
def test_a_duplicate_waits_for_the_first_and_takes_its_result(use: Use) -> None:
    """The unique key is the lock; a snapshot that was taken before does not hide what has been committed."""
    use(pool_size=2)
    found: list[Any] = []
    entered, waiting = threading.Event(), threading.Event()

    def second() -> None:
        with db.begin() as tx:
            tx.execute(text("SELECT count(*) FROM ledger")).scalar()
            waiting.set()
            found.append(db.once("key", tx=tx).run(lambda _: "second"))

    def first(tx: Any) -> str:
        tx.execute(INSERT, {"n": 1})
        thread.start()
        waiting.wait(5)
        entered.wait(0.2)
        return "first"

    thread = threading.Thread(target=second)
    assert db.once("key").run(first) == "first"
    thread.join()
    assert found == ["first"]


@pytest.mark.usefixtures("_once_table")
def test_what_has_expired_is_new_again_and_is_purged(mariadb: MariaDb, mariadb_database: Database) -> None:
    """A result of any length is kept whole."""
    long = "x" * 100_000
    assert db.once("key").run(lambda _: long) == long
    mariadb.execute("UPDATE db_once SET expires_at = '2001-01-01'", database=mariadb_database.name)
    assert db.once("key").run(lambda _: "anew") == "anew"
    mariadb.execute("UPDATE db_once SET expires_at = '2001-01-01'", database=mariadb_database.name)
    assert db.purge_once() == 1


@pytest.mark.usefixtures("ledger")
def test_a_record_that_fails_takes_no_other_along(wire: MySqlWire) -> None:
    """Each has a savepoint, which costs no trip of its own."""
    numbers()
    before = wire.counts()

    def handle(tx: Any, one: Any) -> None:
        tx.execute(INSERT, {"n": one.json_body})
        if one.json_body == 2:
            raise KeyError

    assert failed(db.batch({"Records": [record(n) for n in (1, 2, 3)]}, handle)) == ["m2"]
    assert numbers() == [1, 3]
    assert (wire.counts() - before).trips == 3 + 1 + 1  # the records, COMMIT, and the read


@pytest.mark.usefixtures("ledger")
def test_a_lock_that_is_not_had_fails_its_record_alone(use: Use) -> None:
    """The server undoes that statement, and nothing of its neighbours."""
    use(lock_timeout_s=1.0, pool_size=2)
    add(2)
    with db.begin() as other:
        other.execute(text("UPDATE ledger SET note = 'a' WHERE n = 2"))
        statement = text("INSERT INTO ledger (n) VALUES (:n) ON DUPLICATE KEY UPDATE note = 'b'")

        def handle(tx: Any, one: Any) -> None:
            tx.execute(statement, {"n": one.json_body})

        answer = db.batch({"Records": [record(n) for n in (1, 2, 3)]}, handle)
    assert failed(answer) == ["m2"]
    assert numbers() == [1, 2, 3]


@pytest.mark.usefixtures("ledger")
def test_a_deadlock_runs_the_whole_batch_again(use: Use) -> None:
    """The server has undone the records before it, too: left as it is, they would be reported done and be gone."""
    use(pool_size=2)
    for n in (1, 2):
        add(n)
    waits, thread = threading.Event(), None
    runs: list[int] = []

    def other() -> None:
        with db.begin() as tx:
            tx.execute(INSERT, [{"n": n} for n in range(100, 200)])  # more than the batch has: that one is ended
            tx.execute(text("UPDATE ledger SET note = 'b' WHERE n = 2"))
            waits.set()
            tx.execute(text("UPDATE ledger SET note = 'b' WHERE n = 1"))

    def handle(tx: Any, one: Any) -> None:
        nonlocal thread
        runs.append(one.json_body)
        if one.json_body == 3:
            tx.execute(INSERT, {"n": 3})
            return
        tx.execute(text("UPDATE ledger SET note = 'a' WHERE n = :n"), {"n": one.json_body})
        if thread is None:
            thread = threading.Thread(target=other)
            thread.start()
            waits.wait(5)

    assert failed(db.batch({"Records": [record(n) for n in (3, 1, 2)]}, handle)) == []
    assert thread is not None
    thread.join()
    assert runs == [3, 1, 2, 3, 1, 2]
    assert set(numbers()) == {1, 2, 3, *range(100, 200)}


@pytest.mark.usefixtures("ledger")
def test_rows_are_copied_many_at_a_time(wire: MySqlWire) -> None:
    """As one INSERT of many rows, by a table or by its name; all or none."""
    numbers()
    before = wire.counts()
    assert db.copy_rows(LEDGER, ((n, "x") for n in range(1000))) == 1000
    assert (wire.counts() - before).trips == 2
    assert db.copy_rows("ledger", [{"n": 1000, "note": "100%"}]) == 1
    with pytest.raises(exc.IntegrityError):
        db.copy_rows(LEDGER, [(1001, None), (1, None)])
    assert len(numbers()) == 1001


@pytest.mark.usefixtures("ledger")
def test_reads_are_fetched_from_one_snapshot() -> None:
    """One after another, in one transaction."""
    add(1)
    first, second = db.fetch(text("SELECT n FROM ledger"), text("SELECT count(*) FROM ledger"))
    assert (first.all(), second.scalar()) == ([(1,)], 1)
    assert set(db.reflect().tables) == {"ledger"}


def revision(folder: Path, name: str, down: str | None, body: str) -> None:
    lines = [f"revision = {name!r}", f"down_revision = {down!r}", "from alembic import op", "def upgrade():"]
    (folder / f"{name}.py").write_text("\n".join([*lines, *(f"    {line}" for line in body.splitlines())]))


def test_a_migration_that_fails_leaves_what_its_steps_have_done(use: Use, tmp_path: Path) -> None:
    """DDL commits at once: the steps before it are recorded, and the half that ran of its own is there."""
    use(role="owner")
    revision(tmp_path, "a1", None, 'op.execute("CREATE TABLE made (n int)")\nop.execute("INSERT INTO made VALUES (1)")')
    revision(tmp_path, "a2", "a1", 'op.execute("CREATE TABLE half (n int)")\nop.execute("CREATE TABLE half (n int)")')
    with pytest.raises(exc.OperationalError, match="already exists"):
        migrations.upgrade(tmp_path)
    assert set(db.reflect().tables) >= {"made", "half"}
    revision(tmp_path, "a2", "a1", 'op.execute("DROP TABLE half")')
    assert migrations.upgrade(tmp_path) == migrations.Upgraded("a1", "a2")
    with db.read() as conn:
        assert conn.execute(text("SELECT n FROM made")).scalars().all() == [1]


def test_migrations_run_one_at_a_time(use: Use, tmp_path: Path) -> None:
    """The second runner waits for the lock, and finds nothing to do. The lock goes with the connection."""
    use(role="owner")
    revision(tmp_path, "a1", None, 'op.execute("CREATE TABLE made (n int)")\nop.execute("SELECT sleep(0.3)")')
    results: list[Any] = []
    runners = [threading.Thread(target=lambda: results.append(migrations.upgrade(tmp_path))) for _ in range(2)]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join()
    assert sorted(result.before or "" for result in results) == ["", "a1"]
    assert [result.after for result in results] == ["a1", "a1"]


@pytest.mark.usefixtures("_once_table")
def test_what_is_done_once_survives_restarts_kills_and_cuts(
    use: Use, mariadb: MariaDb, mariadb_database: Database, wire: MySqlWire
) -> None:
    """Three threads at work, and each piece of it is there exactly once in the end: nothing failed, nothing twice."""
    use(pool_size=3)
    failures: list[BaseException] = []
    begun = threading.Semaphore(0)

    def work(thread: int) -> None:
        for number in range(thread * 20, thread * 20 + 20):
            begun.release()
            try:
                db.once(f"piece {number}").run(lambda tx, n: tx.execute(INSERT, {"n": n}).rowcount, number)
            except BaseException as error:  # noqa: BLE001 - counted
                failures.append(error)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(3)]
    for thread in threads:
        thread.start()
    for trouble in (
        wire.cut,
        lambda: mariadb.terminate(mariadb_database.name),
        lambda: mariadb.restart("fast"),
        wire.cut,
        lambda: mariadb.restart("immediate"),
    ):
        for _ in range(8):
            begun.acquire(timeout=10)
        trouble()
    for thread in threads:
        thread.join()
    assert failures == []
    assert numbers() == list(range(60))


@pytest.mark.usefixtures("ledger")
def test_a_check_as_who_may_not_ask_for_the_table_of_once() -> None:
    """As by grants on single tables: the server does not say then whether there is another."""
    found = {one.subject: one for one in db.check().findings}
    assert found["once"].seen == "the login may use no table db_once: db.once would be refused"
    assert {one.level for one in found.values()} == {"ok", "not applicable"}
