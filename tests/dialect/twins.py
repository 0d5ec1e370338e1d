"""Two engines in step: each operation is done on this dialect and on the stock one, and what came of it compared."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import psycopg
from sqlalchemy import Column, Integer, MetaData, String, Table, exc, insert, select, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, CursorResult, Engine, NestedTransaction
    from sqlalchemy.sql.base import Executable

Observed = tuple[Any, ...]

MARKS = Table("marks", MetaData(), Column("n", Integer, primary_key=True), Column("note", String))


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


class Side:
    """One of the two: an engine, and the connection and savepoints that are open on it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.conn: Connection | None = None
        self.savepoints: list[NestedTransaction] = []

    def open(self, isolation: str | None) -> Observed:
        self.conn = self.engine.connect()
        if isolation is not None:
            return self.observe(lambda conn: conn.execution_options(isolation_level=isolation).closed)
        return self.observe(lambda conn: conn.closed)

    def close(self) -> Observed:
        observed = self.observe(lambda conn: conn.close())
        self.conn, self.savepoints = None, []
        return observed

    def begin_nested(self) -> Observed:
        return self.observe(lambda conn: self.savepoints.append(conn.begin_nested()))

    def end_nested(self, how: str) -> Observed:
        return self.observe(lambda _: getattr(self.savepoints.pop(), how)())

    def end(self, how: str) -> Observed:
        self.savepoints = []
        return self.observe(lambda conn: getattr(conn, how)())

    def observe(self, work: Callable[[Connection], Any]) -> Observed:
        """What ``work`` gives or raises, and the state in which it leaves the connection."""
        assert self.conn is not None
        try:
            came: Observed = ("gave", work(self.conn))
        except exc.DBAPIError as error:
            statement = re.sub(r"savepoint_\d+", "savepoint", error.statement or "")
            came = (type(error).__name__, *_driver_error(error.orig), statement, error.params)
            came += (error.connection_invalidated,)
        except psycopg.Error as error:
            came = _driver_error(error)
        except exc.SQLAlchemyError as error:
            came = (type(error).__name__,)
        return (*came, *self._state(self.conn))

    def _state(self, conn: Connection) -> Observed:
        if conn.closed:
            return ("closed",)
        return (
            conn.in_transaction(),
            conn.in_nested_transaction(),
            conn.invalidated,
            [savepoint.is_active for savepoint in self.savepoints],
            not conn.invalidated and self._failed(conn),
        )

    def _failed(self, conn: Connection) -> bool:
        """Whether the server would refuse all but a rollback."""
        driver: Any = conn.connection.driver_connection
        in_error = driver.info.transaction_status is psycopg.pq.TransactionStatus.INERROR
        return bool(driver.failed) if hasattr(driver, "failed") else in_error

    def rows(self) -> list[Any]:
        with self.engine.connect() as conn:
            return list(conn.execute(text("SELECT n, note FROM marks ORDER BY n")).all())


def _driver_error(error: BaseException | None) -> Observed:
    return type(error).__name__, getattr(error, "sqlstate", None)


class Twins:
    """The two in step. Raises AssertionError where they differ.

    They may differ in one thing: this dialect sends the first flight on a kept connection again when that was dead.
    So where it may, the stock dialect is given a fresh connection, and is then to show the same.
    """

    def __init__(self, ours: Engine, stock: Engine, kill: Callable[[], None]) -> None:
        self.ours, self.stock = Side(ours), Side(stock)
        self._kill = kill
        self._kept = False  # the connection in hand was in the pool before
        self._touched = False  # something was sent over it since
        self._isolation: str | None = None

    @property
    def is_open(self) -> bool:
        return self.ours.conn is not None

    def both(self, work: Callable[[Side], Observed]) -> None:
        ours, stock = work(self.ours), work(self.stock)
        assert ours == stock, (ours, stock)

    def open(self, isolation: str | None) -> None:
        self._isolation, self._touched = isolation, False
        self.both(lambda side: side.open(isolation))

    def run(self, name: str) -> None:
        self.both(lambda side: side.observe(WORK[name]))
        self._touched = True

    def close(self) -> None:
        assert self.ours.conn is not None
        self._kept = not self.ours.conn.invalidated
        self.both(Side.close)

    def kill(self, then: str = "select") -> None:
        """End both sessions from the server's side, and see what the statement ``then`` meets."""
        self._kill()
        if not self.is_open:
            self.stock.engine.dispose()
            self.open(None)
        elif self._kept and not self._touched and self._isolation != "AUTOCOMMIT":
            self._renew_stock()
        else:
            self._kept = False
        self.run(then)

    def _renew_stock(self) -> None:
        conn, depth = self.stock.conn, len(self.stock.savepoints)
        assert conn is not None
        conn.invalidate()
        begun = conn.in_transaction()
        conn.close()
        self.stock.savepoints = []
        self.stock.open(self._isolation)
        if begun:
            assert self.stock.conn is not None
            self.stock.conn.begin()
        for _ in range(depth):
            self.stock.begin_nested()

    def finish(self) -> None:
        if self.is_open:
            self.close()
        assert self.ours.rows() == self.stock.rows()
