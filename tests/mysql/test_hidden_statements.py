"""What a text does on MariaDB that its first words do not tell: it ends a transaction, or holds a second statement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import exc, text

import db

from .conftest import add, numbers

if TYPE_CHECKING:
    from devkit.servers.mariadb import MariaDb

    from .conftest import Use

pytestmark = pytest.mark.usefixtures("ledger")
INSERT = text("INSERT INTO ledger (n) VALUES (:n)")


@pytest.mark.parametrize("ends", ["BEGIN NOT ATOMIC COMMIT; END", "EXECUTE IMMEDIATE 'COMMIT'"])
def test_what_ends_the_transaction_unseen_is_said(ends: str) -> None:
    """By the server's word that there is none any more: the block would commit its rest alone."""
    runs = []

    def work(tx: Any) -> None:
        runs.append(1)
        tx.execute(INSERT, {"n": 1})
        tx.exec_driver_sql(ends)

    with pytest.raises(db.ConfigurationError, match="has ended the transaction"):
        db.run(work)
    assert (runs, numbers()) == ([1], [1])
    with db.begin() as tx:
        tx.exec_driver_sql(ends)  # which has nothing to commit, as DDL has not
        tx.execute(INSERT, {"n": 2})
    assert numbers() == [1, 2]


def test_a_unit_that_a_procedure_has_committed_is_not_run_again(use: Use) -> None:
    """What the procedure wrote would be there twice."""
    use(role="owner")
    with db.begin() as tx:
        tx.exec_driver_sql("CREATE PROCEDURE done() BEGIN INSERT INTO ledger (n) VALUES (1); COMMIT; SELECT 1; END")
    runs = []

    def work(tx: Any) -> None:
        runs.append(1)
        tx.exec_driver_sql("CALL done()")
        raise exc.OperationalError("SELECT 1", {}, tx.dialect.loaded_dbapi.err.OperationalError(1213, "as if"))

    with pytest.raises(exc.OperationalError):
        db.run(work)
    assert (runs, numbers()) == ([1], [1])


def test_a_level_holds_behind_ddl(use: Use) -> None:
    """Which has ended the transaction that it was said for."""
    use(role="owner", pool_size=2, lock_timeout_s=1.0)
    add(1)
    with db.begin(isolation="SERIALIZABLE") as tx:
        tx.exec_driver_sql("CREATE TABLE other (n int)")
        tx.execute(text("SELECT n FROM ledger")).all()  # and locks what it has read
        with pytest.raises(exc.OperationalError) as refused, db.begin() as second:
            second.execute(text("UPDATE ledger SET note = 'b'"))
    assert db.sqlstate(refused.value) == "55P03"


@pytest.mark.parametrize(
    ("mode", "setting", "hiding"),
    [
        ("ANSI_QUOTES", "SELECT 1", 'SELECT 1 AS "a\\"; DELETE FROM ledger -- "'),
        ("", "SET NAMES gbk", "SELECT '\u4e2d\\'; DELETE FROM ledger -- '"),
    ],
)
def test_a_backslash_hides_no_second_statement(
    mode: str, setting: str, hiding: str, use: Use, mariadb: MariaDb
) -> None:
    """Where the server takes it for a letter, or for half of one, the text that it seems to go on with has ended."""
    mariadb.execute(f"SET GLOBAL sql_mode = '{mode}'")
    try:
        use()
        add(1)
        with pytest.raises(exc.ProgrammingError) as refused, db.begin() as tx:
            tx.exec_driver_sql(setting)
            tx.exec_driver_sql(hiding)
    finally:
        mariadb.execute("SET GLOBAL sql_mode = DEFAULT")
    assert db.sqlstate(refused.value) == "42601"
    assert numbers() == [1]


@pytest.mark.parametrize("hidden", ["SAVEPOINT a; COMMIT", "ROLLBACK TO a; DELETE FROM ledger; COMMIT"])
def test_a_savepoint_hides_no_second_statement(hidden: str) -> None:
    """It waits for the next packet, which may hold several; a text with a semicolon behind it is refused by itself."""
    add(1)
    with pytest.raises(exc.ProgrammingError, match="1064"), db.begin() as tx:
        tx.execute(INSERT, {"n": 2})
        tx.exec_driver_sql("SAVEPOINT a")
        tx.exec_driver_sql(hidden)
        tx.execute(INSERT, {"n": 3})
    assert numbers() == [1]


def test_set_transaction_is_not_the_next_units() -> None:
    """It would wait for it on a connection that is kept."""
    with db.engine().connect() as conn:
        conn.exec_driver_sql("SET TRANSACTION READ ONLY")
    add(1)
    assert numbers() == [1]
