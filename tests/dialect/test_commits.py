"""COMMIT is noted wherever it is sent: what has committed is never run again, and what is unknown is said to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, exc, text

import db

from .conftest import insert, queue_of, stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine

    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres

    from .conftest import Use

    Way = Callable[[Connection], object]

pytestmark = pytest.mark.usefixtures("ledger")

# Retried by db.run wherever nothing has been committed.
RETRYABLE = "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$"


def raw_of(tx: Connection) -> Any:
    return tx.connection.driver_connection


def by_sqlalchemy(tx: Connection) -> None:
    tx.commit()


def by_the_driver(tx: Connection) -> None:
    raw_of(tx).commit()


def as_text(tx: Connection) -> None:
    tx.exec_driver_sql("COMMIT")


def as_end(tx: Connection) -> None:
    tx.execute(text("-- that is all\nend work"))


def and_chain(tx: Connection) -> None:
    tx.exec_driver_sql("COMMIT AND CHAIN")


def as_bytes(tx: Connection) -> None:
    raw_of(tx).execute(b"COMMIT")


def among_others(tx: Connection) -> None:
    tx.exec_driver_sql("SELECT 1; COMMIT; SELECT 2")


def in_a_pipeline(tx: Connection) -> None:
    with raw_of(tx).pipeline():
        raw_of(tx).execute("SELECT 1")
        raw_of(tx).commit()


def as_text_in_a_pipeline(tx: Connection) -> None:
    with raw_of(tx).pipeline():
        raw_of(tx).execute("SELECT 1")
        raw_of(tx).execute("COMMIT")


WAYS = [
    by_sqlalchemy,
    by_the_driver,
    as_text,
    as_end,
    and_chain,
    as_bytes,
    among_others,
    in_a_pipeline,
    as_text_in_a_pipeline,
]


@pytest.mark.parametrize("commit", WAYS)
def test_what_has_committed_is_not_run_again(commit: Way, use: Use, stock: Engine) -> None:
    """Whatever fails behind it: here an error that is worth another try elsewhere."""
    use()
    ran: list[int] = []

    def fn(tx: Connection) -> None:
        ran.append(1)
        tx.exec_driver_sql(insert(len(ran)))
        commit(tx)
        raw_of(tx).execute(RETRYABLE)

    with pytest.raises(Exception, match="x") as caught:
        db.run(fn)
    assert not isinstance(caught.value, db.OutcomeUnknownError)
    assert ran == [1]
    assert stored(stock) == [1]


@pytest.mark.parametrize("behind", [RETRYABLE, "COMMIT AND CHAIN; " + RETRYABLE, "CALL keep()"])
def test_what_fails_in_the_same_text_does_not_undo_its_commit(behind: str, use: Use, stock: Engine) -> None:
    """The error is that of another statement, and the unit has committed; a procedure may not, in a transaction."""
    use()
    with stock.begin() as conn:
        conn.exec_driver_sql("CREATE PROCEDURE keep() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$")
    stock.dispose()
    ran: list[int] = []

    def fn(tx: Connection) -> None:
        ran.append(1)
        tx.exec_driver_sql(insert(len(ran)))
        tx.exec_driver_sql(f"COMMIT; {behind}")

    with pytest.raises(exc.DBAPIError):
        db.run(fn)
    assert ran == [1]
    assert stored(stock) == [1]


@pytest.mark.parametrize("commit", WAYS)
def test_a_record_that_committed_has_the_batch_run_once(commit: Way, use: Use, stock: Engine) -> None:
    """All of it is reported: what committed with that record cannot be undone, and the rest is not certain."""
    use()
    ran: list[str] = []

    def handler(tx: Connection, record: Any) -> None:
        ran.append(record.message_id)
        tx.exec_driver_sql(insert(int(record.message_id)))
        if record.message_id == "1":
            commit(tx)
            raw_of(tx).execute(RETRYABLE)

    answer = db.batch(queue_of("1", "2"), handler)
    assert [failure["itemIdentifier"] for failure in answer["batchItemFailures"]] == ["1", "2"]
    assert ran == ["1"]
    assert stored(stock) == [1]


def chained_by_the_driver(tx: Connection) -> None:
    raw_of(tx).execute("COMMIT AND CHAIN")


@pytest.mark.parametrize("chain", [and_chain, chained_by_the_driver])
def test_a_chained_transaction_is_the_units_own(chain: Way, use: Use, stock: Engine) -> None:
    """With its tenant, its limits, and an end of its own."""
    use()
    with pytest.raises(LookupError), db.begin(tenant="acme") as tx:
        tx.exec_driver_sql(insert(1))
        chain(tx)
        shown = tx.exec_driver_sql("SELECT current_setting('app.tenant_id'), current_setting('statement_timeout')")
        assert tuple(shown.one()) == ("acme", "30s")
        tx.exec_driver_sql(insert(2))
        raise LookupError
    assert stored(stock) == [1]


@pytest.mark.parametrize("rollback", ["ROLLBACK AND CHAIN", "ROLLBACK; BEGIN", "abort and chain"])
def test_a_rollback_by_text_commits_nothing_and_forgets_nothing(rollback: str, use: Use, stock: Engine) -> None:
    """And the unit may be run again for what fails behind it."""
    use()
    ran: list[int] = []

    def fn(tx: Connection) -> str:
        ran.append(1)
        tx.exec_driver_sql(insert(len(ran)))
        tx.exec_driver_sql(rollback)
        if len(ran) == 1:
            tx.exec_driver_sql(RETRYABLE)
        tx.exec_driver_sql(insert(10 + len(ran)))
        return str(tx.exec_driver_sql("SELECT current_setting('app.tenant_id')").scalar_one())

    assert db.run(fn, tenant="acme") == "acme"
    assert stored(stock) == [12]


@pytest.mark.parametrize("commit", [as_text, as_end, as_bytes])
def test_the_commit_of_a_failed_transaction_is_a_rollback(commit: Way, use: Use, stock: Engine) -> None:
    """The server says so, and nothing is taken for committed: it is tried again."""
    use()
    ran: list[int] = []

    def fn(tx: Connection) -> None:
        ran.append(1)
        tx.exec_driver_sql(insert(len(ran)))
        if len(ran) == 1:
            with pytest.raises(exc.DataError):
                tx.exec_driver_sql("SELECT 1 / 0")
            commit(tx)
            raw_of(tx).execute(RETRYABLE)

    db.run(fn)
    assert stored(stock) == [2]


def test_a_commit_that_is_refused_is_known(use: Use, stock: Engine) -> None:
    """By text, too: a deferred constraint, after which it is tried as whatever that is."""
    use()
    with stock.begin() as conn:
        conn.exec_driver_sql("ALTER TABLE ledger ADD UNIQUE (note) DEFERRABLE INITIALLY DEFERRED")
    stock.dispose()
    for commit in (by_sqlalchemy, by_the_driver, as_text, in_a_pipeline, as_text_in_a_pipeline):
        with pytest.raises(Exception, match="duplicate key") as caught, db.begin() as tx:
            tx.exec_driver_sql("INSERT INTO ledger VALUES (1, 'x'), (2, 'x')")
            commit(tx)
        assert not isinstance(caught.value, db.OutcomeUnknownError), commit
    assert stored(stock) == []


KILL_AT_COMMIT = """
CREATE FUNCTION vanish() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
    $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()), pg_sleep(10); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER vanish AFTER INSERT ON ledger DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION vanish()
"""


@pytest.mark.parametrize("commit", WAYS)
def test_a_commit_that_met_the_connections_end_is_unknown(
    commit: Way, use: Use, postgres: Postgres, database: Database
) -> None:
    """Whoever sent it, and nothing is run again."""
    use()
    postgres.execute(KILL_AT_COMMIT, database=database.name)
    ran: list[int] = []

    def fn(tx: Connection) -> None:
        ran.append(1)
        tx.exec_driver_sql(insert(1))
        commit(tx)

    with pytest.raises(db.OutcomeUnknownError):
        db.run(fn)
    assert ran == [1]


def test_a_unit_whose_block_raises_behind_its_commit_raises_that(use: Use, stock: Engine) -> None:
    """The block knows what it committed."""
    use()
    with pytest.raises(LookupError), db.begin() as tx:
        tx.exec_driver_sql(insert(1))
        tx.commit()
        raise LookupError
    assert stored(stock) == [1]


def test_what_is_raised_when_the_commit_was_answered_is_not_taken_for_a_failure(use: Use, stock: Engine) -> None:
    """Behind the block all that is certain is that it did not go as it should: here a listener raises at check-in."""
    use()

    @event.listens_for(db.engine(), "checkin")
    def refuse(_connection: object, _record: object) -> None:
        raise LookupError

    with pytest.raises(db.OutcomeUnknownError) as caught, db.begin() as tx:
        tx.exec_driver_sql(insert(1))
    assert isinstance(caught.value.__cause__, LookupError)
    assert stored(stock) == [1]


def test_a_prepared_transaction_is_no_commit(use: Use, stock: Engine) -> None:
    """Not yet: it is undone by whoever has its name."""
    use()
    with db.begin() as tx:
        tx.exec_driver_sql(insert(1))
        tx.exec_driver_sql("PREPARE TRANSACTION 'one'")
    assert stored(stock) == []
    with stock.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.exec_driver_sql("COMMIT PREPARED 'one'")
    assert stored(stock) == [1]


@pytest.mark.parametrize("pool", ["queue", "null"])
def test_an_end_that_came_before_the_commit_is_known(
    pool: str, use: Use, database: Database, postgres: Postgres, stock: Engine
) -> None:
    """The socket says so before anything is sent: nothing is unknown, and run() begins anew."""
    use(pool=pool)
    runs: list[int] = []

    def add(tx: Connection) -> None:
        runs.append(1)
        tx.execute(text("INSERT INTO ledger (n) VALUES (:n)"), {"n": len(runs)})
        if len(runs) == 1:
            assert postgres.terminate(database.name) == 1

    db.run(add)
    assert (len(runs), stored(stock)) == (2, [2])
