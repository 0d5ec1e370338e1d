"""The lint for RDS Proxy: what pins, what only looks as if it did, and that nothing passes unseen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from devkit.network.pinning import STATEMENT_MAX_BYTES, PinningError, no_pinning, pins

if TYPE_CHECKING:
    from devkit.plugin import Database, MakeWire

PINNING = [
    ("SET statement_timeout = 100", "SET sets a parameter"),
    ("set local search_path to x", "SET sets a parameter"),
    ("SET TRANSACTION READ ONLY", "SET sets a parameter"),
    ("RESET ALL", "RESET resets a parameter"),
    ("BEGIN; SET LOCAL x.y = 1; SELECT 1", "SET sets a parameter"),
    ("/* a /* nested */ comment */ -- and a line\nSET x = 1", "SET sets a parameter"),
    ("SELECT set_config($1, $2, true)", "set_config sets a parameter"),
    ("SELECT pg_catalog . SET_CONFIG ('a.b', 'c', true)", "set_config sets a parameter"),
    ("""SELECT "set_config"('a.b', 'c', true)""", "set_config sets a parameter"),
    ("WITH s AS (SELECT set_config('a.b', 'c', true)) SELECT 1 FROM s", "set_config sets a parameter"),
    ("PREPARE p AS SELECT 1", "PREPARE keeps a prepared statement"),
    ("EXECUTE p", "EXECUTE uses a prepared statement"),
    ("DEALLOCATE ALL", "DEALLOCATE drops a prepared statement"),
    ("DISCARD ALL", "DISCARD discards the session's state"),
    ('DECLARE "c" CURSOR FOR SELECT 1', "DECLARE opens a cursor"),
    ("LISTEN orders", "LISTEN listens on a channel"),
    ("LOAD 'auto_explain'", "LOAD loads a library"),
    ("CREATE TEMP TABLE t (id int)", "it makes a temporary object"),
    ("CREATE LOCAL TEMPORARY TABLE t (id int)", "it makes a temporary object"),
    ("create or replace temp view v AS SELECT 1", "it makes a temporary object"),
    ("CREATE TEMPORARY SEQUENCE s", "it makes a temporary object"),
    ("SELECT 1 INTO TEMP TABLE t", "it makes a temporary object"),
    ("SELECT 1 INTO LOCAL TEMPORARY t", "it makes a temporary object"),
    ("CREATE TABLE pg_temp.t (id int)", "it uses a temporary object"),
    ("SELECT * FROM pg_temp_3.t", "it uses a temporary object"),
    ('DROP TABLE "pg_temp" . t', "it uses a temporary object"),
    ("SELECT * FROM pg_toast_temp_3.pg_toast_1", "it uses a temporary object"),
    ("EXPLAIN ANALYZE EXECUTE p", "EXECUTE uses a prepared statement"),
    ("EXPLAIN (ANALYZE, COSTS OFF) EXECUTE p (1)", "EXECUTE uses a prepared statement"),
    ("explain analyse verbose declare c cursor for select 1", "DECLARE opens a cursor"),
    ("EXPLAIN ANALYZE CREATE TEMP TABLE t AS SELECT 1", "it makes a temporary object"),
    ("EXPLAIN ANALYZE SELECT set_config('a.b', 'c', true)", "set_config sets a parameter"),
    ("CREATE TABLE t AS EXECUTE p", "EXECUTE uses a prepared statement"),
    ("CREATE TABLE IF NOT EXISTS t (a, b) WITH (fillfactor = 70) AS EXECUTE p", "EXECUTE uses a prepared statement"),
    ("EXPLAIN ANALYZE CREATE UNLOGGED TABLE t AS EXECUTE p", "EXECUTE uses a prepared statement"),
    ("SELECT lastval()", "lastval reads what a sequence gave to the session"),
    ("SELECT currval('orders_id_seq')", "currval reads what a sequence gave to the session"),
    ("UPDATE pg_settings SET setting = 'c' WHERE name = 'a.b'", "UPDATE of pg_settings sets a parameter"),
    ('UPDATE ONLY pg_catalog."pg_settings" SET setting = 1', "UPDATE of pg_settings sets a parameter"),
    (r"""SELECT U&"set\005fconfig"('a.b', 'c', true)""", "set_config sets a parameter"),
    ("""SELECT u&"set!005fconfi!+000067" uescape '!' ('a.b', 'c', true)""", "set_config sets a parameter"),
    (r"""CREATE TABLE U&"pg\005ftemp".t (id int)""", "it uses a temporary object"),
    ("SELECT nextval('orders_id_seq')", "nextval moves a sequence"),
    ("SELECT setval('orders_id_seq', 1)", "setval moves a sequence"),
    ("SELECT pg_advisory_lock(1)", "pg_advisory_lock takes a lock of the session"),
    ("SELECT pg_try_advisory_lock_shared(1)", "pg_try_advisory_lock_shared takes a lock of the session"),
    ("SELECT pg_advisory_unlock_all()", "pg_advisory_unlock_all releases the locks of the session"),
]

NOT_PINNING = [
    "",
    " ; ; ",
    "SELECT 1",
    "SHOW statement_timeout",
    "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY",
    "SAVEPOINT s",
    "COMMIT",
    "UPDATE t SET a = 1",
    "INSERT INTO t VALUES (1) ON CONFLICT (id) DO UPDATE SET a = 1",
    "ALTER ROLE app SET statement_timeout = 100",
    "SELECT pg_advisory_xact_lock(1), pg_try_advisory_xact_lock_shared(2)",
    "SELECT app.enter_transaction($1, $2)",
    "SELECT 'set_config(', E'it\\'s; SET x = 1', $$; SET x = 1$$, $a$ $$ nextval(1) $a$",
    "SELECT 'it''s; SET x = 1'",
    "SELECT 1 -- ; SET x = 1",
    "SELECT /* set_config( /* nested */ nextval( */ 1",
    'SELECT "set", "nextval" FROM "temp"',
    'SELECT "; SET x = ""1"',
    "SELECT my_nextval(1), nextval FROM t",
    "CREATE TABLE temp (id int)",
    "INSERT INTO temp VALUES (1)",
    "MERGE INTO temporary USING t ON true WHEN MATCHED THEN DO NOTHING",
    "EXPLAIN (ANALYZE) SELECT 1",
    "EXPLAIN (SELECT 1)",
    "EXPLAIN",
    "CREATE TABLE t AS SELECT 1 AS execute",
    "CREATE TABLE t (a int GENERATED ALWAYS AS (1) STORED)",
    "CREATE CAST (bigint AS execute) WITHOUT FUNCTION",
    "SELECT lastval, currval FROM pg_temperature.t",
    "UPDATE t SET pg_settings = 1",
    r"""SELECT U&"\0073et" FROM t""",
    r"""SELECT U&"set\\005fconfig"(1), U&"set\+ffffffconfig"(1)""",
    "SELECT $1, x$y$ FROM t",
    "SELECT 'unterminated",
    "SELECT /* unterminated",
]


def connect(database: Database, **kwargs: Any) -> psycopg.Connection[Any]:
    defaults = {"autocommit": True, "prepare_threshold": None}
    return psycopg.connect(database.url("owner").replace("+psycopg", ""), **(defaults | kwargs))


@pytest.mark.parametrize(("statement", "reason"), PINNING)
def test_what_pins_is_named(statement: str, reason: str) -> None:
    """By what it does to the session."""
    assert pins(statement) == reason


@pytest.mark.parametrize("statement", NOT_PINNING)
def test_what_only_looks_like_it_does_not(statement: str) -> None:
    """Literals, names, comments; commands that have such a word in them; locks that end with the transaction."""
    assert pins(statement) is None


def test_a_statement_may_have_16_kb() -> None:
    """In bytes as it is sent, parameters not counted."""
    longest = "SELECT 1".ljust(STATEMENT_MAX_BYTES)
    assert (pins(longest), pins(longest + " ")) == (None, "its text has 16,385 bytes, more than 16,384")
    assert pins("SELECT 'é'".ljust(STATEMENT_MAX_BYTES)) is not None


@given(st.text())
def test_nothing_in_quotes_pins(content: str) -> None:
    """Whatever stands there, correctly quoted, as a literal, a name and in a comment."""
    literal = content.replace("'", "''")
    name = content.replace('"', '""')
    comment = content.replace("*", "").replace("/", "")
    assert pins(f"""SELECT '{literal}' AS "{name}" /* {comment} */""") is None


@given(st.text(st.sampled_from("'\"$/*-;eE\\ a1(\n")))
def test_no_text_breaks_it(statement: str) -> None:
    """Also such that is no SQL."""
    pins(f"SELECT {statement}")


def test_a_block_that_pins_fails_with_the_statements(database: Database, wire: MakeWire) -> None:
    """All of them, and only those of the block."""
    watched = wire()
    with connect(database.through(watched)) as connection:
        connection.execute("SET geqo = off")
        with pytest.raises(PinningError) as raised, no_pinning(watched):
            connection.execute("SELECT 1")
            connection.execute("SELECT set_config('a.b', %s, true)", ("secret",))
            connection.execute("LISTEN orders")
    assert str(raised.value).splitlines() == [
        "this pins an RDS Proxy session:",
        "- set_config sets a parameter: SELECT set_config('a.b', $1, true)",
        "- LISTEN listens on a channel: LISTEN orders",
    ]


def test_it_sees_what_sqlalchemy_and_psycopg_send(database: Database, wire: MakeWire) -> None:
    """A transaction that pins nothing passes; a server-side cursor is a DECLARE that nobody has written."""
    watched = wire()
    engine = create_engine(database.through(watched).url("owner"))
    with no_pinning(watched), engine.begin() as connection:
        connection.execute(text("SELECT :value"), {"value": 1})
    assert watched.statements()[-3:] == ["BEGIN", "SELECT $1", "COMMIT"]
    with pytest.raises(PinningError, match="DECLARE opens a cursor"), no_pinning(watched), engine.begin() as connection:
        connection.execution_options(stream_results=True).execute(text("SELECT 1")).all()
    engine.dispose()


def test_startup_options_are_refused(database: Database, wire: MakeWire) -> None:
    """The proxy lets nobody in who sends them."""
    watched = wire()
    refused = pytest.raises(PinningError, match="startup options '-c geqo=off'")
    with refused, no_pinning(watched), connect(database.through(watched), options="-c geqo=off") as connection:
        connection.execute("SELECT 1")


def test_prepared_statements_of_the_protocol_pin(database: Database, wire: MakeWire) -> None:
    """AWS's pages disagree about them, so the stricter one holds."""
    watched = wire()
    refused = pytest.raises(PinningError, match="is kept as the prepared statement")
    with connect(database.through(watched), prepare_threshold=0) as connection, refused, no_pinning(watched):
        connection.execute("SELECT 1")


def test_a_block_that_sends_nothing_proves_nothing(database: Database, wire: MakeWire) -> None:
    """Most likely it goes to the database by another way."""
    with pytest.raises(RuntimeError, match="no statement passed"), no_pinning(wire()), connect(database) as connection:
        connection.execute("SELECT 1")


def test_the_blocks_own_error_comes_first(database: Database, wire: MakeWire) -> None:
    """A test that fails otherwise says why."""
    watched = wire()
    fails = pytest.raises(psycopg.errors.UndefinedTable)
    with connect(database.through(watched)) as connection, fails, no_pinning(watched):
        connection.execute("SET geqo = off")
        connection.execute("SELECT * FROM absent")
