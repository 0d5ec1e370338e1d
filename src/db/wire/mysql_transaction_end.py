"""How a transaction ends on MySQL, what goes behind that in its packet, and what is known of a COMMIT."""

from __future__ import annotations

from pymysql import err

from db.errors import CAME_IN_COMMIT

from .commit_outcome import Unit
from .mysql_serving import Serving
from .mysql_text import kind_of

# The server ends it while nobody speaks, and says so ahead of its end: what was sent behind that was not read.
_IDLE_END = 4031


class Ending(Serving):
    """A connection that notes whether its COMMIT was sent, and answered."""

    def commit(self) -> None:
        """PyMySQL's, with the unit's limits behind it. Nothing is sent where there is nothing to end."""
        if not self._has_transaction():
            self._note_end()
            return
        self._discard_unread()
        unit = self._noted()
        unit.outcome_unknown = True
        try:
            self._end(b"COMMIT")
        except BaseException as error:
            unit.commit_failed(error, refused=self._is_refusal(error))
            raise

    def rollback(self) -> None:
        """Likewise."""
        if self._sock is None and self._plain is not None and self._plain.outcome_unknown:
            error = err.InterfaceError(0, "")
            setattr(error, CAME_IN_COMMIT, True)  # it takes the place of the one that came there
            raise error
        if not self._has_transaction():
            self._note_end()
            return
        self._discard_unread()
        self._end(b"ROLLBACK")

    def begin(self) -> None:
        """PyMySQL's. A unit of work's opening goes with its first statement."""
        if self.prologue is None:
            super().begin()
            self._dirty = True

    def _end(self, end: bytes) -> None:
        statements = self._closing(end)
        # Of what is due, only what undoes something is missed by a COMMIT.
        due = (
            list(self._due)
            if end == b"COMMIT" and any(kind_of(one).waits and b"TO" in one.upper() for one in self._due)
            else []
        )
        self._be_patient()
        with self._whole():
            if len(statements) > 1 or due:
                self._allow_several(True)
            self._send(b"\n;".join([*due, *statements]))
            self._next_answers(len(due) + 1, more=len(statements) > 1)
        if end == b"COMMIT":
            self._noted().commit_answered(committed=not self.failed)
        try:
            with self._whole():
                self._next_answers(len(statements) - 1)
        except err.MySQLError:
            self.abandon()  # it has ended as asked; a session that keeps the limits is of no use to anybody
        self._note_end()

    def _noted(self) -> Unit:
        """Where it is written down what comes of a COMMIT."""
        if self.unit is not None:
            return self.unit
        if self._plain is None:
            self._plain = Unit()
        return self._plain

    def _is_refusal(self, error: BaseException) -> bool:
        """Whether ``error`` is the server's word that COMMIT did not take place."""
        if not isinstance(error, err.MySQLError):
            return False
        code = error.args[0] if error.args else 0
        if code == _IDLE_END:
            return True  # it had ended before the COMMIT came
        # 2000 to 2999 are the client's own, of a connection that is lost; the others, of a server that ends it.
        return self._sock is not None and not 2000 <= code < 3000 and code not in {1053, 1927, 0}  # noqa: PLR2004
