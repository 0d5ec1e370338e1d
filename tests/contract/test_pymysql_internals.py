"""What lies below the public interface of PyMySQL and is used here, name by name, as it is installed.

A release that changes one of these may be served after a look at ``db.wire.mysql_connections``, and at the modules that
it names.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import pymysql
import pytest
from pymysql import connections
from pymysql.constants import CLIENT, COMMAND, SERVER_STATUS
from sqlalchemy.dialects.mysql.base import MySQLDialect

from db.wire.mysql_loop_socket import LoopSocket

METHODS: dict[tuple[Any, str], str] = {
    (connections.Connection, "_execute_command"): "self, command, sql",
    (connections.Connection, "_read_query_result"): "self, unbuffered=False",
    (connections.Connection, "_read_packet"): "self, packet_type=",
    (connections.Connection, "_create_ssl_ctx"): "self, sslp",
    (connections.Connection, "_force_close"): "self",
    (connections.Connection, "_request_authentication"): "self",
    (connections.Connection, "query"): "self, sql, unbuffered=False",
    (connections.Connection, "set_character_set"): "self, charset, collation=None",
    (connections.Connection, "connect"): "self, sock=None",
    (connections.Connection, "autocommit"): "self, value",
    (connections.Connection, "get_autocommit"): "self",
    (connections.Connection, "next_result"): "self, unbuffered=False",
    (connections.Connection, "select_db"): "self, db",
    (connections.MySQLResult, "_finish_unbuffered_query"): "self",
    (connections.MySQLResult, "__init__"): "self, connection",
    (MySQLDialect, "_fetch_setting"): "self, connection, setting_name",
    (MySQLDialect, "_parse_server_version"): "self, val",
}


@pytest.mark.parametrize(("owner", "name"), METHODS, ids=lambda value: getattr(value, "__name__", value))
def test_a_method_takes_what_it_is_given(owner: Any, name: str) -> None:
    """By its parameters' names."""
    signature = inspect.signature(getattr(owner, name))
    said = ", ".join(
        one.name + ("" if one.default is one.empty else f"={one.default!r}") for one in signature.parameters.values()
    )
    assert said.startswith(METHODS[owner, name])


def test_a_connection_has_what_is_read_of_it() -> None:
    """As it is before it connects."""
    connection = connections.Connection(defer_connect=True, user="u", ssl_disabled=True)
    names = ("_sock", "_result", "_affected_rows", "_read_timeout", "_secure", "_ssl_required", "_auth_plugin_map")
    assert [
        name for name in (*names, "encoding", "host", "port", "user", "password", "db") if not hasattr(connection, name)
    ] == []
    result = connections.MySQLResult(connection)
    assert {"connection", "affected_rows", "insert_id", "has_next", "rows", "description", "unbuffered_active"} <= vars(
        result
    ).keys()


def test_a_socket_is_asked_for_no_more_than_is_there() -> None:
    """``LoopSocket`` has the methods that are called on one, and on the file that reads from it."""
    source = inspect.getsource(connections)
    on_socket = set(re.findall(r"(?:self\._sock|\bsock)\.(\w+)\(", source)) - {"connect"}  # of one that PyMySQL opens
    on_file = set(re.findall(r"self\._rfile\.(\w+)\(", source))
    assert [name for name in (*on_socket, *on_file) if not hasattr(LoopSocket, name)] == []
    assert set(re.findall(r"self\.ctx\.(\w+)\(", source)) <= {"wrap_socket"}


def test_the_protocols_numbers_have_their_names() -> None:
    """Flags of the login, commands, and what the server says of its state."""
    assert (CLIENT.MULTI_STATEMENTS, COMMAND.COM_QUERY, COMMAND.COM_SET_OPTION) == (1 << 16, 3, 0x1B)
    assert (SERVER_STATUS.SERVER_STATUS_IN_TRANS, SERVER_STATUS.SERVER_STATUS_NO_BACKSLASH_ESCAPES) == (1, 512)
    assert pymysql.err.OperationalError(1213, "said").args[0] == 1213
