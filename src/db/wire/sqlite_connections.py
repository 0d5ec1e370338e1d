"""sqlite3's connection while a unit of work holds it: it begins, limits and ends as one of psycopg's would.

sqlite3's own handling of transactions is off, which begins one before some statements and not before others. BEGIN goes
with the first statement, as in ``deferred_begin``: a transaction in which nothing runs is none.
"""

from __future__ import annotations

import contextlib
import math
import sqlite3
import time
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from db.errors import ASKED_TO_BE_READ_ONLY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from db.timing.deadline import Limits

    from .commit_outcome import Unit

T = TypeVar("T")
# A reader sees one state from its first statement on, and writers go on meanwhile.
_READING = "BEGIN"
# It takes the one writer's place at once, and waits for it. A reader that begins to write is refused without a wait
# (SQLITE_BUSY_SNAPSHOT) where another has written since it began.
_WRITING = "BEGIN IMMEDIATE"
# Instructions of SQLite's machine between two looks at the clock: some tenth of a millisecond.
_LOOKS_EVERY = 10_000
# As sqlite3.connect has it.
_PLAIN_BUSY_MS = 5_000
_FAILED = "current transaction is aborted, commands ignored until end of transaction block"
_ENDED = "the transaction of the unit of work has ended within its block: commands ignored"


class Prologue(Protocol):
    """What a unit of work says of its limits."""

    tenant: str | None

    def tell(self, tenant: str | None) -> None: ...

    def limits_now(self) -> Limits: ...


class _Clock:
    """Until when a statement may run. No connection, so that a connection's handler does not hold the connection."""

    until = math.inf

    def is_over(self) -> bool:
        return time.monotonic() > self.until


class UnitCursor(sqlite3.Cursor):
    """A cursor whose statements bring along what is due on their connection."""

    connection: UnitConnection

    def execute(self, sql: str, parameters: Any = (), /) -> UnitCursor:
        with self.connection.statement():
            return super().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Any, /) -> UnitCursor:
        with self.connection.statement():
            return super().executemany(sql, parameters)

    # SQLite computes a row when it is asked for.

    def fetchone(self) -> Any:
        with self.connection.rows():
            return super().fetchone()

    def fetchmany(self, size: int | None = None) -> list[Any]:
        with self.connection.rows():
            return super().fetchmany(self.arraysize if size is None else size)

    def fetchall(self) -> list[Any]:
        with self.connection.rows():
            return super().fetchall()


class UnitConnection(sqlite3.Connection):
    """``sqlite3.Connection`` that may work for a unit.

    ``prologue`` says its limits. ``begun`` counts the transactions that were opened for it. With ``single_reads`` a
    statement needs no BEGIN. ``autocommit_asked``: whoever has the plain engine wants no transaction.
    """

    prologue: Prologue | None = None
    unit: Unit | None = None
    single_reads = False
    begun = 0
    read_only = False
    autocommit_asked = False
    _due: str | None = None  # the BEGIN that goes ahead of the next statement
    _is_open = False  # that BEGIN was sent
    _statement_failed = False
    _undoes = False  # what comes next undoes a part, whatever has failed and however late it is
    _query_only = False
    _busy_ms = _PLAIN_BUSY_MS
    _held_for: tuple[float, float] | None = None  # limits of a session that changes the schema

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._clock = _Clock()
        self.set_progress_handler(self._clock.is_over, _LOOKS_EVERY)

    # What a unit of work calls.

    def serve(
        self,
        prologue: Prologue,
        _patience_s: Callable[[], float | None],
        unit: Unit,
        *,
        isolation: str | None,  # noqa: ARG002 - with one writer at a time, each level is kept
        read_only: bool,
        pooled: bool,  # noqa: ARG002 - there is no pooler before a file
    ) -> None:
        """Work for ``unit`` until ``leave()``. Nothing of what was set or left open before holds for it."""
        if self.in_transaction:
            self.commit()  # a listener's to this checkout
        self.prologue, self.unit, self.read_only = prologue, unit, read_only
        self.begun, self._statement_failed, self._due = 0, False, None
        unit.connection = self

    def leave(self) -> None:
        """The unit has ended, and with it what held for it."""
        self.prologue = self.unit = self._due = None
        self.single_reads = self.read_only = self._statement_failed = self._undoes = False
        self._clock.until = math.inf
        self._be_read_only(False)

    def parked(self) -> None:
        """A pool keeps the connection: nothing of a unit's is to be met on it."""
        if self.unit is not None:
            self.leave()  # what a signal's handler raised came in its way

    @property
    def failed(self) -> bool:
        """Whether what is done so far in this transaction cannot stand: as PostgreSQL has it, after any error in it."""
        return self._is_open and (self._statement_failed or not self.in_transaction)

    def recover(self) -> None:
        """A rollback to a savepoint comes next: what has failed is undone by it."""
        self._statement_failed, self._undoes = False, True

    def hold(self, statement_s: float, lock_s: float) -> None:
        """Serve what changes the schema: with these limits, and as a writer from each BEGIN on.

        Foreign keys are not looked at, as a table that is made anew is dropped in between.
        """
        self._held_for = statement_s, lock_s
        self._say("PRAGMA foreign_keys = OFF")

    def let_go(self) -> None:
        """That is over. A transaction that is open would have the other setting passed over, so it ends before."""
        self._held_for = None
        self.rollback()
        self._clock.until = math.inf
        self._say("PRAGMA foreign_keys = ON")

    # What the dialect calls.

    def begin_soon(self) -> None:
        """Send BEGIN ahead of the next statement."""
        if self.prologue is None and self.autocommit_asked:
            return
        is_writer = self._held_for is not None or (self.prologue is not None and not self.read_only)
        self._due = _WRITING if is_writer else _READING

    def cursor(self, factory: Any = UnitCursor) -> Any:
        return super().cursor(factory)

    def commit(self) -> None:
        self._due = None
        super().commit()
        self._is_open = False

    def rollback(self) -> None:
        self._due = None
        super().rollback()
        self._is_open = self._statement_failed = False

    # What its cursors call.

    @contextlib.contextmanager
    def statement(self) -> Iterator[None]:
        """A statement comes, with what is due ahead of it. Raises DeadlineError where there is no time for it."""
        self._prepare()
        with self.rows():
            if self._due is not None and not self.single_reads:
                self._say(self._due)
                self._due, self._is_open = None, True
                self.begun += 1
            yield

    @contextlib.contextmanager
    def rows(self) -> Iterator[None]:
        """Rows of a statement come, or its error."""
        try:
            yield
        except sqlite3.Error as error:
            self._statement_failed = self._is_open
            if self.read_only and getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_READONLY:
                error.sqlstate = "25006"  # type: ignore[attr-defined]  # read_only_sql_transaction, as on PostgreSQL
                setattr(error, ASKED_TO_BE_READ_ONLY, True)
            raise

    def _prepare(self) -> None:
        undoes, self._undoes = self._undoes, False
        busy_ms = _PLAIN_BUSY_MS
        if self.prologue is not None and not undoes:
            if self.failed:
                raise _refusal(_FAILED if self.in_transaction else _ENDED)
            limits = self.prologue.limits_now()
            busy_ms = max(int(limits.lock_s * 1000), 1)
            self._clock.until = time.monotonic() + limits.statement_s
        elif self._held_for is not None:
            statement_s, lock_s = self._held_for
            busy_ms = max(int(lock_s * 1000), 1)
            self._clock.until = time.monotonic() + statement_s
        else:
            self._clock.until = math.inf
        self._be_read_only(self.read_only)
        if busy_ms != self._busy_ms:
            self._say(f"PRAGMA busy_timeout = {busy_ms}")
            self._busy_ms = busy_ms

    def _be_read_only(self, read_only: bool) -> None:
        if read_only is not self._query_only:
            self._say(f"PRAGMA query_only = {'ON' if read_only else 'OFF'}")
            self._query_only = read_only

    def _say(self, sql: str) -> Sequence[Any] | None:
        """Run a statement of our own, past what is done for those of others."""
        cursor = sqlite3.Cursor(self)
        row: Sequence[Any] | None = cursor.execute(sql).fetchone()
        cursor.close()
        return row


def _refusal(words: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(words)
    error.sqlstate = "25P02"  # type: ignore[attr-defined]  # in_failed_sql_transaction
    return error


def set_up(connection: UnitConnection, *, in_memory: bool) -> None:
    """What holds for a connection as long as it lives."""
    plain = sqlite3.Cursor(connection)
    plain.execute("PRAGMA foreign_keys = ON")
    if not in_memory:
        # Readers do not wait for the writer, nor it for them. A file that cannot be written stays as it is.
        with contextlib.suppress(sqlite3.OperationalError):
            plain.execute("PRAGMA journal_mode = WAL")
    plain.close()


class MigrationLock:
    """One runner of migrations at a time: a lock on a file of its own, beside the database. It ends with the process.

    The database's own lock ends with each transaction, and a migration may have several.
    """

    def __init__(self, path: str | None) -> None:
        """``path`` is the database's; None, nobody else can see it."""
        self._beside = None
        if path is not None:
            self._beside = sqlite3.connect(f"{path}-migrations", timeout=0, isolation_level=None)

    def take(self) -> bool:
        """Whether it is ours now."""
        try:
            if self._beside is not None:
                self._beside.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                return False
            raise
        return True

    def release(self) -> None:
        """It is the next one's."""
        if self._beside is not None:
            self._beside.close()
