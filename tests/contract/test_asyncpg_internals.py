"""What lies below the public interfaces of asyncpg and its adapter and is used here, name by name, as it is installed.

As ``test_psycopg_internals``: a release that changes one of these shows here, and not in a handler.
"""

from __future__ import annotations

import inspect
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from asyncpg.protocol.protocol import BaseProtocol
from sqlalchemy.dialects.postgresql.asyncpg import (
    AsyncAdapt_asyncpg_connection,
    AsyncAdapt_asyncpg_cursor,
    AsyncAdapt_asyncpg_ss_cursor,
    PGDialect_asyncpg,
)
from sqlalchemy.engine.default import DefaultDialect

from db.wire.asyncpg_connections import UnitAdapter, UnitConnection, UnitStream
from db.wire.asyncpg_protocol import WatchedProtocol
from tests.contract.test_psycopg_internals import ours, parameters

ROOT = Path(__file__).parents[2]

# Overridden, or called by a private name.
TAKES: dict[tuple[type, str], str] = {
    (AsyncAdapt_asyncpg_connection, "_handle_exception"): "self, error",
    (AsyncAdapt_asyncpg_connection, "_start_transaction"): "self",
    (AsyncAdapt_asyncpg_connection, "commit"): "self",
    (AsyncAdapt_asyncpg_connection, "rollback"): "self",
    (AsyncAdapt_asyncpg_ss_cursor, "_buffer_rows"): "self",
    (AsyncAdapt_asyncpg_ss_cursor, "fetchall"): "self",
    (AsyncAdapt_asyncpg_ss_cursor, "fetchmany"): "self, size",
    (asyncpg.Connection, "_introspect_types"): "self, typeoids, timeout",
    (BaseProtocol, "_is_cancelling"): "self",
    (BaseProtocol, "abort"): "self",
    (BaseProtocol, "resume_writing"): "self",
    (DefaultDialect, "do_begin"): "self, dbapi_connection",
    (DefaultDialect, "do_execute"): "self, cursor, statement, parameters, context",
    (DefaultDialect, "do_execute_no_params"): "self, cursor, statement, context",
    (DefaultDialect, "do_executemany"): "self, cursor, statement, parameters, context",
    (PGDialect_asyncpg, "do_ping"): "self, dbapi_connection",
    (PGDialect_asyncpg, "is_disconnect"): "self, e, connection, cursor",
}
# The doors of the protocol: what each is called with.
DOORS = {
    "bind": "self, state, args, portal_name, timeout",
    "bind_execute": "self, state, args, portal_name, limit, return_extra, timeout",
    "bind_execute_many": "self, state, args, portal_name, timeout, return_rows",
    "copy_in": "self, copy_stmt, reader, data, records, record_stmt, timeout",
    "copy_out": "self, copy_stmt, sink, timeout",
    "execute": "self, state, portal_name, limit, return_extra, timeout",
    "prepare": "self, stmt_name, query, timeout, *, state, ignore_custom_codec, record_class",
    "query": "self, query, timeout",
}
# Awaited there too, but they send no statement.
NO_DOORS = {"close", "close_portal", "close_statement"}
OF_THE_ADAPTER = {"_connection", "_execute_mutex", "_isolation_setting", "_transaction"}
OF_A_CURSOR = {"_adapt_connection", "_connection"}


@pytest.mark.parametrize(("owner", "name"), TAKES, ids=lambda v: getattr(v, "__name__", v))
def test_a_method_takes_what_it_is_given_here(owner: Any, name: str) -> None:
    """In the versions that are installed."""
    assert parameters(getattr(owner, name)) == TAKES[owner, name]


def test_no_other_method_of_the_adapter_is_overridden() -> None:
    """So the list above is all of them."""
    of_adapter = {name for owner, name in TAKES if owner is AsyncAdapt_asyncpg_connection}
    assert ours(UnitAdapter) == of_adapter | {"_ss_cursor_cls"}
    assert ours(UnitStream) == {name for owner, name in TAKES if owner is AsyncAdapt_asyncpg_ss_cursor}
    assert ours(UnitConnection) == {name for owner, name in TAKES if owner is asyncpg.Connection}


@pytest.mark.parametrize("name", DOORS)
def test_each_door_is_watched(name: str) -> None:
    """With the arguments that asyncpg gives it."""
    assert parameters(getattr(BaseProtocol, name)) == DOORS[name]
    assert name in vars(WatchedProtocol)


def test_there_is_no_other_door() -> None:
    """Whatever can be awaited of the protocol, and is not private to it, is known."""
    awaited = {name for name, value in vars(BaseProtocol).items() if inspect.iscoroutinefunction(value)}
    assert {name for name in awaited if not name.startswith("_")} == set(DOORS) | NO_DOORS


def test_the_attributes_are_there() -> None:
    """The slots of both classes, what a cursor is bound to, and the text of a prepared statement."""
    slots = {name for cls in AsyncAdapt_asyncpg_connection.__mro__ for name in getattr(cls, "__slots__", ())}
    assert slots >= OF_THE_ADAPTER - {"_connection"}
    assert set(AsyncAdapt_asyncpg_cursor.__annotations__) >= OF_A_CURSOR
    assert {"_protocol", "_top_xact"} <= set(asyncpg.Connection.__slots__)
    assert parameters(asyncpg.Connection.__init__).startswith("self, protocol, transport, loop")


def test_the_version_is_held() -> None:
    """To the minor release that this has been tried on."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"]["asyncpg"] == ["asyncpg>=0.32,<0.33"]
    assert version("asyncpg").startswith("0.32.")
