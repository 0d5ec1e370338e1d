"""How often each statement ran in one invocation: what finds a query in a loop (N+1).

Every cold start loads this, so fingerprints, whose patterns take 10 ms to compile, wait until there is one to show.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from db.timing.invocation import NONE, current_invocation

if TYPE_CHECKING:
    from types import FrameType
    from typing import Self

    from .fingerprint import Fingerprint

# Texts remembered for an invocation: one whose texts hold values could otherwise fill the memory with them.
MOST_TEXTS = 1000
# Whose frames are not the caller's: this package, SQLAlchemy, and the decorators and context managers between.
_NOT_CALLERS = ("db.", "sqlalchemy.", "contextlib", "functools", "contextvars")
# A block of the handler runs them one by one because it is told to.
_SAVEPOINTS = ("SAVEPOINT ", "RELEASE SAVEPOINT ", "ROLLBACK TO SAVEPOINT ")


class Runs:
    """A statement that ran ``count`` times, ``duration_ms`` in all; ``place`` is a ``file:line`` that ran it."""

    __slots__ = ("count", "duration_ms", "place")

    def __init__(self, duration_ms: float = 0.0, *, count: int = 0, place: str | None = None) -> None:
        self.count = count
        self.duration_ms = duration_ms
        self.place = place

    def __iadd__(self, other: Runs) -> Self:
        self.count += other.count
        self.duration_ms += other.duration_ms
        self.place = self.place or other.place
        return self


class Repeats:
    """The statements of one invocation, by their text: what groups them by fingerprint waits until somebody asks."""

    __slots__ = ("_runs",)

    def __init__(self) -> None:
        self._runs: dict[str, Runs] = {}

    def add(self, statement: str, duration_ms: float, *, budget: int) -> None:
        """Count a run of ``statement``. The first beyond ``budget`` notes who called."""
        runs = self._runs.get(statement)
        if runs is None:
            if len(self._runs) < MOST_TEXTS:
                self._runs[statement] = Runs(duration_ms, count=1)
            return
        runs.count += 1
        runs.duration_ms += duration_ms
        if runs.count == budget + 1:
            runs.place = _place(sys._getframe(1))  # noqa: SLF001 - inspect.stack() reads every source file

    def beyond(self, budget: int) -> list[tuple[Fingerprint, Runs]]:
        """The statements that ran more than ``budget`` times, as one where they differ in values; longest first."""
        seen = list(self._runs.items())  # a thread that the handler left behind may go on adding
        if sum(runs.count for _, runs in seen) <= budget:
            return []
        from .fingerprint import fingerprint

        groups: dict[Fingerprint, Runs] = {}
        for statement, runs in seen:
            if not statement.startswith(_SAVEPOINTS):
                group = groups.setdefault(fingerprint(statement), Runs())
                group += runs
        found = ((of, group) for of, group in groups.items() if group.count > budget)
        return sorted(found, key=lambda item: -item[1].duration_ms)


def repeats_so_far(database: str | None) -> Repeats | None:
    """Those of the invocation that runs, on ``database``; None outside of any."""
    invocation = current_invocation()
    if invocation is NONE:
        return None
    key = __name__ if database is None else f"{__name__} {database}"
    kept: Repeats | None = invocation.kept.get(key)
    # Threads of one handler may come at the same time: they share what the first has made.
    return kept if kept is not None else invocation.kept.setdefault(key, Repeats())


def _place(frame: FrameType | None) -> str | None:
    """The nearest caller outside of the layer; None where a frame cannot be followed, as from an async statement."""
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module != "db" and not module.startswith(_NOT_CALLERS):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return None
