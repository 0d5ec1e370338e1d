"""Whom a connection of psycopg's works for, and what is due on it: what it was told and has not sent yet.

A unit of work takes it with ``serve`` and leaves it with ``leave``. What is sent, and when: ``deferred_begin``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import psycopg
from psycopg import capabilities, pq

from .commit_outcome import Unit
from .pipeline import listener
from .riders import Riders
from .session_leftovers import LEFT, note_left
from .statement_names import StatementNames

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

    from psycopg._connection_base import BaseConnection
    from psycopg._queries import PostgresQuery
    from psycopg.abc import Params, PQGen
    from psycopg.pq.abc import PGresult
    from sqlalchemy.engine import ExecutionContext

    from db.timing.deadline import Limits

    from .riders import Command
    from .search_path import PlainPrologue
    from .statement_kinds import Kind

    ConnectionMixin = BaseConnection[Any]
else:
    # Mixed into the sync class and its async twin, which is why it stands on neither here.
    ConnectionMixin = object

_OK = int(pq.ConnStatus.OK)
_IDLE = int(pq.TransactionStatus.IDLE)
_IN_TRANSACTION = int(pq.TransactionStatus.INTRANS)
_IN_ERROR = int(pq.TransactionStatus.INERROR)
# The execution option of statements that leave together with COMMIT.
LEAVES_TOGETHER = "db_leaves_together"
# On the execution context of a statement that has waited for others: for how long. It is no part of what it took.
WAITED_S = "db_waited_s"
_LEFT_OPEN = {_IN_TRANSACTION, _IN_ERROR}
_OPEN = {int(pq.TransactionStatus.ACTIVE), *_LEFT_OPEN}


class Prologue(Protocol):
    """What a unit of work says behind BEGIN. Asked when the flight leaves, so that it is true of the time left then.

    With ``listens``, the answer decides whether the server may be used at all.
    """

    listens: bool
    tenant: str | None

    def __call__(self, alone: bool) -> Command:
        """The statement. ``alone``, no BEGIN goes before it, and it makes what follows a read-only transaction."""
        ...

    def tell(self, tenant: str | None) -> None:
        """From the next transaction on, say this tenant."""
        ...

    def limits_now(self) -> Limits:
        """How long what is sent now may take, for a connection that cannot say it."""
        ...

    def heard(self, result: PGresult) -> bool:
        """Whether the server that gave this answer to it is to be used; a connection to another is closed."""
        ...


class Gathering:
    """Statements that are collected first, and leave together when the result of the first is asked for."""

    def __init__(self) -> None:
        self.statements: list[PostgresQuery] = []
        self.is_complete = False
        self.results: deque[list[PGresult]] | None = None


class Collecting(Protocol):
    """What takes statements in otherwise, and gives each its answer: ``departure``."""

    def execute(self, cursor: Any, query: str, params: Params | None, kind: Kind) -> PQGen[None]:
        """Execute a statement on ``cursor``. Raises NotYet where that is to be done again."""
        ...


class NotYet(Exception):  # noqa: N818 - it says where a statement stands, and is no failure
    """The statement was taken in, and nothing has been sent: it is to be executed again when ``wait`` has returned."""

    def __init__(self, wait: Callable[[ExecutionContext], None]) -> None:
        super().__init__("the statement waits for those that leave with it")
        self.wait = wait


class ServingState(ConnectionMixin):
    """What psycopg's connection classes have in common here: whom they serve, and whether they proved alive.

    ``prologue`` is sent behind each BEGIN. With ``single_reads`` a statement outside of a transaction needs no BEGIN:
    the prologue makes it a read-only transaction of its own, unless it is one that has to stand apart.
    ``patience_s`` gives the longest wait for an answer; beyond it the connection is closed. ``unit`` is told what
    becomes of each COMMIT. ``begun`` counts the transactions that were opened for it.
    """

    prologue: Prologue | None
    # Behind the BEGIN of a transaction that is no unit of work's: for a plain engine, where a session has no state.
    plain_prologue: PlainPrologue | None
    patience_s: Callable[[], float | None] | None
    unit: Unit | None
    single_reads: bool
    begun: int
    _plain: Unit | None  # what came of a COMMIT outside of any unit
    pools_notes: dict[Any, Any] | None  # what its pool knows of it, where one keeps it
    # Nothing has come back for this checkout yet: if a flight fails now, nothing was done for it.
    unproven: bool
    # It was closed here, in the middle of an answer that nobody waits for any more.
    abandoned: bool
    riders: Riders
    names: StatementNames | None  # what psycopg has as its _prepared, where libpq can close a name
    hears: Callable[[float], object]  # called with 0, whether its socket has something to say
    gathering: Gathering | Collecting | None  # where statements that leave together are collected
    serves_until: float  # wall clock; a pool replaces it then: its server may not be the right one for longer
    # A listener of the pool's left a transaction open: it is not the unit's, and ends ahead of that.
    _left_open: bool
    _is_pooled: bool  # the session is another client's in the next transaction

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Nothing of it stands at the class: each time, Python would look there first, which costs ten times as much.
        self.prologue = self.plain_prologue = self.patience_s = self.unit = self._plain = None
        self.single_reads, self.begun, self.gathering, self.pools_notes = False, 0, None, None
        self.unproven, self.abandoned, self.serves_until = True, False, math.inf
        self._left_open = self._is_pooled = False
        self.riders = Riders()
        self.names = None
        if capabilities.has_send_close_prepared():
            self._prepared = self.names = StatementNames()
        self.hears = listener(self.pgconn.socket)

    def serve(
        self,
        prologue: Prologue,
        patience_s: Callable[[], float | None],
        unit: Unit,
        *,
        isolation: str | None,
        read_only: bool,
        pooled: bool,
    ) -> None:
        """Work for ``unit`` until ``leave()``. Nothing of what was set or left open before holds for it."""
        self.prologue, self.patience_s, self.unit = prologue, patience_s, unit
        unit.connection = self
        # Not by psycopg's setters, each of which takes a lock and a generator to see that there is no transaction.
        self._autocommit, self._deferrable = False, None
        if isolation is None:
            self._isolation_level = None
            self._begin_statement = b"BEGIN READ ONLY" if read_only else b"BEGIN"
        else:
            self._isolation_level, self._begin_statement = psycopg.IsolationLevel[isolation.replace(" ", "_")], b""
        self._read_only = True if read_only else None
        self._left_open = self.pgconn.transaction_status in _LEFT_OPEN
        self._is_pooled = pooled
        self.begun = 0
        if self.pools_notes is not None and LEFT in self.pools_notes:
            del self.pools_notes[LEFT]  # said by a listener to this checkout, as to every other

    def noted(self) -> Unit:
        """Where it is written down what comes of a COMMIT."""
        if self.unit is not None:
            return self.unit
        if self._plain is None:
            self._plain = Unit()
        return self._plain

    def is_commit_unknown(self) -> bool:
        """Whether a COMMIT outside of any unit was cut off: what ends the transaction later knows no more of it."""
        return self._plain is not None and self._plain.outcome_unknown

    def note_left(self, kind: str) -> None:
        """A statement leaves this on the session."""
        if self.unit is not None:
            self.unit.leaves.add(kind)
        else:
            note_left(self.pools_notes, kind)

    def leave(self) -> None:
        """The unit has ended, and with it what held for it."""
        if self.pgconn.transaction_status in _OPEN:
            # Nobody ended its transaction, as where a signal's handler raised ahead of that. Whoever comes next must
            # neither commit it nor work in it.
            self.abandon()
        self.prologue = self.patience_s = self.unit = self.gathering = None
        self.single_reads = self._is_pooled = self._left_open = False
        self._autocommit, self._deferrable, self._begin_statement = False, None, b""
        self._isolation_level = self._read_only = None
        if self.riders.begun:
            self.riders.clear()

    def parked(self) -> None:
        """A pool keeps the connection: it may die before its next user has sent anything."""
        if self.unit is not None:
            self.leave()  # what a signal's handler raised came in its way
        if self.riders.begun:
            self.riders.clear()
        self.unproven, self._plain = True, None

    def drop_due(self) -> None:
        """The transaction has ended, and what was due with it."""
        if self.riders.begun:
            self.riders.clear()

    def drop_if_ended(self) -> None:
        """Likewise, where a command may have ended it: PREPARE TRANSACTION does, and so does a COMMIT that fails."""
        if self.riders.begun and self.pgconn.transaction_status == _IDLE:
            self.riders.clear()

    def take_over(self, stale: ServingState) -> None:
        """Stand in for ``stale``, which died before it did anything: the transaction to come is to be the same."""
        self.prologue, self.patience_s, self.unit = stale.prologue, stale.patience_s, stale.unit
        self.single_reads, self.riders = stale.single_reads, stale.riders
        self.riders.renew()
        self.gathering = stale.gathering
        if self.unit is not None:
            self.unit.connection = self
        self._autocommit, self._begin_statement = stale._autocommit, stale._begin_statement
        self._isolation_level, self._read_only = stale._isolation_level, stale._read_only
        self._deferrable = stale._deferrable
        self._is_pooled = stale._is_pooled
        self._left_open = self.pgconn.transaction_status in _LEFT_OPEN

    def is_quiet(self) -> bool:
        """Whether the socket is open and has nothing to say, as one that lives, or that died in silence. No trip."""
        return self.pgconn.status == _OK and not self.hears(0)

    @property
    def failed(self) -> bool:
        """Whether the server refuses everything but a rollback, and none is due."""
        return self.pgconn.transaction_status == _IN_ERROR and not self.riders.mends

    @property
    def transaction_status(self) -> pq.TransactionStatus:
        """The status as it would be, had all been sent that is due."""
        status = pq.TransactionStatus(self.pgconn.transaction_status)
        if (status == _IDLE and self.riders.begun) or (status == _IN_ERROR and self.riders.mends):
            return pq.TransactionStatus.INTRANS
        return status

    def must_open(self) -> bool:
        """Whether the next statement begins a transaction."""
        return not self._autocommit and (self._left_open or self.pgconn.transaction_status == _IDLE)

    def opens_with_query(self) -> bool:
        """Whether a prologue goes with BEGIN, behind which the server takes no SET TRANSACTION any more."""
        return self.prologue is not None or self.plain_prologue is not None

    def is_waiting(self) -> bool:
        """Whether the transaction is further than the server knows, so that its status would mislead."""
        if self._pipeline is not None:
            return False
        return bool(self.riders.due) or (self.riders.begun and self.must_open())

    def has_unit_to_open(self) -> bool:
        """Whether a unit of work has sent nothing yet: all that is done in it is undone with it."""
        return self.prologue is not None and not self.single_reads and self.must_open()

    def abandon(self) -> None:
        """Close the connection in the middle of an answer: nobody can read on, and nothing of it may be kept."""
        self.abandoned = True
        self.pgconn.finish()
