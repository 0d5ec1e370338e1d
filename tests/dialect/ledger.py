"""Units of work that write rows into a ledger, and a book of what the caller was told of each row.

Each row has a key of its own, and nothing in the table keeps a key from being there twice.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import psycopg
from psycopg.types import TypeInfo
from sqlalchemy import exc, text

import db
from db.errors import OutcomeUnknownError

from .hands import Hands

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection

Key = tuple[int, int]
Way = Literal["begin", "run", "session"]

INSERT = "INSERT INTO ledger (unit, n) VALUES (%s, %s)"
ROW = text("INSERT INTO ledger (unit, n) VALUES (:unit, :n)")


class UnwantedError(Exception):
    """What a unit raises by itself: it has changed its mind."""


@dataclass
class Book:
    """What was told of the rows of all units."""

    certain: set[Key] = field(default_factory=set)
    """Reported as committed."""
    unknown: list[set[Key]] = field(default_factory=list)
    """Of which it was said that nobody knows: all of a commit's, or none."""
    lost: list[Exception] = field(default_factory=list)
    """Of each unit that failed, or may have failed, for want of a connection: what its caller was told."""


class Work(Hands):
    """One unit, and what is to become of its rows."""

    def __init__(self, number: int, steps: list[str], *, is_async: bool) -> None:
        super().__init__(is_async=is_async)
        self.number = number
        self.steps = steps
        self.certain: set[Key] = set()
        self.pending: set[Key] = set()
        self.has_committed = False
        self.commits = False  # a COMMIT is or was under way, and its outcome is not known

    def __call__(self, tx: Connection) -> None:
        """Do all steps. Once more from the start, where ``run`` says so."""
        self.tx = tx
        self.driver: Any = tx.connection.driver_connection
        self.pending, self.commits = set(), False
        self._keys: Iterator[int] = itertools.count()
        for step in self.steps:
            STEPS[step](self)
        self.commits = True

    def key(self) -> Key:
        """A new row's, which is as much as written."""
        key = self.number, next(self._keys)
        self.pending.add(key)
        return key

    def execute(self, statement: str, parameters: Any = None) -> Any:
        return self.wait(self.driver.execute(statement, parameters))

    def row(self) -> None:
        self.tx.execute(ROW, dict(zip(("unit", "n"), self.key(), strict=True)))

    def rows(self) -> None:
        self.tx.execute(ROW, [dict(zip(("unit", "n"), self.key(), strict=True)) for _ in range(2)])

    def drivers_row(self) -> None:
        self.execute(INSERT, self.key())

    def drivers_rows(self) -> None:
        self.wait(self.driver.cursor().executemany(INSERT, [self.key(), self.key()]))

    def copy(self) -> None:
        with self.within(self.driver.cursor().copy("COPY ledger (unit, n) FROM STDIN")) as copy:
            self.wait(copy.write_row(self.key()))

    def pipeline(self, *, then: Callable[[Work], None] | None = None) -> None:
        with self.within(self.driver.pipeline()):
            self.drivers_row()
            self.row()
            if then is not None:
                then(self)

    def savepoint(self) -> None:
        with self.tx.begin_nested():
            self.row()

    def savepoint_undone(self) -> None:
        with self.tx.begin_nested() as savepoint:
            before = set(self.pending)
            self.row()
            savepoint.rollback()
            self.pending = before

    def transaction(self) -> None:
        with self.within(self.driver.transaction()):
            self.drivers_row()

    def transaction_undone(self) -> None:
        with self.within(self.driver.transaction()):
            before = set(self.pending)
            self.drivers_row()
            self.pending = before
            raise psycopg.Rollback

    def stream(self) -> None:
        self.take(self.driver.cursor().stream("SELECT generate_series(1, 3)"), None)

    def server_cursor(self) -> None:
        with self.within(self.driver.cursor("apart")) as cursor:
            self.wait(cursor.execute("SELECT generate_series(1, 3)"))
            self.wait(cursor.fetchmany(2))

    def select(self) -> None:
        self.tx.execute(text("SELECT count(*) FROM ledger")).scalar_one()

    def commit(self, how: Callable[[Work], Any]) -> None:
        self.commits = True
        how(self)
        self.commits, self.has_committed = False, True
        self.certain |= self.pending
        self.pending = set()

    def rollback(self) -> None:
        self.wait(self.driver.rollback())
        self.pending = set()

    def change_mind(self) -> None:
        raise UnwantedError


def _committing(how: Callable[[Work], Any]) -> Callable[[Work], None]:
    return lambda work: work.commit(how)


STEPS: dict[str, Callable[[Work], Any]] = {
    "row": Work.row,
    "rows": Work.rows,
    "driver's row": Work.drivers_row,
    "driver's executemany": Work.drivers_rows,
    "copy": Work.copy,
    "pipeline": Work.pipeline,
    "savepoint": Work.savepoint,
    "savepoint, undone": Work.savepoint_undone,
    "transaction()": Work.transaction,
    "transaction(), undone": Work.transaction_undone,
    "stream": Work.stream,
    "server cursor": Work.server_cursor,
    "select": Work.select,
    "type": lambda work: work.wait(TypeInfo.fetch(work.driver, "int4")),
    "status": lambda work: work.driver.info.transaction_status,
}
COMMITS: dict[str, Callable[[Work], Any]] = {
    "commit()": _committing(lambda work: work.wait(work.driver.commit())),
    "text COMMIT": _committing(lambda work: work.tx.exec_driver_sql("COMMIT")),
    "driver's text END": _committing(lambda work: work.execute("end;")),
    "COMMIT AND CHAIN": _committing(lambda work: work.execute("COMMIT AND CHAIN")),
    "commit() in a pipeline": lambda work: work.pipeline(then=_committing(lambda one: one.wait(one.driver.commit()))),
    "text COMMIT in a pipeline": lambda work: work.pipeline(then=_committing(lambda one: one.execute("COMMIT"))),
    "rollback()": Work.rollback,
}
# Behind these SQLAlchemy takes no more.
LAST: dict[str, Callable[[Work], Any]] = {
    "tx.commit()": _committing(lambda work: work.tx.commit()),
    "a change of mind": Work.change_mind,
}
STEPS |= COMMITS | LAST


def enter(book: Book, way: Way, work: Work) -> None:
    """Do a unit, and enter into the book what its caller is told. Raises AssertionError for what must not be told."""
    try:
        _do(way, work)
    except UnwantedError:
        pass
    except (exc.DBAPIError, psycopg.Error, psycopg.Rollback, OutcomeUnknownError) as error:
        _fail(book, way, work, error)
    else:
        book.certain |= work.pending
    book.certain |= work.certain


def _fail(book: Book, way: Way, work: Work, error: Exception) -> None:
    book.lost.append(error)
    if isinstance(error, OutcomeUnknownError):
        assert work.commits, "unknown, and no COMMIT was under way"
        book.unknown.append(work.pending)
    elif not isinstance(error, psycopg.Rollback):  # which psycopg lets through where the connection is lost
        is_lost = isinstance(getattr(error, "orig", error), psycopg.OperationalError)
        assert is_lost, f"a lost connection is told as {type(error).__name__}: {error}"
        assert way != "run" or work.has_committed, f"run() gave up before anything was committed: {error}"


def _do(way: Way, work: Work) -> None:
    match way:
        case "run":
            db.run(work)
        case "begin":
            with db.begin() as tx:
                work(tx)
        case "session":
            with db.session() as session:
                work(session.connection())
