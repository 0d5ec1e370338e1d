"""When an environment gives its connection back."""

from db.pool.crowding import Crowding


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_database_is_not_crowded_before_it_has_refused() -> None:
    """Keeping the connection is the rule."""
    assert not Crowding(Clock()).crowded


def test_a_refusal_is_remembered_for_fifteen_to_thirty_seconds() -> None:
    """Drawn, so that the environments of a burst do not go back to keeping theirs all at once."""
    for draw, held_s in ((0.0, 15), (1.0, 30)):
        clock = Clock()
        crowding = Crowding(clock, draw=lambda draw=draw: draw)  # type: ignore[misc]  # the loop's
        crowding.refused()
        clock.now += held_s - 0.001
        assert crowding.crowded
        clock.now += 0.001
        assert not crowding.crowded


def test_another_refusal_begins_it_again() -> None:
    """It is counted from the last one."""
    clock = Clock()
    crowding = Crowding(clock, draw=lambda: 0.0)
    crowding.refused()
    clock.now += 14
    crowding.refused()
    clock.now += 14
    assert crowding.crowded


def test_a_clock_that_was_ahead_makes_no_hours_of_it() -> None:
    """Set right, it is no longer known when the refusal was."""
    clock = Clock()
    crowding = Crowding(clock)
    crowding.refused()
    clock.now -= 3 * 3600
    assert not crowding.crowded
