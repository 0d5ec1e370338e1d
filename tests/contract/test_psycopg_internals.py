"""What lies below the public interfaces of psycopg and SQLAlchemy and is used here, name by name, as it is installed.

A release that renames or changes one of these shows here, and not in a handler.
"""

from __future__ import annotations

import ast
import inspect
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import _preparing, errors, generators, pq
from psycopg._connection_base import BaseConnection
from psycopg._copy_base import format_row_binary, format_row_text
from psycopg._cursor_base import BaseCursor
from psycopg._pipeline_base import BasePipeline
from psycopg._server_cursor_base import ServerCursorMixin
from psycopg.adapt import Transformer
from sqlalchemy import create_engine
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.dialects.postgresql.psycopg import (
    AsyncAdapt_psycopg_cursor,
    PGDialect_psycopg,
    PGDialectAsync_psycopg,
    PGExecutionContext_psycopg,
    PsycopgAdaptDBAPI,
)
from sqlalchemy.pool.base import _ConnectionFairy, _ConnectionRecord

from db.wire import (
    columns,
    cursors,
    deferred_begin,
    hstore,
    pipeline,
    psycopg_connections,
    psycopg_dialect,
    queued_answers,
    replay,
    server_cursors,
    serving,
    statement_names,
    transaction_end,
)
from devkit.plugin import Database

ROOT = Path(__file__).parents[2]

# Overridden: what it is called with, which is what an override has to take.
OVERRIDDEN: dict[tuple[type, str], str] = {
    (BaseConnection, "_check_intrans_gen"): "self, attribute",
    (BaseConnection, "_commit_gen"): "self",
    (BaseConnection, "_exec_command"): "self, command, result_format",
    (BaseConnection, "_rollback_gen"): "self",
    (BaseConnection, "_start_query"): "self",
    (BaseConnection, "_tpc_begin_gen"): "self, xid",
    (BaseConnection, "_tpc_finish_gen"): "self, action, xid",
    (BaseConnection, "_tpc_prepare_gen"): "self",
    (BaseConnection, "info"): "",
    (BaseCursor, "_check_results"): "self, results",
    (BaseCursor, "description"): "",
    (BaseCursor, "_execute_gen"): "self, query, params, *, prepare, binary",
    (BaseCursor, "_executemany_gen_no_pipeline"): "self, query, params_seq, returning",
    (BaseCursor, "_executemany_gen_pipeline"): "self, query, params_seq, returning",
    (BaseCursor, "_start_copy_gen"): "self, statement, params",
    (BaseCursor, "_stream_send_gen"): "self, query, params, *, binary, size",
    (ServerCursorMixin, "_close_gen"): "self",
    (ServerCursorMixin, "_declare_gen"): "self, query, params, binary",
    (ServerCursorMixin, "_fetch_gen"): "self, num",
    (ServerCursorMixin, "_scroll_gen"): "self, value, mode",
    (_preparing.PrepareManager, "clear"): "self",
    (_preparing.PrepareManager, "maintain_gen"): "self, conn",
    (_preparing.PrepareManager, "maybe_add_to_cache"): "self, query, prep, name",
    (_preparing.PrepareManager, "validate"): "self, key, prep, name, results",
    (psycopg.AsyncConnection, "_pipeline_nolock"): "self",
    (psycopg.AsyncConnection, "commit"): "self",
    (psycopg.AsyncConnection, "pipeline"): "self",
    (psycopg.AsyncConnection, "rollback"): "self",
    (psycopg.AsyncConnection, "transaction"): "self, savepoint_name, force_rollback",
    (psycopg.AsyncConnection, "wait"): "self, gen, interval, timeout",
    (psycopg.AsyncCursor, "copy"): "self, statement, params, *, writer",
    (psycopg.AsyncCursor, "stream"): "self, query, params, *, binary, size",
    (psycopg.Connection, "_pipeline_nolock"): "self",
    (psycopg.Connection, "commit"): "self",
    (psycopg.Connection, "pipeline"): "self",
    (psycopg.Connection, "rollback"): "self",
    (psycopg.Connection, "transaction"): "self, savepoint_name, force_rollback",
    (psycopg.Connection, "wait"): "self, gen, interval, timeout",
    (psycopg.ConnectionInfo, "error_message"): "",
    (psycopg.ConnectionInfo, "transaction_status"): "",
    (psycopg.Cursor, "copy"): "self, statement, params, *, writer",
    (psycopg.Cursor, "stream"): "self, query, params, *, binary, size",
    (ARRAY, "result_processor"): "self, dialect, coltype",
    (PGDialect, "_get_default_schema_name"): "self, connection",
    (PGDialect, "_get_server_version_info"): "self, connection",
    (PGDialect, "_set_backslash_escapes"): "self, connection",
    (PGExecutionContext_psycopg, "create_server_side_cursor"): "self",
    (PGDialect_psycopg, "_type_info_fetch"): "self, connection, name",
    (PGDialect_psycopg, "connect"): "self, *cargs, **cparams",
    (PGDialect_psycopg, "create_connect_args"): "self, url",
    (PGDialect_psycopg, "do_close"): "self, dbapi_connection",
    (PGDialect_psycopg, "do_commit"): "self, dbapi_connection",
    (PGDialect_psycopg, "do_execute"): "self, cursor, statement, parameters, context",
    (PGDialect_psycopg, "do_execute_no_params"): "self, cursor, statement, context",
    (PGDialect_psycopg, "do_executemany"): "self, cursor, statement, parameters, context",
    (PGDialect_psycopg, "do_ping"): "self, dbapi_connection",
    (PGDialect_psycopg, "do_rollback"): "self, dbapi_connection",
    (PGDialect_psycopg, "do_rollback_to_savepoint"): "self, connection, name",
    (PGDialect_psycopg, "do_rollback_twophase"): "self, connection, xid, is_prepared, recover",
    (PGDialect_psycopg, "do_terminate"): "self, dbapi_connection",
    (PGDialect_psycopg, "execution_ctx_cls"): "",
    (PGDialect_psycopg, "get_async_dialect_cls"): "url",
    (PGDialect_psycopg, "get_default_isolation_level"): "self, dbapi_conn",
    (PGDialect_psycopg, "reset_isolation_level"): "self, dbapi_conn",
    (PGDialect_psycopg, "set_isolation_level"): "self, dbapi_connection, level",
}
# Called, read or set by a private name.
CALLED: dict[tuple[type, str], str] = {
    (BaseConnection, "_check_connection_ok"): "self",
    (BaseConnection, "_get_tx_start_command"): "self",
    (BaseCursor, "_convert_query"): "self, query, params",
    (BaseCursor, "_execute_send"): "self, query, *, force_extended, binary",
    (BaseCursor, "_reset"): "self, reset_query",
    (BaseCursor, "_select_current_result"): "self, i, format",
    (BaseCursor, "_send_query_prepared"): "self, name, pgq, *, binary",
    (BasePipeline, "_sync_gen"): "self",
    (ServerCursorMixin, "_make_declare_statement"): "self, query",
    (psycopg.AsyncConnection, "_try_cancel"): "self, *, timeout",
    (psycopg.Connection, "_try_cancel"): "self, *, timeout",
    (PGDialect_psycopg, "_do_isolation_level"): "self, connection, autocommit, isolation_level",
    (PGDialectAsync_psycopg, "_do_isolation_level"): "self, connection, autocommit, isolation_level",
}
OF_A_CONNECTION = {
    "_autocommit",
    "_begin_statement",
    "_closed",
    "_deferrable",
    "_isolation_level",
    "_num_transactions",
    "_pipeline",
    "_prepared",
    "_read_only",
    "_tpc",
}
OF_A_CURSOR = {"_adapters", "_conn", "_last_query", "_pgconn", "_query", "_results", "_statusmessage", "_tx"}
OF_A_SERVER_CURSOR = {"_described", "_format", "_iter_rows", "_make_row", "_name", "_withhold"}
OF_A_COLUMN = {"_fmod", "_fsize", "_ftype", "_name", "_type"}
OF_THE_NAMES = {"_counts", "_names", "_rotate", "_to_flush"}
OF_THE_ASYNC_ADAPTER = {"_adapt_connection", "_connection", "_cursor"}
OF_THE_DIALECT = {"_backslash_escapes", "_has_native_hstore", "_on_connect_isolation_level"}
OTHERS = {"_WaitTimeout", "_connection_record", "_encoding"}
# Without an underscore, and documented nowhere.
UNDOCUMENTED: dict[tuple[Any, str], str] = {
    (_preparing.PrepareManager, "get"): "self, query, prepare",
    (_preparing.PrepareManager, "key"): "query",
    # What a pipeline asks of the cursor that an answer is for, and an answer without one has, too.
    (BaseCursor, "_set_results"): "self, results",
    (BasePipeline, "_process_results"): "self, queued, results",
    (generators, "_send"): "pgconn",  # what its compiled twin does, which has no signature
    (PsycopgAdaptDBAPI, "connect"): "self, *arg, **kw",
    (_ConnectionRecord, "get_connection"): "self",
    (_ConnectionRecord, "invalidate"): "self, e, soft",
}


def parameters(function: Any) -> str:
    """The signature without types and defaults; none of a property."""
    if isinstance(function, property):
        return ""
    bare = [p.replace(annotation=p.empty, default=p.empty) for p in inspect.signature(function).parameters.values()]
    return str(inspect.Signature(bare))[1:-1]


@pytest.mark.parametrize(
    ("owner", "name"), [*OVERRIDDEN, *CALLED, *UNDOCUMENTED], ids=lambda v: getattr(v, "__name__", v)
)
def test_a_method_takes_what_it_is_given_here(owner: Any, name: str) -> None:
    """In the versions that are installed."""
    assert parameters(getattr(owner, name)) == (OVERRIDDEN | CALLED | UNDOCUMENTED)[owner, name]


def ours(cls: type) -> set[str]:
    """The names that the class has from this project and that hide one of a library's."""
    local = [base for base in cls.__mro__ if base.__module__.startswith("db.")]
    foreign = [base for base in cls.__mro__ if base not in local and base is not object]
    names = {name for base in local for name, value in vars(base).items() if callable(value) or is_method(value)}
    return {name for name in names if not name.startswith("__") and any(name in vars(base) for base in foreign)}


def is_method(value: object) -> bool:
    return isinstance(value, (classmethod, staticmethod, property))


MODULES = (
    columns,
    pipeline,
    queued_answers,
    serving,
    cursors,
    deferred_begin,
    transaction_end,
    hstore,
    psycopg_connections,
    replay,
    psycopg_dialect,
    server_cursors,
    statement_names,
)


def test_no_other_method_is_overridden() -> None:
    """So the list above is all of them."""
    classes = [
        cls
        for module in MODULES
        for cls in vars(module).values()
        if inspect.isclass(cls) and cls.__module__ == module.__name__ and len(cls.__mro__) > 2
    ]
    assert {name for cls in classes for name in ours(cls)} == {name for _, name in OVERRIDDEN}


def test_no_other_private_name_is_used() -> None:
    """Nor below them."""
    used: set[str] = set()
    defined: set[str] = set()
    for module in MODULES:
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            match node:
                case ast.Attribute(attr=name) if name.startswith("_") and not name.startswith("__"):
                    used.add(name)
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    defined.add(name)
                case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                    defined.add(name)
                case ast.Assign(targets=[ast.Attribute(attr=name)]) if name.startswith("_told_"):
                    defined.add(name)
    listed = (
        OF_A_CONNECTION
        | OF_A_CURSOR
        | OF_A_SERVER_CURSOR
        | (OF_A_COLUMN - {"_type"})
        | OF_THE_NAMES
        | OF_THE_ASYNC_ADAPTER
        | OF_THE_DIALECT
        | OTHERS
    )
    assert used - defined == listed | {name for _, name in CALLED}


def test_the_attributes_are_there(database: Database) -> None:
    """On live objects of both libraries."""
    engine = create_engine(database.url())
    with engine.connect() as conn:
        driver: Any = conn.connection.driver_connection
        assert {name for name in OF_A_CONNECTION if hasattr(driver, name)} == OF_A_CONNECTION
        with driver.cursor() as cursor:
            cursor.execute("SELECT 1")
            assert {name for name in OF_A_CURSOR if hasattr(cursor, name)} == OF_A_CURSOR
            (column,) = cursor.description
            assert vars(column).keys() == OF_A_COLUMN
        with driver.cursor("named") as server_cursor:
            server_cursor.execute("SELECT 1")
            assert {name for name in OF_A_SERVER_CURSOR if hasattr(server_cursor, name)} == OF_A_SERVER_CURSOR
        assert driver.pgconn._encoding == "utf-8"
        fairy: Any = conn.connection
        assert isinstance(fairy, _ConnectionFairy)
        assert isinstance(fairy._connection_record, _ConnectionRecord)
        assert list(fairy._connection_record.finalize_callback) == []
        assert {name for name in OF_THE_DIALECT if hasattr(engine.dialect, name)} == OF_THE_DIALECT
        assert {name for name in OF_THE_NAMES if hasattr(driver._prepared, name)} == OF_THE_NAMES
        pipeline = BasePipeline(driver)
        assert [*pipeline.command_queue, *pipeline.result_queue] == []
    slots = {name for cls in AsyncAdapt_psycopg_cursor.__mro__ for name in getattr(cls, "__slots__", ())}
    assert slots >= OF_THE_ASYNC_ADAPTER
    engine.dispose()


def test_the_other_names_are_there() -> None:
    """An exception and an enumeration."""
    assert issubclass(errors._WaitTimeout, Exception)
    assert _preparing.Prepare.NO.name == "NO"
    assert pq.ExecStatus.PIPELINE_SYNC


def test_the_encoders_of_rows_append_to_what_is_given() -> None:
    """Both, whichever of psycopg's two implementations it is."""
    for encode, data in ((format_row_text, b"1\tx\n"), (format_row_binary, b"\0\2")):
        gathered = bytearray(b"before ")
        encode((1, "x"), Transformer(), gathered)
        assert gathered.startswith(b"before " + data)


def test_few_modules_import_what_is_private_to_psycopg() -> None:
    """The halves of a flight, its names, and the rows of a COPY: to be looked at when a release breaks something."""
    private = {
        path.name
        for path in (ROOT / "src/db").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("psycopg._")
    }
    assert private == {"copy_data.py", "cursors.py", "server_cursors.py", "serving.py", "statement_names.py"}


@pytest.mark.parametrize(("package", "pin"), [("psycopg", ">=3.3,<3.4"), ("sqlalchemy", ">=2.1,<2.2")])
def test_the_versions_are_held(package: str, pin: str) -> None:
    """To the minor releases that this has been tried on."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert [d.partition(">")[2] for d in project["dependencies"] if d.startswith(package)] == [pin[1:]]
    lowest, below = (tuple(int(n) for n in bound.strip("<>=").split(".")) for bound in pin.split(","))
    assert lowest <= tuple(int(n) for n in version(package).split(".")[:2]) < below
