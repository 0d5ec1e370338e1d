"""What can only be shown while the machine lets it run."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ParamSpec

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")

CHANCES = 3


def given_its_moment(test: Callable[P, None]) -> Callable[P, None]:
    """Run ``test`` until it passes, three times at most.

    A process that is told to end has a few hundred milliseconds by the emulator's clock, as in Lambda. On a machine
    that is busy otherwise it may not be run in them, which says nothing of what it does with them. A fault is there
    every time.
    """

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        for _ in range(CHANCES - 1):
            try:
                return test(*args, **kwargs)
            except AssertionError:
                continue
        return test(*args, **kwargs)

    return run
