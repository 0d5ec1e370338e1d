"""Under which name a unit of work is shown, and the comment behind its statements."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url

from db.settings import Settings
from db.telemetry.application_name import session_name, unit_name
from db.telemetry.sql_comment import comment, with_comment

REQUEST_ID = "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("orders-api", f"orders-api:{REQUEST_ID}"),
        ("f" * 64, f"{'f' * 26}:{REQUEST_ID}"),
        ("ü" * 20, f"{'ü' * 13}:{REQUEST_ID}"),
        ("x" * 25 + "ü", f"{'x' * 25}:{REQUEST_ID}"),  # half a character is none
    ],
)
def test_a_unit_is_named_by_function_and_request(name: str, shown: str) -> None:
    """In PostgreSQL's 63 bytes, where the request id is kept whole."""
    assert unit_name(name, REQUEST_ID) == shown
    assert len(shown.encode()) <= 63


@given(st.text(), st.text())
def test_any_name_fits(name: str, request_id: str) -> None:
    """Whatever the environment holds."""
    assert len(unit_name(name, request_id).encode()) <= 63


def test_a_session_is_named_by_the_setting_the_url_or_the_function() -> None:
    """In this order."""
    url = "postgresql://u@h/d"
    named = make_url(f"{url}?application_name=url")
    assert session_name(Settings(url=named, application_name="setting", function_name="function")) == "setting"
    assert session_name(Settings(url=named, function_name="function")) == "url"
    assert session_name(Settings(url=make_url(url), function_name="function")) == "function"
    assert session_name(Settings(url=make_url(url))) == "db"


def test_a_comment_has_sorted_encoded_keys_and_values() -> None:
    """As sqlcommenter's own example; what is not known is left out."""
    facts = {"route": "/param first", "action": "o'clock", "trace state": "a=1,b=2", "empty": None}
    assert comment(facts) == " /*action='o%27clock',route='%2Fparam%20first',trace%20state='a%3D1%2Cb%3D2'*/"
    assert comment({"empty": None}) == ""


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1))
def test_no_value_ends_the_comment(value: str) -> None:
    """And each can be read back."""
    body = comment({"k": value}).removeprefix(" /*k='").removesuffix("'*/")
    assert not set(body) & set("'*/;\\\n")
    assert unquote(body) == value


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1 -- mine",
        "SELECT 1 /* mine */",
        "SELECT 1 /* mine",
        "SELECT '--'",
        "SAVEPOINT sa_savepoint_1",
        "RELEASE SAVEPOINT sa_savepoint_1",
        "ROLLBACK TO SAVEPOINT sa_savepoint_1",
    ],
)
def test_a_statement_that_may_have_a_comment_is_left_as_it_is(statement: str) -> None:
    """So are the savepoint commands, which share a flight for being known by their text."""
    assert with_comment(statement, " /*a='b'*/", escaped=False) == statement


def test_a_percent_sign_is_doubled_where_the_driver_would_read_it() -> None:
    """psycopg does with parameters, and does not without."""
    assert with_comment("SELECT 1", " /*a='%2F'*/", escaped=True) == "SELECT 1 /*a='%%2F'*/"
    assert with_comment("SELECT 1", " /*a='%2F'*/", escaped=False) == "SELECT 1 /*a='%2F'*/"
