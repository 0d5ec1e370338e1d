"""Work that is waited for no longer than there is time."""

from __future__ import annotations

import contextvars
import threading
from typing import TYPE_CHECKING, NoReturn

import pytest

from db.timing.timebox import Overdue, within

if TYPE_CHECKING:
    from collections.abc import Callable

LONG_S = 30.0
MOMENT_S = 0.01


def test_what_is_done_in_time_is_given() -> None:
    """Computed elsewhere, in the caller's context."""
    seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen")
    seen.set("by the thread")
    assert within(LONG_S, seen.get, discard=pytest.fail) == "by the thread"


def test_what_fails_in_time_is_raised() -> None:
    """As it is, a time-out of the work's own among it."""

    def fail() -> NoReturn:
        raise TimeoutError("the work's own")

    with pytest.raises(TimeoutError, match="the work's own"):
        within(LONG_S, fail, discard=pytest.fail)


def test_what_comes_too_late_is_discarded() -> None:
    """A connection that opens after its invocation gave up must not stay open."""
    asked, discarded = threading.Event(), threading.Event()
    late: list[str] = []

    def work() -> str:
        asked.wait(LONG_S)
        return "late"

    def discard(result: str) -> None:
        late.append(result)
        discarded.set()

    with pytest.raises(Overdue):
        within(MOMENT_S, work, discard=discard)
    asked.set()
    assert discarded.wait(LONG_S)
    assert late == ["late"]


def test_what_is_done_when_nobody_waits_any_longer_is_discarded(ctrl_c: Callable[[], None]) -> None:
    """A signal's handler may raise in the thread that waits: SystemExit at the environment's end, say."""
    interrupted, discarded = threading.Event(), threading.Event()

    def work() -> str:
        ctrl_c()
        interrupted.wait(LONG_S)
        return "unwanted"

    with pytest.raises(KeyboardInterrupt):
        within(LONG_S, work, discard=lambda _: discarded.set())
    interrupted.set()
    assert discarded.wait(LONG_S)


def test_a_failure_that_comes_too_late_is_nobodys() -> None:
    """And is not printed by the thread either."""
    asked, ended = threading.Event(), threading.Event()

    def work() -> NoReturn:
        asked.wait(LONG_S)
        ended.set()
        raise ValueError("late")

    with pytest.raises(Overdue):
        within(MOMENT_S, work, discard=pytest.fail)
    asked.set()
    assert ended.wait(LONG_S)
