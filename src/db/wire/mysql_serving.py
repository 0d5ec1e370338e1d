"""Whom a connection works for, and what it says for that one ahead of a statement.

A unit's first statement travels behind its opening, and what must not outlive the unit is taken back behind its
COMMIT. A statement of a ``db.read`` has both around it: one round trip.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

from pymysql import err
from pymysql.constants import SERVER_STATUS

from db.errors import ASKED_TO_BE_READ_ONLY, ConfigurationError

from .mysql_limits import Limited
from .session_leftovers import LEFT, note_left

if TYPE_CHECKING:
    from collections.abc import Callable

    from db.timing.deadline import Limits

    from .commit_outcome import Unit
    from .mysql_text import Kind

_LOCK_TIMEOUT, _READ_ONLY = 1205, 1792
# InnoDB rolls back all of the transaction: a deadlock, no room for locks, a row that changed since the snapshot.
_ROLLED_BACK = {1213, 1206, 1020}
_ENDED = "the server has rolled back the whole transaction ({}): nothing more can be done in it"


class Prologue(Protocol):
    """What a unit of work says of its limits."""

    tenant: str | None

    def tell(self, tenant: str | None) -> None: ...

    def limits_now(self) -> Limits: ...


class Serving(Limited):
    """A connection that may work for a unit.

    ``prologue`` says its limits. ``begun`` counts the transactions that were opened for it. With ``single_reads`` each
    statement is a read-only transaction of its own.
    """

    prologue: Prologue | None = None
    unit: Unit | None = None
    single_reads = False
    begun = 0
    serves_until = math.inf
    pools_notes: dict[Any, Any] | None = None
    level: str | None = None  # what whoever has the plain engine asked for
    _isolation: str | None = None
    _plain: Unit | None = None  # what came of a COMMIT outside of any unit
    _wrote = False  # something in this transaction that its end decides about
    _rolled_back: int | None = None  # the server ended the transaction, by this error

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """``Session``'s."""
        self._due: list[bytes] = []  # what is about savepoints, and goes with the next statement
        super().__init__(*args, **kwargs)

    def serve(
        self,
        prologue: Prologue,
        patience_s: Callable[[], float | None],
        unit: Unit,
        *,
        isolation: str | None,
        read_only: bool,
        pooled: bool,  # noqa: ARG002 - no pooler is served before this engine
    ) -> None:
        """Work for ``unit`` until ``leave()``. Nothing of what was set or left open before holds for it."""
        if self._has_transaction():
            try:
                self.rollback()  # a listener's to this checkout
            except err.MySQLError:
                self._force_close()  # which is what the first statement finds
        self.prologue, self.unit, self._patience_s = prologue, unit, patience_s
        self._isolation, self.read_only = isolation, read_only
        self.begun, self._rolled_back, self._wrote = 0, None, False
        unit.connection = self
        if self.pools_notes is not None and LEFT in self.pools_notes:
            del self.pools_notes[LEFT]  # said by a listener to this checkout, as to every other

    def leave(self) -> None:
        """The unit has ended, and with it what held for it."""
        if self._sock is not None and (self._is_open or self._is_limited):
            # Nobody ended its transaction, or its limits: whoever comes next must not work within them.
            self.abandon()
        self.prologue = self.unit = self._patience_s = self._isolation = self._rolled_back = None
        self.single_reads = self.read_only = self._is_open = self._wrote = False
        self._statement_s, self._read_timeout = math.inf, None

    def parked(self) -> None:
        """A pool keeps the connection: it may die before its next user has sent anything."""
        if self.unit is not None:
            self.leave()  # what a signal's handler raised came in its way
        self.unproven, self.undone, self._plain = True, True, None

    def take_over(self, stale: Serving) -> None:
        """Stand in for ``stale``, which died before it did anything: the transaction to come is to be the same."""
        if stale.unit is None:
            return
        self.prologue, self.unit, self._patience_s = stale.prologue, stale.unit, stale._patience_s
        self.single_reads, self.read_only, self._isolation = stale.single_reads, stale.read_only, stale._isolation
        self._due = stale._due
        self.unit.connection = self

    @property
    def failed(self) -> bool:
        """Whether the server has ended the transaction: what was done in it is undone, and no COMMIT brings it back.

        Any other error undoes its statement alone, here.
        """
        return self._rolled_back is not None

    # The driver's own ways to say what the texts below would leave.

    def autocommit(self, value: bool) -> None:
        """PyMySQL's, refused where a block begins and ends the transaction."""
        if self.unit is not None:
            problem = "autocommit within a unit of work: its block begins and ends the transaction"
            raise ConfigurationError([f"{problem}; what cannot run in one goes over db.engine()"])
        self._note_left("SET")
        self.set_autocommit(value)

    def set_autocommit(self, value: bool) -> None:
        """For who takes it back again: SQLAlchemy's option of a connection."""
        super().autocommit(value)

    def select_db(self, db: str) -> None:
        """PyMySQL's."""
        self._note_left("USE")
        super().select_db(db)

    def set_character_set(self, charset: str, collation: str | None = None) -> None:
        """``Session``'s; whoever asks for another one than the connect did has it alone."""
        if self.facts:
            self._note_left("SET")
            self._is_recoded = True
        super().set_character_set(charset, collation)

    def _look_at(self, kind: Kind) -> None:
        """Note what a statement leaves, and refuse what would break a promise of the unit's."""
        if kind.leaves is not None:
            self._note_left(kind.leaves)
        if self._rolled_back is not None:
            raise err.InternalError(self._rolled_back, _ENDED.format(f"error {self._rolled_back}"))
        if kind.recodes:
            self._is_recoded = True
        if self.unit is None:
            return
        self._refuse_in_unit(kind)
        if kind.commits:
            self.unit.committed = True
        elif not (kind.reads or kind.waits):
            self._wrote = True

    def _refuse_in_unit(self, kind: Kind) -> None:
        if self._is_streaming and kind.named != "ROLLBACK TO":
            problem = "a statement whose rows are streamed is not read to its end, and the next one would discard them"
            raise ConfigurationError([f"{problem}: read on, or close its result"])
        if kind.ends:
            problem = f"{kind.named} within a unit of work: its block begins and ends the transaction"
            raise ConfigurationError([f"{problem}, and begin_nested() undoes a part"])
        if kind.commits and self.read_only:
            raise ConfigurationError([f"{kind.named} in a unit of work that only reads"])
        if kind.commits and self._wrote:
            problem = f"{kind.named} would commit what the unit of work has written before it"
            raise ConfigurationError([f"{problem}: give it a unit of its own"])

    def _look_back(self, kind: Kind, *, wrote: bool) -> None:
        """A statement has ended the unit's transaction, be it by what its text does not tell: a procedure's COMMIT."""
        if self.unit is None:
            return
        self.unit.committed = True
        if self._isolation is not None:
            self._due.append(self._isolating())  # of the unit, and not of its first transaction alone
        if wrote and not kind.commits:
            problem = f"{kind.named} has ended the transaction: what the unit of work had written before it is done"
            raise ConfigurationError([f"{problem}; give it a unit of its own"])

    def next_result(self, unbuffered: bool = False) -> int:
        """PyMySQL's, of a procedure that has several."""
        was_within = self._is_within
        try:
            affected = super().next_result(unbuffered)
        except err.MySQLError as error:
            self._heard(error)
            raise
        if was_within and not self._is_within and self.unit is not None:
            self.unit.committed = True
        return int(affected)

    @property
    def _is_within(self) -> bool:
        """Whether the server said, with its last answer, that there is a transaction."""
        return bool(self.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS)

    def _isolating(self) -> bytes:
        return f"SET TRANSACTION ISOLATION LEVEL {self._isolation}".encode()

    def _opening(self) -> list[bytes]:
        """What has to go ahead of the next statement."""
        if self.prologue is None or self._is_open:
            return []
        limits = self.prologue.limits_now()
        opening = [self._limiting(limits)]
        if self._isolation is not None:
            opening.append(self._isolating())
        return [*opening, b"START TRANSACTION"]

    def _closing(self, end: bytes) -> list[bytes]:
        """``end``, and what takes a unit's limits off the session again."""
        return [end, self._unlimiting()] if self._is_limited or self.prologue is not None else [end]

    def _note_opening(self, riding: Kind | None) -> None:
        # The end of the connection undoes what rides, as it undoes what opens a transaction and nothing else.
        self.undone = True
        self._is_open = self._is_limited = self._dirty = True
        if riding is None or not (self.single_reads and riding.reads):
            self.begun += 1

    def _note_end(self) -> None:
        self._due.clear()
        self._is_open = self._dirty = self._wrote = self._is_limited = False
        self._rolled_back = None

    def _note_left(self, kind: str) -> None:
        if self.unit is not None:
            self.unit.leaves.add(kind)
        else:
            note_left(self.pools_notes, kind)

    def _heard(self, error: BaseException) -> None:
        """``error`` came for a statement: is it one that ended the whole transaction?"""
        if self._sock is not None:
            self._due.clear()  # the error is the statement's own: what was ahead of it has been run
        code = error.args[0] if error.args else None
        if code in _ROLLED_BACK or (code == _LOCK_TIMEOUT and self.facts.get("innodb_rollback_on_timeout")):
            if self.unit is not None:
                self._rolled_back = int(code)
                self.begun += 1  # what would come next were in another one
        elif code == _READ_ONLY and self.read_only:
            setattr(error, ASKED_TO_BE_READ_ONLY, True)
        if self._sock is not None:
            self.unproven = False
