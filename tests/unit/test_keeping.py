"""Whether a kept connection may serve once more, and when a connect that failed is tried again."""

from __future__ import annotations

import math

import pytest

from db.errors import Verdict
from db.pool.connector import Effort
from db.pool.keeping import may_serve

NOW = 1_000_000.0


def kept(*, age_s: float = 0.0, idle_s: float = 0.0, recycle_s: float = 600.0, until: float = math.inf) -> bool:
    return may_serve(
        now=NOW, connected_at=NOW - age_s, returned_at=NOW - idle_s, idle_s=300.0, recycle_s=recycle_s, until=until
    )


@pytest.mark.parametrize(("idle_s", "serves"), [(299.9, True), (300.0, False)])
def test_what_idled_for_long_does_not_serve(idle_s: float, serves: bool) -> None:
    """A NAT gateway may have forgotten it, and the socket would not say so."""
    assert kept(age_s=310, idle_s=idle_s) is serves


@pytest.mark.parametrize(("age_s", "recycle_s", "serves"), [(599.9, 600, True), (600, 600, False), (1e9, -1, True)])
def test_what_is_old_does_not_serve(age_s: float, recycle_s: float, serves: bool) -> None:
    """However busy it was; SQLAlchemy's -1 is any age."""
    assert kept(age_s=age_s, recycle_s=recycle_s) is serves


@pytest.mark.parametrize(("ahead_s", "serves"), [(0.9, True), (1.1, False)])
def test_a_clock_that_was_set_back_tells_no_age(ahead_s: float, serves: bool) -> None:
    """A small step is what clocks do that are kept in time."""
    assert kept(idle_s=-ahead_s) is serves


@pytest.mark.parametrize(("for_s", "serves"), [(10.0, True), (0.0, False), (-5.0, False), (3600.0, False)])
def test_what_was_told_to_serve_for_a_time_serves_until_it_is_over(for_s: float, serves: bool) -> None:
    """Nobody is told to serve for an hour: that is a clock which was set back."""
    assert kept(until=NOW + for_s) is serves


def test_a_full_server_is_tried_again_more_slowly_than_one_that_is_away() -> None:
    """Each attempt costs those inside; and none is begun that there is no time for."""
    effort = Effort(began=0.0, ends_at=30.0, clock=lambda: 0.0)
    assert effort.delay_s(Verdict.WAIT_FOR_CAPACITY, draw=lambda: 1.0) == 0.5
    assert effort.delay_s(Verdict.RECONNECT, draw=lambda: 1.0) == 0.05
    assert effort.delay_s(Verdict.GIVE_UP) is None
    assert Effort(began=0.0, ends_at=0.05, clock=lambda: 0.0).delay_s(Verdict.RECONNECT) is None
