"""What a wire reads of PostgreSQL's protocol: literal traces of what psycopg sends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devkit.network.statements import Message, Reader, Startup, Statement, Sync, Unreadable

if TYPE_CHECKING:
    from devkit.plugin import Database, MakeWire

TLS_REQUEST = bytes.fromhex("00000008 04d2162f")
CANCEL_REQUEST = bytes.fromhex("00000010 04d2162e 00000001 00000002")
STARTUP = bytes.fromhex("00000013 00030000") + b"user\0app\0\0\0"
PASSWORD = b"p\0\0\0\x0bsecret\0"
QUERY = b"Q\0\0\0\x0dSELECT 1\0"
PARSE = b"P\0\0\0\x14one\0SELECT $1\0\0\0"
SYNC = b"S\0\0\0\x04"
CONVERSATION = TLS_REQUEST + STARTUP + PASSWORD + QUERY + PARSE + SYNC
READ = [Startup({"user": "app"}), Statement("SELECT 1"), Sync(), Statement("SELECT $1", "one"), Sync()]


def read(*chunks: bytes) -> list[Message]:
    messages: list[Message] = []
    reader = Reader(messages.append)
    for chunk in chunks:
        reader(chunk)
    return messages


def connect(database: Database, **kwargs: Any) -> psycopg.Connection[Any]:
    return psycopg.connect(database.url("owner").replace("+psycopg", ""), **kwargs)


def test_a_wire_hears_what_the_driver_adds(database: Database, wire: MakeWire) -> None:
    """BEGIN and COMMIT are psycopg's own; parameters travel beside the text."""
    listening = wire()
    with connect(database.through(listening)) as connection:
        connection.execute("SELECT 1")
        connection.execute("SELECT %s", ("value",))
    assert listening.statements() == ["BEGIN", "SELECT 1", "SELECT $1", "COMMIT"]


def test_a_wire_hears_startup_parameters_and_names(database: Database, wire: MakeWire) -> None:
    """libpq's ``options`` travel in the first message, a prepared statement's name in Parse."""
    listening = wire()
    login = {"options": "-c geqo=off", "application_name": "orders", "prepare_threshold": 0, "autocommit": True}
    with connect(database.through(listening), **login) as connection:
        connection.execute("SELECT 1")
    startup, statement, *_ = listening.messages()
    assert isinstance(startup, Startup)
    assert isinstance(statement, Statement)
    assert (startup.parameters["options"], startup.parameters["application_name"]) == ("-c geqo=off", "orders")
    assert (statement.text, bool(statement.name)) == ("SELECT 1", True)


def test_a_statement_that_was_cut_off_is_not_heard(database: Database, wire: MakeWire) -> None:
    """The list is of what reached the server."""
    listening = wire()
    with connect(database.through(listening), autocommit=True) as connection:
        listening.cut_at(2, lost="request")
        connection.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 2")
    assert listening.statements() == ["SELECT 1"]


@pytest.mark.parametrize("size", [1, 3, 7, len(CONVERSATION)])
def test_chunks_may_end_anywhere(size: int) -> None:
    """TCP knows no messages."""
    chunks = [CONVERSATION[start : start + size] for start in range(0, len(CONVERSATION), size)]
    assert read(*chunks) == READ


@pytest.mark.parametrize(
    "told", [b"\x16\x03\x01\x02\x00", TLS_REQUEST + b"\x16\x03\x01", b"GET / HTTP/1.1\r\n", STARTUP + b"Q\0\0\0\0"]
)
def test_what_cannot_be_read_is_said_once(told: bytes) -> None:
    """TLS from the first byte, TLS after the server's yes, another protocol, and what is none."""
    assert [message for message in read(told, QUERY, QUERY) if not isinstance(message, Startup)] == [Unreadable()]


def test_a_cancelled_statement_is_no_statement() -> None:
    """The request comes alone, on a connection of its own."""
    assert read(CANCEL_REQUEST) == []


@given(st.lists(st.binary(max_size=40)), st.sampled_from([b"", STARTUP]))
def test_no_bytes_break_the_reader(chunks: list[bytes], opening: bytes) -> None:
    """It runs in the thread that serves all connections."""
    read(opening, *chunks)
