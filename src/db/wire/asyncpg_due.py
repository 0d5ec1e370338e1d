"""What goes ahead of the next statement on asyncpg, all of it in one simple query: BEGIN, prologue, savepoints. Pure.

A simple query may carry several commands, but no values beside its text and no rows back: so values are literals in it,
and all that is heard of its answers is the tag of the last.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .riders import Riders

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .riders import Command

# Between commands in one text: a comment at the end of one ends with its line.
SEPARATOR = "\n; "
# A quoted name or a literal, in which nothing is replaced; or the place of a value.
_PLACE = re.compile(r""""(?:[^"]|"")*"|'(?:[^']|'')*'|\$(\d+)""")


def literal(value: bytes | None) -> str:
    """``value`` as text in a statement: the same value whatever standard_conforming_strings is."""
    if value is None:
        return "NULL"
    text = value.decode()
    if "\0" in text:
        raise ValueError("a text of PostgreSQL's has no NUL in it")  # the protocol would end the statement there
    quoted = text.replace("'", "''")
    # As libpq's PQescapeLiteral: a backslash is said in the one syntax in which it means the same in both.
    return " E'" + quoted.replace("\\", "\\\\") + "'" if "\\" in quoted else f"'{quoted}'"


def with_literals(command: Command) -> str:
    """The text of ``command`` with its values in it."""
    text, values = command
    if not values:
        return text.decode()
    return _PLACE.sub(lambda place: place[0] if place[1] is None else literal(values[int(place[1]) - 1]), text.decode())


@dataclass(frozen=True)
class Opening:
    """BEGIN, kept back. ``says`` gives what follows it, as is true when it leaves.

    ``opened`` is told the tag of the last command, and ``failed`` what came instead; either may raise.
    """

    begin: str
    says: Callable[[], Sequence[Command]]
    opened: Callable[[str], None]
    failed: Callable[[BaseException], None]


class Due:
    """Commands that wait for the next statement.

    ``may_have_failed``: a statement of the transaction did, and so it. ``never_began``: its opening was refused as a
    whole, so that the server knows of none, and would run what follows by itself.
    """

    def __init__(self) -> None:
        self.opening: Opening | None = None
        self.riders = Riders()
        self.may_have_failed = self.never_began = False
        self._left = False

    def __bool__(self) -> bool:
        return self.opening is not None or bool(self.riders.due)

    @property
    def is_failed(self) -> bool:
        """Whether the server may refuse everything but a rollback, and none is due."""
        return self.never_began or (self.may_have_failed and not self.riders.mends)

    def take(self) -> list[str]:
        """What is due, which is on its way now."""
        riders, opening = self.riders, self.opening
        commands = [*riders.due]
        if opening is not None:
            says = opening.says()
            # The last of several is the one whose tag is heard.
            commands = [(opening.begin.encode(), None), *riders.modes, *says[:1], *commands, *says[1:]]
        self.opening, self._left = None, True
        riders.sent()
        return [with_literals(command).rstrip(";") for command in commands]

    def take_over(self, stale: Due) -> None:
        """Have due what ``stale`` had, which came to nothing; but for BEGIN, which is another connection's."""
        self.riders = stale.riders
        if stale._left:
            self.riders.renew()

    def clear(self) -> None:
        """The transaction has ended, and they with it."""
        self.opening = None
        self.may_have_failed = self.never_began = self._left = False
        if self.riders.begun:
            self.riders.clear()
