"""How long an invocation may still take, and how much of that a step may use. Pure: values and a clock in, values out.

The deadline only ever shortens: every function takes the upper bound that the settings name and gives that or less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from db.errors import DeadlineError

if TYPE_CHECKING:
    from collections.abc import Callable

# Of a statement's limit, so that 55P03 (lock_not_available) comes before 57014 (query_canceled).
_LOCK_SHARE = 0.9
_MOMENT_S = 0.05
# PostgreSQL's limits are milliseconds in 32 bits, and so is what a socket is waited for.
_MOST_S = (2**31 - 1) // 1000


@dataclass(frozen=True, slots=True)
class Deadline:
    """The wall-clock second at which Lambda ends the invocation: a monotonic clock may stop while it is frozen.

    ``length_s`` is how long that was when it was asked for, and there is never more: the clock may be set back.
    """

    at: float
    length_s: float = field(default=math.inf, compare=False)

    @classmethod
    def from_context(cls, context: object, *, now: float) -> Deadline | None:
        """None where ``context`` does not tell how much time is left, as what unit tests call handlers with."""
        ask = getattr(context, "get_remaining_time_in_millis", None)
        left_ms = ask() if callable(ask) else None
        return cls.after(left_ms / 1000, now=now) if isinstance(left_ms, (int, float)) else None

    @classmethod
    def after(cls, length_s: float, *, now: float) -> Deadline:
        """In ``length_s``, or in 24 days where that is longer, as a context that stands for Lambda's may say."""
        length_s = min(_MOST_S, length_s)  # in this order: what is no number is longer, too
        return cls(at=now + length_s, length_s=length_s)

    def left_s(self, now: float) -> float:
        """Seconds until then, below zero past it."""
        return min(self.at - now, self.length_s)


def usable_s(deadline: Deadline | None, *, now: float, reserve_s: float, at_most_s: float) -> float:
    """Seconds that the next step may take: what the deadline leaves after ``reserve_s``, at most ``at_most_s``.

    ``reserve_s`` is what the handler keeps to answer after its last statement was cancelled. Outside an invocation
    (``deadline`` is None) it is ``at_most_s``. Raises DeadlineError where nothing is left.
    """
    if deadline is None:
        return at_most_s
    in_all_s = min(deadline.at - now, deadline.length_s)  # as left_s(), which were a call
    left_s = in_all_s - reserve_s
    if left_s <= 0.0:
        raise DeadlineError(
            f"{max(in_all_s, 0):.3f} s are left of the invocation and {reserve_s:.3f} s are kept to answer in "
            "(DB_DEADLINE_RESERVE_S): nothing was sent to the database"
        )
    return min(left_s, at_most_s)


class Limits(NamedTuple):
    """How long the server may take over what a flight asks of it, in seconds. None: as long as it likes."""

    statement_s: float
    lock_s: float
    transaction_s: float | None = None


def limits(
    deadline: Deadline | None,
    *,
    now: float,
    reserve_s: float,
    statement_s: float,
    lock_s: float,
    bounds_transaction: bool,
) -> Limits:
    """The limits for a flight that leaves ``now``; ``statement_s`` and ``lock_s`` are upper bounds.

    A wait for a lock ends a little before its statement would, so that the error names the lock. A transaction ends
    with half of the reserve left, later than a statement's own limit: cancelling that one is gentler than ending the
    session. Raises DeadlineError where nothing is left.
    """
    statement_s = usable_s(deadline, now=now, reserve_s=reserve_s, at_most_s=statement_s)
    transaction_s = deadline.left_s(now) - reserve_s * 0.5 if deadline is not None and bounds_transaction else None
    return Limits(statement_s, min(lock_s, statement_s * _LOCK_SHARE), transaction_s)


class Bounds:
    """The upper bounds that settings name: the limits outside of an invocation, which cuts them to what it has left."""

    __slots__ = ("_lock_s", "_statement_s", "_without_deadline", "reserve_s")

    def __init__(self, *, reserve_s: float, statement_s: float, lock_s: float) -> None:
        self.reserve_s, self._statement_s, self._lock_s = reserve_s, statement_s, lock_s
        self._without_deadline = limits(
            None, now=0.0, reserve_s=reserve_s, statement_s=statement_s, lock_s=lock_s, bounds_transaction=False
        )

    def limits(self, deadline: Deadline | None, clock: Callable[[], float], *, bounds_transaction: bool) -> Limits:
        """The limits for a flight that leaves now. Raises DeadlineError."""
        if deadline is None:
            return self._without_deadline
        return limits(
            deadline,
            now=clock(),
            reserve_s=self.reserve_s,
            statement_s=self._statement_s,
            lock_s=self._lock_s,
            bounds_transaction=bounds_transaction,
        )


def patience_s(deadline: Deadline | None, *, now: float, reserve_s: float) -> float | None:
    """Seconds to wait for an answer that the server should have cut short itself: to the last quarter of the reserve.

    It is for a peer that has gone silent, so it never gives less than a moment, in which an answer may be read.
    """
    if deadline is None:
        return None
    return max(min(deadline.at - now, deadline.length_s) - reserve_s * 0.25, _MOMENT_S)
