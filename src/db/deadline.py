"""How long an invocation may still take, and how much of that a step may use. Pure: values and a clock in, values out.

The deadline only ever shortens: every function takes the upper bound that the settings name and gives that or less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .errors import DeadlineError


class LambdaContext(Protocol):
    """The part of the Lambda context object that is read here."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int: ...


@dataclass(frozen=True)
class Deadline:
    """The wall-clock second at which Lambda ends the invocation: a monotonic clock may stop while it is frozen."""

    at: float

    @classmethod
    def from_context(cls, context: LambdaContext, *, now: float) -> Deadline:
        return cls(at=now + context.get_remaining_time_in_millis() / 1000)


def usable_s(deadline: Deadline | None, *, now: float, reserve_s: float, at_most_s: float) -> float:
    """Seconds that the next step may take: what the deadline leaves after ``reserve_s``, at most ``at_most_s``.

    ``reserve_s`` is what the handler keeps to answer after its last statement was cancelled. Outside an invocation
    (``deadline`` is None) it is ``at_most_s``. Raises DeadlineError where nothing is left.
    """
    if deadline is None:
        return at_most_s
    left_s = deadline.at - now - reserve_s
    if left_s <= 0:
        raise DeadlineError(
            f"{max(deadline.at - now, 0):.3f} s are left of the invocation and {reserve_s:.3f} s are kept to answer in "
            "(DB_DEADLINE_RESERVE_S): nothing was sent to the database"
        )
    return min(left_s, at_most_s)
