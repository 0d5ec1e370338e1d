"""What the text of a statement tells on MySQL: what may share a packet, and where a second statement may hide."""

from __future__ import annotations

import pytest

from db.wire.mysql_text import kind_of, may_be_several


@pytest.mark.parametrize(
    ("text", "rides", "reads", "commits", "ends"),
    [
        ("SELECT 1", True, True, False, False),
        (" -- why\n (select 1)", True, True, False, False),
        ("/* a */ # b\n SELECT 1", True, True, False, False),
        ("WITH a AS (SELECT 1) SELECT * FROM a", True, True, False, False),
        ("WITH a AS (SELECT 1) DELETE FROM b", True, False, False, False),
        ("insert into a values (1)", True, False, False, False),
        ("CALL p()", False, False, False, False),
        ("CREATE TABLE a (n int)", False, False, True, False),
        ("CREATE TEMPORARY TABLE a (n int)", False, False, False, False),
        ("CREATE OR REPLACE TEMPORARY TABLE a (n int)", False, False, False, False),
        ("DROP TEMPORARY TABLE a", False, False, False, False),
        ("TRUNCATE a", False, False, True, False),
        ("ANALYZE TABLE a", False, False, True, False),
        ("ANALYZE SELECT 1", False, False, False, False),
        ("/*! COMMIT */", False, False, False, True),
        ("/*M!100100 CREATE TABLE a (n int) */", False, False, True, False),
        ("/*!99999 SELECT 1 */ DELETE FROM a", False, False, False, False),
        ("--\nCOMMIT", False, False, False, True),
        ("START/* a */TRANSACTION", False, False, False, True),
        ("CREATE/**/TEMPORARY TABLE a (n int)", False, False, False, False),
        ("SET STATEMENT a='for', b=1 FOR TRUNCATE a", False, False, True, False),
        ("SET STATEMENT a=1 FOR SELECT 1", False, True, False, False),
        ("SET PASSWORD = 'a'", False, False, True, False),
        ("COMMIT", False, False, False, True),
        ("ROLLBACK WORK", False, False, False, True),
        ("ROLLBACK TO SAVEPOINT a", False, False, False, False),
        ("BEGIN NOT ATOMIC SELECT 1; END", False, False, False, False),
        ("START SLAVE", False, False, False, False),
        ("set @@session.autocommit = 1", False, False, False, True),
        ("LOCK TABLES a READ", False, False, True, True),
    ],
)
def test_how_a_statement_travels(text: str, rides: bool, reads: bool, commits: bool, ends: bool) -> None:
    """By its first words, behind what is no part of it."""
    kind = kind_of(text.encode())
    assert (kind.rides, kind.reads, kind.commits, kind.ends) == (rides, reads, commits, ends)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("SET SESSION sql_mode = ''", "SET"),
        ("set names latin1", "SET"),
        ("SET SESSION TRANSACTION READ ONLY", "SET SESSION TRANSACTION"),
        ("SET TRANSACTION READ ONLY", "SET TRANSACTION"),
        ("SET STATEMENT a=1 FOR SELECT GET_LOCK('a', 1)", "a lock of GET_LOCK"),
        ("SET GLOBAL a = 1, SESSION b = 2", "SET"),
        ("FLUSH TABLES a WITH READ LOCK", "FLUSH TABLES WITH READ LOCK"),
        ("FLUSH TABLES", None),
        ("BACKUP LOCK a", "BACKUP"),
        ("CALL a(@b)", "a user variable"),
        ("CALL a('me')", None),
        ("SELECT @`a` := 1", "a user variable"),
        ("SET STATEMENT max_statement_time=1 FOR SELECT 1", None),
        ("SET GLOBAL max_connections = 1", None),
        ("SELECT get_lock('a', 1)", "a lock of GET_LOCK"),
        ("SELECT @a := 1", "a user variable"),
        ("SELECT n INTO @a FROM b", "a user variable"),
        ("USE other", "USE"),
        ("PREPARE a FROM 'SELECT 1'", "PREPARE"),
        ("CREATE OR REPLACE TEMPORARY TABLE a (n int)", "a temporary table"),
        ("SELECT 'me@example.com'", None),
    ],
)
def test_what_a_statement_leaves_on_the_session(text: str, left: str | None) -> None:
    """A connection on which something was left is nobody else's."""
    assert kind_of(text.encode()).leaves == left


@pytest.mark.parametrize(
    ("text", "backslashes", "several"),
    [
        ("SELECT 1", True, False),
        ("SELECT 1;", True, True),
        ("SELECT 1; DROP TABLE a", True, True),
        ("SELECT 'a;b', \"c;d\", `e;f`", True, False),
        (r"SELECT 'a\';b'", True, False),
        (r"SELECT 'a\'; DROP TABLE b -- '", False, True),
        ("SELECT 'a''; b'", True, False),
        (r'SELECT "a\"; DROP TABLE b -- "', True, True),
        ("SELECT 'a' -- ';\n; DROP TABLE b", True, True),
        ("SELECT 1 # '\n; DROP TABLE b -- '", True, True),
        ("SELECT /* ' */ 1; DROP TABLE b /* ' */", True, True),
        ("SELECT 1 /*! ; DROP TABLE b */", True, True),
        ("SELECT 'never ends; DROP TABLE b", True, True),
        ("SELECT `a`; DROP TABLE b", True, True),
    ],
)
def test_where_a_second_statement_may_hide(text: str, backslashes: bool, several: bool) -> None:
    """Whatever is not plainly within a text or a name counts as one."""
    assert may_be_several(text.encode(), backslashes=backslashes) is several
