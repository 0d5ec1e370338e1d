"""Fingerprints: what a statement is, whatever its values."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.telemetry.fingerprint import LONGEST_CHARS, fingerprint

SECRET = "s3cr3t"

TEXTS = [
    # Values of every spelling.
    ("SELECT * FROM t WHERE a = 1 AND b = 'x''y'", "SELECT * FROM t WHERE a = ? AND b = ?"),
    ("SELECT E'a\\'b', B'01', X'1F', U&'d!0061', N'x', date'2020-01-01'", "SELECT ?, ?, ?, ?, ?, date?"),
    ("SELECT $$ a ' b $$, $t$ $$ $t$", "SELECT ?, ?"),
    ("SELECT -1.5e-3, .5, 0xFF, 1_000, a - 5, TRUE", "SELECT -?, ?, ?, ?, a - ?, ?"),
    ("SELECT * FROM t WHERE a=-1", "SELECT * FROM t WHERE a=?"),
    ("SET LOCAL app.tenant_id = acme", "SET LOCAL app.tenant_id = ?"),
    ("SET app.tenant_id=acme", "SET app.tenant_id= ?"),
    ("SELECT 1; SET app.key TO k3y; SELECT 2", "SELECT ?; SET app.key TO ?; SELECT ?"),
    ("ALTER ROLE app SET app.key TO k3y", "ALTER ROLE app SET app.key TO ?"),
    ("ALTER DATABASE d SET app.key=k3y", "ALTER DATABASE d SET app.key= ?"),
    ("UPDATE orders SET total = amount", "UPDATE orders SET total = amount"),
    (
        "INSERT INTO t VALUES (1) ON CONFLICT (n) DO UPDATE SET a = b",
        "INSERT INTO t VALUES (?) ON CONFLICT (n) DO UPDATE SET a = b",
    ),
    # Placeholders of every driver.
    ("SELECT %(a)s::INTEGER, %s, $1, ? , 5 %% 3", "SELECT ?::INTEGER, ?, ?, ?, ? % ?"),
    # What is no value stays.
    ('SELECT "na?me\'s", t1.c2 FROM "T" AS x$1', 'SELECT "na?me\'s", t1.c2 FROM "T" AS x$1'),
    ("SELECT a IS NULL, falsehood FROM trues", "SELECT a IS NULL, falsehood FROM trues"),
    # Comments and spaces.
    ("SELECT 1 -- one\n  /* a /* b */ c */ ,  2 ;", "SELECT ?, ?"),
    ("/* all of it */", ""),
    # Lists of any length.
    ("SELECT * FROM t WHERE a IN (1,2, 3)", "SELECT * FROM t WHERE a IN (...)"),
    ("SELECT * FROM t WHERE a in (%(a_1)s::INTEGER)", "SELECT * FROM t WHERE a IN (...)"),
    ("SELECT * FROM t WHERE (a, b) IN ((1, 2), (3, 4))", "SELECT * FROM t WHERE (a, b) IN (...)"),
    ("SELECT * FROM t WHERE a IN (SELECT b FROM u)", "SELECT * FROM t WHERE a IN (SELECT b FROM u)"),
    ("SELECT * FROM t WHERE a = ANY(ARRAY[1,2]::int[])", "SELECT * FROM t WHERE a = ANY(ARRAY[...]::int[])"),
    ("INSERT INTO t (a, b) VALUES (1, 2), (3, 4)", "INSERT INTO t (a, b) VALUES (?, ?), ..."),
    # What does not end, or may not end where it seems to: a server may be told that a backslash escapes.
    (f"SELECT 'it\\'s {SECRET}' AND b = 'x'", "SELECT ?"),
    (f"SELECT '{SECRET}", "SELECT ?"),
    (f"SELECT $a$ {SECRET} $b$", "SELECT ?"),
    (f'SELECT "{SECRET}', "SELECT ?"),
    (f"SELECT 1 /* {SECRET} /* */", "SELECT ?"),
]


@pytest.mark.parametrize(("statement", "text"), TEXTS, ids=[text[:60] for _, text in TEXTS])
def test_values_placeholders_and_comments_do_not_matter(statement: str, text: str) -> None:
    """Each becomes ``?``, and a list of them an ellipsis."""
    assert fingerprint(statement).text == text


def test_the_same_statement_has_the_same_id_everywhere() -> None:
    """It is looked for in the logs of other processes and other days."""
    program = "from db.telemetry.fingerprint import fingerprint; print(fingerprint('SELECT 2').id)"
    elsewhere = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2] / "src",
    )
    assert fingerprint("SELECT  1").id == elsewhere.stdout.strip()
    assert fingerprint("SELECT 1").id != fingerprint("SELECT a").id


@given(st.text(min_size=1))
def test_no_string_gets_through(value: str) -> None:
    """Quoted as SQL asks, whatever is in it."""
    quoted = value.replace("'", "''")
    # Behind a backslash the rest is not trusted, and goes as well.
    assert fingerprint(f"SELECT '{quoted}'").text == "SELECT ?"


@given(st.text())
def test_any_text_has_a_fingerprint(text: str) -> None:
    """SQL or not."""
    assert len(fingerprint(text).id) == 12


def test_a_long_statement_is_read_up_to_a_bound() -> None:
    """A list of a few thousand keys still collapses; beyond it, nothing is shown."""
    keys = ", ".join(f"%(id_1_{n})s::INTEGER" for n in range(5000))
    assert fingerprint(f"SELECT a FROM t WHERE id IN ({keys})").text == "SELECT a FROM t WHERE id IN (...)"
    assert SECRET not in fingerprint(f"SELECT '{'x' * LONGEST_CHARS} {SECRET}'").text


@pytest.mark.parametrize(
    ("statement", "summary"),
    [
        ("SELECT a FROM shop.orders WHERE b = 1", "SELECT shop.orders"),
        ("insert into orders values (1)", "INSERT orders"),
        ("UPDATE orders SET a = 1", "UPDATE orders"),
        ("DELETE FROM orders", "DELETE orders"),
        ("SELECT 1", "SELECT"),
        ("", ""),
    ],
)
def test_the_summary_names_the_verb_and_the_table(statement: str, summary: str) -> None:
    """Of few different values, as names of spans are to be."""
    assert fingerprint(statement).summary == summary
