"""What a program may do on a connection, by name: the shapes of statements, and the driver's own verbs.

A verb is a function of a ``Side`` (``twins``): it gives or raises, and what it gives can be compared. The same ones
serve psycopg's sync and async connections, since a side waits for what has to be awaited.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.types import TypeInfo
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sqlalchemy import Connection, CursorResult
    from sqlalchemy.sql.base import Executable

    from .twins import Side

    Verb = Callable[[Side], Any]

MARKS = Table("marks", MetaData(), Column("n", Integer, primary_key=True), Column("note", String))

ROW = "INSERT INTO marks (n) VALUES (%s)"
ROWS = "SELECT n FROM marks ORDER BY n"


def _copy(conn: Connection) -> Any:
    driver: Any = conn.connection.driver_connection  # COPY is no statement of SQLAlchemy's
    with driver.cursor() as cursor:
        with cursor.copy("COPY marks (n) FROM STDIN") as copy:
            copy.write("7\n8\n")
        return cursor.rowcount


def _run(statement: Executable, parameters: Any = None, **options: Any) -> Callable[[Connection], Any]:
    return lambda conn: _result(conn.execute(statement, parameters, execution_options=options))


def _raw(statement: str) -> Callable[[Connection], Any]:
    return lambda conn: _result(conn.exec_driver_sql(statement))


def _result(result: CursorResult[Any]) -> Any:
    return [tuple(row) for row in result] if result.returns_rows else result.rowcount


# By name: the shapes in which statements reach the driver, and the ways in which they fail.
WORK: dict[str, Callable[[Connection], Any]] = {
    "insert": _run(insert(MARKS), {"n": 1, "note": "one"}),
    "executemany": _run(insert(MARKS), [{"n": 2}, {"n": 3}]),
    "executemany, the second fails": _run(insert(MARKS), [{"n": 4}, {"n": 4}]),
    "insertmanyvalues": _run(insert(MARKS).returning(MARKS.c.n), [{"n": 5}, {"n": 6}]),
    "copy": _copy,
    "update": _run(text("UPDATE marks SET note = :note"), {"note": "100%"}),
    "delete": _run(text("DELETE FROM marks WHERE n > 3")),
    "select": _run(select(MARKS.c.n).order_by(MARKS.c.n)),
    "in brackets": _raw("(SELECT n FROM marks ORDER BY n)"),
    "yield_per": _run(select(MARKS.c.n).order_by(MARKS.c.n), yield_per=2),
    "two statements": _raw("UPDATE marks SET note = 'two'; SELECT count(*) FROM marks"),
    "a string with a semicolon": _raw("SELECT ';'"),
    "after a comment": _raw("/* first; */ SELECT 1"),
    "after a line of comment": _raw("-- first\nSELECT 1"),
    "nothing": _raw(""),
    "percent": _run(text("SELECT 'a%b', '%%', :x"), {"x": "%"}),
    "duplicate": _raw("INSERT INTO marks (n) VALUES (9), (9)"),
    "division by zero": _run(text("SELECT 1 / :zero"), {"zero": 0}),
    "syntax error": _raw("SELEKT 1"),
    "missing table": _run(text("SELECT :x FROM missing"), {"x": 1}),
    "a protocol's placeholder": _raw("SELECT $1"),
    "a savepoint of the caller's": _raw("SAVEPOINT mine"),
    "back to it": _raw("ROLLBACK TO SAVEPOINT mine"),
    "release it": _raw("RELEASE SAVEPOINT mine"),
}

# What steers a transaction or a session, as text; through SQLAlchemy and through the driver.
STEERING = (
    "COMMIT",
    "commit;",
    "/* done */ COMMIT",
    "END",
    "ROLLBACK",
    "ABORT",
    "COMMIT AND CHAIN",
    "ROLLBACK AND CHAIN",
    "BEGIN",
    "START TRANSACTION READ ONLY",
    "SAVEPOINT mine",
    "ROLLBACK TO mine",
    "ROLLBACK TO SAVEPOINT mine",
    "RELEASE mine",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET TRANSACTION READ ONLY",
    "SET LOCAL twins.said = 'local'",
    "SET twins.said = 'session'",
    "SELECT coalesce(current_setting('twins.said', true), '')",
    "SHOW transaction_isolation",
    "SHOW transaction_read_only",
    "DO $$ BEGIN INSERT INTO marks (n) VALUES (30); COMMIT; END $$",
)


def _of_the_driver(statement: str, parameters: Any = None) -> Verb:
    return lambda side: _told(side, side.wait(side.driver.execute(statement, parameters)))


def _told(side: Side, cursor: Any) -> Any:
    """What a cursor of the driver's says, once its answer is there."""
    side.drain()
    rows = list(side.wait(cursor.fetchall())) if cursor.description else None
    return cursor.statusmessage, cursor.rowcount, rows


def _together(*statements: str) -> Verb:
    """``statements`` without a look at an answer in between, as pipelines are for; and the first error."""

    def run(side: Side) -> Any:
        cursors: list[Any] = []
        errors: list[psycopg.Error] = []
        for statement in statements:
            # In a pipeline, an error is raised wherever its answer is met.
            cursors.append(side.driver.cursor())
            with _noted(errors):
                side.wait(cursors[-1].execute(statement))
        with _noted(errors):
            side.drain()
        if errors:
            raise errors[0]
        return [cursor.statusmessage for cursor in cursors]

    return run


@contextlib.contextmanager
def _noted(errors: list[psycopg.Error]) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        errors.append(error)


def _executemany(statement: str, parameters: Iterable[Any], *, returning: bool) -> Verb:
    def run(side: Side) -> Any:
        cursor = side.driver.cursor()
        side.wait(cursor.executemany(statement, list(parameters), returning=returning))
        side.drain()
        if not returning:
            return cursor.rowcount
        rows = []
        while True:
            rows.append(list(side.wait(cursor.fetchall())))
            if not cursor.nextset():
                return rows

    return run


def _stream(statement: str, *, at_most: int | None = None) -> Verb:
    def run(side: Side) -> Any:
        cursor = side.driver.cursor()
        return side.take(cursor.stream(statement), at_most)

    return run


def _copy_in(statement: str, lines: str, *, fails: bool = False) -> Verb:
    def run(side: Side) -> Any:
        cursor = side.driver.cursor()
        with side.within(cursor.copy(statement)) as copy:
            side.wait(copy.write(lines))
            if fails:
                raise ThrownError
        return cursor.rowcount, cursor.statusmessage

    return run


def _copy_out(statement: str) -> Verb:
    def run(side: Side) -> Any:
        cursor = side.driver.cursor()
        with side.within(cursor.copy(statement)) as copy:
            return side.take(copy.rows(), None)

    return run


def _server_cursor(statement: str, *, size: int | None = None) -> Verb:
    def run(side: Side) -> Any:
        with side.within(side.driver.cursor("apart")) as cursor:
            side.wait(cursor.execute(statement))
            return list(side.wait(cursor.fetchall() if size is None else cursor.fetchmany(size)))

    return run


def _error_message(side: Side) -> Any:
    """What libpq has to say of a statement that has just failed."""
    try:
        side.wait(side.driver.execute("SELECT missing"))
    except psycopg.Error:
        return side.driver.info.error_message
    return None


class ThrownError(Exception):
    """What a program throws inside of a block."""


# The driver's own ways to send something.
DRIVER: dict[str, Verb] = {
    "execute": _of_the_driver(ROW, [11]),
    "execute, returning": _of_the_driver("INSERT INTO marks (n) VALUES (%s) RETURNING n", [12]),
    "execute, rows": _of_the_driver(ROWS),
    "execute, it fails": _of_the_driver("SELECT 1 / 0"),
    "three together": _together("INSERT INTO marks (n) VALUES (13)", ROWS, "INSERT INTO marks (n) VALUES (14)"),
    "three together, the second fails": _together("INSERT INTO marks (n) VALUES (15)", "SELECT 1 / 0", ROWS),
    "executemany": _executemany(ROW, [[16], [17]], returning=False),
    "executemany, returning": _executemany(f"{ROW} RETURNING n", [[18], [19]], returning=True),
    "executemany, the second fails": _executemany(ROW, [[20], [20]], returning=False),
    "executemany of none": _executemany(ROW, [], returning=False),
    "commit()": lambda side: side.wait(side.driver.commit()),
    "rollback()": lambda side: side.wait(side.driver.rollback()),
    "stream": _stream("SELECT generate_series(1, 3)"),
    "stream, left half way": _stream("SELECT generate_series(1, 10000000)", at_most=1),
    "stream, it fails": _stream("SELECT 1 / 0"),
    "copy in": _copy_in("COPY marks (n) FROM STDIN", "21\n22\n"),
    "copy in, what the server refuses": _copy_in("COPY marks (n) FROM STDIN", "x\n"),
    "copy in, the block fails": _copy_in("COPY marks (n) FROM STDIN", "23\n", fails=True),
    "copy out": _copy_out("COPY (SELECT n FROM marks ORDER BY n) TO STDOUT"),
    "copy out, it fails": _copy_out("COPY missing TO STDOUT"),
    "server cursor": _server_cursor(ROWS),
    "server cursor, left half way": _server_cursor("SELECT generate_series(1, 5)", size=2),
    "server cursor, it fails": _server_cursor("SELECT missing"),
    "error message": _error_message,
}
DRIVER |= {f"driver: {statement}": _of_the_driver(statement) for statement in STEERING}

# What somebody may want to know, and what the driver or SQLAlchemy conclude from the transaction's status for it.
QUESTIONS: dict[str, Verb] = {
    "status": lambda side: side.driver.info.transaction_status.name,
    "default level": lambda side: side.here.default_isolation_level,
    "settings": lambda side: [getattr(side.driver, name) for name in SETTINGS],
    "closed": lambda side: (side.driver.closed, side.driver.broken),
    "type": lambda side: getattr(side.wait(TypeInfo.fetch(side.driver, "int4")), "oid", None),
    "no type": lambda side: side.wait(TypeInfo.fetch(side.driver, "missing")),
    "level": lambda side: side.here.get_isolation_level(),
    "prepared transactions": lambda side: side.of_its_own(side.here.recover_twophase()),
    "prepared transactions, by the driver": lambda side: side.of_its_own(side.wait(side.driver.tpc_recover())),
}

SETTINGS: dict[str, tuple[Any, Any]] = {
    "autocommit": (True, False),
    "read_only": (True, None),
    "isolation_level": (psycopg.IsolationLevel.SERIALIZABLE, None),
    "deferrable": (True, None),
}
OPTIONS: tuple[dict[str, Any], ...] = (
    {"isolation_level": "SERIALIZABLE"},
    {"isolation_level": "AUTOCOMMIT"},
    {"postgresql_readonly": True},
    {"postgresql_deferrable": True},
)


def _set(name: str, value: Any) -> Verb:
    return lambda side: side.set(name, value)


def _options(options: dict[str, Any]) -> Verb:
    return lambda side: side.here.execution_options(**options).closed


SETTERS = {f"{name} = {value}": _set(name, value) for name, values in SETTINGS.items() for value in values}
SETTERS |= {
    f"options {name}={value}": _options({name: value}) for options in OPTIONS for name, value in options.items()
}

TWO_PHASE: dict[str, Verb] = {
    "begin_twophase": lambda side: side.begin_twophase(),
    "prepare": lambda side: side.prepare(),
    "commit_prepared": lambda side: side.here.commit_prepared(side.gid("sqlalchemy"), recover=True),
    "rollback_prepared": lambda side: side.here.rollback_prepared(side.gid("sqlalchemy"), recover=True),
    "tpc_begin": lambda side: side.wait(side.driver.tpc_begin(side.gid("driver"))),
    "tpc_prepare": lambda side: side.wait(side.driver.tpc_prepare()),
    "tpc_commit": lambda side: side.wait(side.driver.tpc_commit()),
    "tpc_rollback": lambda side: side.wait(side.driver.tpc_rollback()),
    "tpc_commit of it": lambda side: side.wait(side.driver.tpc_commit(side.gid("driver"))),
    "tpc_rollback of it": lambda side: side.wait(side.driver.tpc_rollback(side.gid("driver"))),
}


def _as_text(statement: str) -> Verb:
    work = _raw(statement)
    return lambda side: work(side.here)


AS_TEXT: dict[str, Verb] = {f"text: {statement}": _as_text(statement) for statement in STEERING}

VERBS: dict[str, Verb] = DRIVER | QUESTIONS | SETTERS | TWO_PHASE | AS_TEXT

# Blocks of the driver's, which a program enters, and leaves some steps later.
BLOCKS: dict[str, Verb] = {
    "transaction()": lambda side: side.driver.transaction(),
    "transaction(named)": lambda side: side.driver.transaction("named"),
    "transaction(force_rollback)": lambda side: side.driver.transaction(force_rollback=True),
    "pipeline()": lambda side: side.driver.pipeline(),
    "cursor(named)": lambda side: side.driver.cursor("open"),
}
# How they are left.
EXCEPTIONS: dict[str, type[Exception] | None] = {"": None, "raising": ThrownError, "raising Rollback": psycopg.Rollback}

# What is done on an open pipeline: where in it a result comes in is chance, so whatever tells of that is left out.
# SQLAlchemy looks for one right behind execute(), and so does what asks for a level or for rows.
PIPELINED = {"insert", "executemany", "update", "delete", "begin", "begin_nested", "release", "undo", "commit", "close"}
PIPELINED |= VERBS.keys() - TWO_PHASE.keys() - AS_TEXT.keys() - {"level", "prepared transactions", "error message"}
PIPELINED |= BLOCKS.keys() - {"cursor(named)"}
PIPELINED -= {name for name in DRIVER if name.startswith("server cursor")}  # which psycopg does not support there
