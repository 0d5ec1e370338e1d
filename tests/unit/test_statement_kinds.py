"""What the text of a statement tells: how it travels, and what it does to transaction and session."""

from __future__ import annotations

import pytest

from db.wire.statement_kinds import kind_of

SHARE = [
    "SELECT 1",
    "select 1",
    "SELECT 1;",
    "\n  INSERT INTO t VALUES (1)",
    "((SELECT 1) UNION SELECT 2)",
    "WITH x AS (SELECT 1) SELECT * FROM x",
    "COPYRIGHT",  # a word that only begins like one
    "CREATE TABLE t (n int)",
    "EXPLAIN SELECT 1",
    "SELECT '$', '$a'",
    "/* why */ SELECT 1",
    "-- why\nSELECT 1",
    "-- a\n\n /* b * / ** */ -- c\n ( SELECT 1)",
]
STAND_APART = [
    "",
    "  \n",
    "(",
    ";",
    "COPY t FROM STDIN",
    "\tcopy t TO STDOUT",
    "(COPY t TO STDOUT",
    "-- why\nCOPY t TO STDOUT",
    "BEGIN",
    "START TRANSACTION",
    "COMMIT",
    "commit AND CHAIN",
    "END",
    "ROLLBACK",
    "ABORT",
    "PREPARE TRANSACTION 'x'",
    "/* of /* two */ depths */ SELECT 1",  # not worth a parser
    "-- nothing but a comment",
    "SELECT 1; SELECT 2",
    "SELECT ';'",  # likewise
    "SELECT $1",
]


def shares(text: str, *, has_params: bool) -> bool:
    kind = kind_of(text)
    return not kind.stands_apart and (has_params or kind.is_single)


@pytest.mark.parametrize("text", SHARE)
def test_a_single_statement_shares(text: str) -> None:
    """With parameters or without."""
    assert shares(text, has_params=False)
    assert shares(text, has_params=True)


@pytest.mark.parametrize("text", STAND_APART)
def test_what_could_be_several_or_ends_the_transaction_or_breaks_a_pipeline_stands_apart(text: str) -> None:
    """In doubt it costs a trip."""
    assert not shares(text, has_params=False)


def test_a_parameter_proves_that_a_text_is_one_statement() -> None:
    """The server takes no second one with them, so a semicolon is part of a string."""
    assert shares("SELECT ';', %s", has_params=True)
    assert not shares("COPY t FROM %s", has_params=True)


@pytest.mark.parametrize(
    "text",
    [
        "SET LOCAL ROLE auditor",
        "set local work_mem = '1MB'",
        "SET CONSTRAINTS ALL DEFERRED",
        "SELECT set_config('a.b', %s, true)",
        "SELECT PG_ADVISORY_XACT_LOCK(1)",
        "SELECT pg_try_advisory_xact_lock_shared(1)",
        "SELECT pg_export_snapshot()",
        "LOCK TABLE t",
        "/* why */ DECLARE c CURSOR FOR SELECT 1",
        "BEGIN",
        "SELECT 1; SET LOCAL work_mem = '1MB'",
        "SET work_mem = '1MB'; SELECT 1",
        "SET TRANSACTION READ WRITE",
    ],
)
def test_what_holds_for_the_rest_of_a_transaction(text: str) -> None:
    """So that a read has to have one."""
    assert kind_of(text).holds


@pytest.mark.parametrize("text", ["SELECT 1", "SET work_mem = '1MB'", "SHOW work_mem", "SELECT * FROM settings"])
def test_what_does_not(text: str) -> None:
    """A read stays without."""
    assert not kind_of(text).holds


@pytest.mark.parametrize(
    ("text", "sets"),
    [
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", True),
        ("-- why\nset local transaction read only", True),
        ("SET TRANSACTION SNAPSHOT '1'", True),
        ("SET transaction_isolation = 'serializable'", True),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", False),
        ("SET default_transaction_isolation = 'serializable'", False),
        ("SET TRANSACTION READ ONLY; SELECT 1", False),
    ],
)
def test_what_has_to_come_before_the_first_query(text: str, *, sets: bool) -> None:
    """It can wait for the flight that opens the transaction."""
    assert kind_of(text).sets_modes == sets


@pytest.mark.parametrize(
    ("text", "ends", "commits"),
    [
        ("COMMIT", True, True),
        ("end", True, True),
        ("/* why */ COMMIT AND CHAIN", True, True),
        ("PREPARE TRANSACTION 'x'", True, True),
        ("INSERT INTO t VALUES (1); COMMIT", True, True),
        ("ROLLBACK", True, False),
        ("ABORT", True, False),
        ("ROLLBACK TO SAVEPOINT a", False, False),
        ("PREPARE x AS SELECT 1", False, False),
        ("SELECT 'COMMIT'", False, False),
        ("SELECT commit FROM t", False, False),
        ("ROLLBACK WORK TO a", False, False),
        ("ROLLBACK TRANSACTION", True, False),
        ("SELECT 1; -- done\nCOMMIT", True, True),
        ("DO $$ BEGIN PERFORM 1; END $$", False, False),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $f$ BEGIN RETURN 1; END $f$", False, False),
        ("CREATE PROCEDURE p() BEGIN ATOMIC SELECT 1; END", False, False),
        ("SELECT '; COMMIT' -- ; COMMIT", False, False),
        ("DO $$ BEGIN PERFORM 1; END $$; COMMIT", True, True),
    ],
)
def test_what_ends_a_transaction(text: str, *, ends: bool, commits: bool) -> None:
    """And what may commit it."""
    assert (kind_of(text).ends, kind_of(text).commits) == (ends, commits)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("SET work_mem = '1MB'", "SET"),
        ("-- why\nset search_path to a", "SET"),
        ("SET ROLE auditor", "SET ROLE"),
        ("SET SESSION AUTHORIZATION auditor", "SET"),
        ("LISTEN jobs", "LISTEN"),
        ("PREPARE x AS SELECT 1", "PREPARE"),
        ("DEALLOCATE ALL", "DEALLOCATE"),
        ("LOAD 'auto_explain'", "LOAD"),
        ("SELECT pg_advisory_lock(1)", "a session advisory lock"),
        ("SELECT pg_try_advisory_lock_shared(1)", "a session advisory lock"),
        ("SELECT set_config('a.b', 'c', false)", "set_config for the session"),
        ("SELECT set_config('a.b', 'c', 'f')", "set_config for the session"),
        ("SELECT set_config('a.b', 'c', 1 = 2), set_config('a.b', 'c', true)", "set_config for the session"),
        ("DO $$ BEGIN SET a.b = 1; END $$", "SET"),
        ("UPDATE pg_settings SET setting = '1'", "SET"),
        ("CREATE TEMP TABLE t (n int)", "a temporary table"),
        ("create or replace local temporary view v AS SELECT 1", "a temporary table"),
        ("CREATE TABLE pg_temp.t (n int)", "a temporary table"),
        ("CREATE UNLOGGED TABLE IF NOT EXISTS pg_temp.t (n int)", "a temporary table"),
        ("SELECT * INTO TEMP t FROM u", "a temporary table"),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "a cursor WITH HOLD"),
        ("SELECT 1; SET work_mem = '1MB'", "SET"),
        ("SELECT 1; LISTEN jobs", "LISTEN"),
        ("SET a = 1; SET b TO DEFAULT", "SET"),
        ("SET work_mem = 'default'", "SET"),
    ],
)
def test_what_is_left_on_the_session(text: str, left: str) -> None:
    """By the name that the warning has for it."""
    assert kind_of(text).leaves == left


@pytest.mark.parametrize(
    "text",
    [
        "SET LOCAL work_mem = '1MB'",
        "SET TRANSACTION READ ONLY",
        "SET CONSTRAINTS ALL IMMEDIATE",
        "SELECT set_config('a.b', 'c', true)",
        "SELECT set_config('a.b', %(value)s, TRUE)",
        "SELECT set_config('a.b', $1, $2::BOOLEAN), set_config('a.c', $3, 'on')",
        "SELECT proname FROM pg_proc WHERE proname = 'set_config'",
        "DO $$ BEGIN SET LOCAL a.b = 1; END $$",
        "SELECT pg_advisory_xact_lock(1)",
        "CREATE TEMP TABLE t (n int) ON COMMIT DROP",
        "PREPARE TRANSACTION 'x'",
        "DECLARE c CURSOR FOR SELECT 1",
        "INSERT INTO temp SELECT 1",
        "INSERT INTO temp (n) VALUES (1)",
        "CREATE TABLE t AS SELECT * FROM temp",
        "UPDATE t SET n = 1",
        "SELECT 1 FROM sets",
        "RESET ALL",
        "SET work_mem TO DEFAULT",
        "set session search_path=default;",
        "SET SESSION AUTHORIZATION DEFAULT",
    ],
)
def test_what_is_not(text: str) -> None:
    """It ends with its transaction, or only looks like one that does not."""
    assert kind_of(text).leaves is None


def test_a_long_text_is_read_anew_each_time() -> None:
    """It is not kept in memory for as long as the environment lives."""
    long = f"INSERT INTO t VALUES {', '.join(['(1)'] * 3000)}"
    assert kind_of(long) is not kind_of(long)
    assert kind_of("SELECT 1") is kind_of("SELECT 1")
