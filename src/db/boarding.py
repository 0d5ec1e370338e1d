"""What may travel together: which statements share a flight, and which savepoint commands can wait for one. Pure."""

from __future__ import annotations

import re

# What may share a flight: one statement, known by its first word. COPY breaks a pipeline, the text of two statements is
# refused by the extended protocol, and what ends or prepares the transaction must not be sent twice. The rest is sent
# behind an opening flight of its own, in psycopg's way, at one more trip.
_STANDS_APART = re.compile(
    r"[\s(]*(?:(?:copy|prepare|begin|start|commit|end|rollback|abort)\b|[^a-z\s(])|[\s(]*\Z", re.IGNORECASE
)
_SAVEPOINT = re.compile(r"(SAVEPOINT|RELEASE SAVEPOINT|ROLLBACK TO SAVEPOINT) (\S+)")


def may_share(text: str, *, has_params: bool) -> bool:
    """Whether a statement can travel behind BEGIN: a parameter proves that its text is one statement."""
    return not _STANDS_APART.match(text) and (has_params or ";" not in text)


class Savepoints:
    """Savepoint commands that wait for the next flight, and the savepoints that the transaction has by then."""

    def __init__(self) -> None:
        self.due: list[bytes] = []
        self._names: list[str] = []

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
            self._names.append(name)
            self.due.append(text.encode())
            return True
        if name not in self._names or (failed and verb == "RELEASE SAVEPOINT"):
            return False
        released = verb == "RELEASE SAVEPOINT"
        position = len(self._names) - 1 - self._names[::-1].index(name)
        del self._names[position if released else position + 1 :]
        opening = f"SAVEPOINT {name}".encode()
        if opening in self.due:
            # Nothing was sent inside of it: what never began needs no end.
            begun_at = len(self.due) - 1 - self.due[::-1].index(opening)
            del self.due[begun_at if released else begun_at + 1 :]
        else:
            self.due.append(text.encode())
        return True

    @property
    def mends(self) -> bool:
        """Whether what is due brings a failed transaction back."""
        return any(command.startswith(b"ROLLBACK TO ") for command in self.due)

    def clear(self) -> None:
        """The transaction has ended, and they with it."""
        self.due.clear()
        self._names.clear()
