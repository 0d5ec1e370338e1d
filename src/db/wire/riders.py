"""Riders: commands that wait for the next flight instead of taking one of their own, savepoints above all. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    # A statement's text with $1, $2, … and its values in text format; no values for what only steers the transaction.
    Command = tuple[bytes, Sequence[bytes | None] | None]

# With a name and nothing behind it: what waits may share a text with other commands, which is no one's place to add to.
_SAVEPOINT = re.compile(r"""(SAVEPOINT|RELEASE SAVEPOINT|ROLLBACK TO SAVEPOINT) ([^\W\d][\w$]*|"(?:[^"\s\0]|"")+");?""")


class Riders:
    """Commands that wait for the next flight: savepoints above all; and the savepoints that there are by then.

    ``modes`` are those that have to stand before the transaction's first query. ``closing`` names cursors that nobody
    reads any more. ``begun``: a command was taken in since the transaction before, and would have begun this one, had
    it been sent: nobody may take the connection for idle.
    """

    def __init__(self) -> None:
        self.due: list[Command] = []
        self.modes: list[Command] = []
        self.closing: list[bytes] = []
        self.begun = False
        # In the order in which they were made, and the place in ``due`` of what makes them: None where that was sent.
        self._stack: list[tuple[str, int | None]] = []
        self._before: tuple[list[Command], list[Command], list[tuple[str, int | None]]] = ([], [], [])

    def add(self, text: bytes, values: Sequence[bytes | None]) -> None:
        """Let a statement without rows ride with the next, or with COMMIT. An error of its own is raised there."""
        self.begun = True
        self.due.append((text, values))

    def add_mode(self, text: bytes) -> None:
        """Let a SET TRANSACTION go before the transaction's first query. An error of its own is raised there."""
        self.begun = True
        self.modes.append((text, None))

    def close(self, name: bytes) -> None:
        """Let the end of a cursor go before the next statement. It ends with its transaction by itself."""
        self.begun = True
        self.closing.append(name)

    def postpone(self, text: str, *, failed: bool) -> bool:
        """Whether ``text`` is a savepoint command that can wait, since the server cannot but accept it.

        ``failed``: the server would refuse everything but a rollback now, so that its refusal belongs to this command.
        """
        match = _SAVEPOINT.fullmatch(text)
        if match is None:
            return False
        verb, name = match.groups()
        if verb == "SAVEPOINT":
            if failed:
                return False
            self.begun = True
            self._stack.append((name, len(self.due)))
            self.due.append((text.encode(), None))
            return True
        level = self._level(name)
        released = verb == "RELEASE SAVEPOINT"
        if level is None or (failed and released):
            return False
        _, made_at = self._stack[level]
        del self._stack[level if released else level + 1 :]
        if made_at is None or (released and self._has_statements(made_at)):
            self.due.append((text.encode(), None))
        else:
            # Nothing was sent inside of it: what never began needs no end.
            del self.due[made_at if released else made_at + 1 :]
        return True

    def _has_statements(self, start: int) -> bool:
        return any(values is not None for _, values in self.due[start:])

    def _level(self, name: str) -> int | None:
        return next((n for n in reversed(range(len(self._stack))) if self._stack[n][0] == name), None)

    def sent(self) -> None:
        """What was due is on its way."""
        self.closing = []
        if self.due or self.modes:
            self._before = self.due, self.modes, self._stack
            self.due, self.modes, self._stack = [], [], [(name, None) for name, _ in self._stack]

    def renew(self) -> None:
        """What was sent last has come to nothing, and is due again."""
        self.due, self.modes, self._stack = self._before

    @property
    def mends(self) -> bool:
        """Whether what is due brings a failed transaction back."""
        return any(text.startswith(b"ROLLBACK TO ") for text, _ in self.due)

    def clear(self) -> None:
        """The transaction has ended, and they with it."""
        self.due, self.modes, self.closing, self._stack = [], [], [], []
        self._before = [], [], []
        self.begun = False
