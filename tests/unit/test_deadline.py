"""How the time of an invocation is shared out."""

import math
import random

import pytest

from db.errors import DeadlineError, Verdict
from db.timing.backoff import Backoff
from db.timing.deadline import Deadline, limits, patience_s, usable_s


class Context:
    aws_request_id = "r"

    def get_remaining_time_in_millis(self) -> int:
        return 2500


def test_the_deadline_is_a_wall_clock_second() -> None:
    """Lambda says what remains; what is kept is when it ends."""
    assert Deadline.from_context(Context(), now=1000.0) == Deadline(at=1002.5)


@pytest.mark.parametrize(
    ("left_s", "reserve_s", "at_most_s", "usable"),
    [(10.0, 0.5, 30.0, 9.5), (10.0, 0.5, 5.0, 5.0), (0.6, 0.5, 5.0, 0.1)],
)
def test_a_step_may_use_what_is_left_less_the_reserve(
    left_s: float, reserve_s: float, at_most_s: float, usable: float
) -> None:
    """The deadline shortens an upper bound, and never lengthens it."""
    deadline = Deadline(at=100.0 + left_s)
    assert usable_s(deadline, now=100.0, reserve_s=reserve_s, at_most_s=at_most_s) == pytest.approx(usable)


def test_a_clock_that_is_set_back_gives_no_time() -> None:
    """The invocation ends when Lambda said it would."""
    deadline = Deadline.from_context(Context(), now=1000.0)
    assert usable_s(deadline, now=1000.0 - 3600, reserve_s=0.5, at_most_s=30.0) == pytest.approx(2.0)


@pytest.mark.parametrize("left_ms", [2.0**31, 1e15, math.inf, math.nan])
def test_a_deadline_is_no_later_than_a_server_can_be_told(left_ms: float) -> None:
    """A context of a test's, or of a server that is no Lambda, may say anything."""

    class Context:
        def get_remaining_time_in_millis(self) -> float:
            return left_ms

    deadline = Deadline.from_context(Context(), now=1000.0)
    told = limits(deadline, now=1000.0, reserve_s=0.0, statement_s=5.0, lock_s=5.0, bounds_transaction=True)
    assert told.transaction_s is not None
    assert 0 < told.transaction_s * 1000 < 2**31
    assert patience_s(deadline, now=1000.0, reserve_s=0.0) == 2_147_483


def test_outside_an_invocation_the_upper_bound_holds() -> None:
    """A script has no deadline."""
    assert usable_s(None, now=0.0, reserve_s=0.5, at_most_s=30.0) == 30.0


@pytest.mark.parametrize("left_s", [0.5, 0.2, 0.0, -3.0])
def test_nothing_is_begun_within_the_reserve(left_s: float) -> None:
    """The error says how much was left and what is kept, and never a negative number."""
    with pytest.raises(DeadlineError, match=rf"^{max(left_s, 0):.3f} s are left .* 0\.500 s are kept"):
        usable_s(Deadline(at=left_s), now=0.0, reserve_s=0.5, at_most_s=30.0)


def test_delays_double_up_to_the_cap() -> None:
    """Full jitter: the draw decides within a ceiling that doubles."""
    backoff = Backoff(base_s=0.1, cap_s=0.5, attempts=9)
    ceilings = [backoff.delay_s(Verdict.RECONNECT, n, left_s=60, draw=lambda: 1.0) for n in range(1, 6)]
    assert ceilings == [0.1, 0.2, 0.4, 0.5, 0.5]
    assert backoff.delay_s(Verdict.RECONNECT, 3, left_s=60, draw=lambda: 0.25) == 0.1


@pytest.mark.parametrize("verdict", [Verdict.GIVE_UP, Verdict.OUTCOME_UNKNOWN])
def test_what_is_not_transient_is_not_tried_again(verdict: Verdict) -> None:
    """Neither a lasting failure nor an unknown outcome."""
    assert Backoff().delay_s(verdict, 1, left_s=60) is None


@pytest.mark.parametrize(("draw", "delay_s"), [(0.0, 0.1), (0.5, 0.15), (1.0, 0.2)])
def test_a_delay_is_drawn_from_what_is_left(draw: float, delay_s: float) -> None:
    """Less what the attempt after it needs: a shorter wait fits where the longest would not."""
    backoff = Backoff(base_s=0.5, least_s=0.1)
    assert backoff.delay_s(Verdict.RECONNECT, 1, left_s=0.3, draw=lambda: draw) == pytest.approx(delay_s)


@pytest.mark.parametrize("left_s", [0.1, 0.04, 0.0, -3.0])
def test_no_delay_is_begun_that_leaves_no_attempt(left_s: float) -> None:
    """Sleeping into the deadline would turn a clear error into a time-out."""
    assert Backoff(least_s=0.1).delay_s(Verdict.RECONNECT, 1, left_s=left_s, draw=lambda: 0.0) is None


@pytest.mark.parametrize(("base_s", "mean"), [(0.05, 3.5), (0.5, 2.0)])
def test_the_last_moment_holds_few_attempts(base_s: float, mean: float) -> None:
    """On a server that is full each costs others, and none of them finds what the one before did not."""
    draw = random.Random(1).random  # noqa: S311 - no secret
    backoff = Backoff(base_s=base_s, attempts=math.inf)
    in_the_last_half_second = []
    for _ in range(500):
        left_s, attempt, late = 15.0, 1, 0
        while (delay_s := backoff.delay_s(Verdict.WAIT_FOR_CAPACITY, attempt, left_s=left_s, draw=draw)) is not None:
            left_s, attempt = left_s - delay_s - 0.003, attempt + 1
            late += left_s < 0.5
        in_the_last_half_second.append(late)
    assert max(in_the_last_half_second) <= 5
    assert sum(in_the_last_half_second) / 500 < mean


def test_attempts_are_bounded() -> None:
    """The sixth failure stands."""
    assert Backoff().delay_s(Verdict.RECONNECT, 5, left_s=60) is not None
    assert Backoff().delay_s(Verdict.RECONNECT, 6, left_s=60) is None
