"""The lint for RDS Proxy before MySQL: what pins by AWS's list, and what only looks as if it did."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pymysql
import pytest

from devkit.network.mysql_pinning import STATEMENT_MAX_BYTES, pins
from devkit.network.pinning import PinningError, no_pinning

if TYPE_CHECKING:
    from devkit.plugin import Database, MakeMariaDbWire

PINNING = [
    ("SET innodb_lock_wait_timeout = 5", "SET sets innodb_lock_wait_timeout"),
    ("SET SESSION sql_mode = CONCAT(@@sql_mode, ',X'), LOCAL max_statement_time = 1", "SET sets max_statement_time"),
    ("set @@session.lock_wait_timeout=1", "SET sets lock_wait_timeout"),
    ("SET GLOBAL wait_timeout = 60", "SET sets wait_timeout"),
    ("SET @a = 1", "SET sets a user variable"),
    ("SET NAMES utf8mb4, @a = 1", "SET sets a user variable"),
    ("SELECT @a := 1", "it sets a user variable"),
    ("SELECT 1 INTO @a", "it sets a user variable"),
    ("SET TRANSACTION READ ONLY", "SET TRANSACTION is for the next transaction alone"),
    ("SET @@tx_isolation = 'SERIALIZABLE'", "SET @@tx_isolation is for the next transaction alone"),
    ("SET STATEMENT max_statement_time = 1 FOR SELECT 1", "SET STATEMENT sets a variable"),
    ("START TRANSACTION\n;SET SESSION foreign_key_checks = 0", "SET sets foreign_key_checks"),
    ("LOCK TABLES orders WRITE", "LOCK TABLES locks for the session"),
    ("flush tables with read lock", "FLUSH TABLES WITH READ LOCK locks for the session"),
    ("SELECT GET_LOCK('a', 1)", "GET_LOCK takes a lock of the session"),
    ("SELECT found_rows ( )", "FOUND_ROWS reads what the last statement left"),
    ("SELECT LAST_INSERT_ID()", "LAST_INSERT_ID reads what the last statement left"),
    ("CREATE OR REPLACE TEMPORARY TABLE t (n int)", "it makes a temporary table"),
    ("PREPARE p FROM 'SELECT 1'", "PREPARE keeps a prepared statement"),
    ("DROP PREPARE p", "DROP PREPARE drops a prepared statement"),
    ("SELECT /*! SQL_NO_CACHE */ 1", "a comment that the server runs cannot be looked into"),
    ("SELECT /*M!100100 1 */", "a comment that the server runs cannot be looked into"),
    ("INSERT INTO t VALUES ('" + "x" * STATEMENT_MAX_BYTES + "')", "its text has 16,409 bytes, more than 16,384"),
]
FREE = [
    "SET NAMES utf8mb4 COLLATE utf8mb4_bin, SESSION sql_mode = CONCAT(@@sql_mode, ',X'), time_zone = '+00:00'",
    "SET SESSION autocommit = 0, @@session.transaction_read_only = 1",
    "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET CHARACTER SET utf8mb4",
    "START TRANSACTION\n;INSERT INTO t VALUES (1)\n;COMMIT",
    "SELECT @@version, @a",
    'SELECT \'SET @a = 1\', "it\\"s; LOCK TABLES t", `get_lock` /* @a := 1 */ -- SET @a = 1\n# PREPARE p',
    "UPDATE t SET innodb_lock_wait_timeout = 5",
    "CREATE TABLE temporary_things (n int)",
    "USE other",
    "SAVEPOINT a",
    "CALL work(1)",
]


@pytest.mark.parametrize(("statement", "reason"), PINNING, ids=[one[:30] for one, _ in PINNING])
def test_what_pins(statement: str, reason: str) -> None:
    """And why."""
    assert pins(statement) == reason


@pytest.mark.parametrize("statement", FREE)
def test_what_does_not_pin(statement: str) -> None:
    """Variables of which the proxy keeps account, and what is in a text, a comment or a name."""
    assert pins(statement) is None


def test_a_block_is_looked_at_on_the_wire(mariadb_database: Database, mariadb_wire: MakeMariaDbWire) -> None:
    """What the driver sends by itself, too."""
    wire = mariadb_wire()
    database = mariadb_database.through(wire)
    with no_pinning(wire):
        connection = pymysql.connect(
            host=database.host,
            port=database.port,
            user=database.app,
            password=database.app_password,
            ssl_disabled=True,
        )
    with pytest.raises(PinningError, match="SET sets a user variable"), no_pinning(wire):
        connection.query("SET @a = 1")
    with pytest.raises(RuntimeError, match="no statement passed"), no_pinning(wire):
        pass
    connection.close()
