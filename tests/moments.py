"""What can only be heard while the machine lets it be said."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

CHANCES = 3


class NotHeardError(AssertionError):
    """A process that was told to end has ended without a word."""


def heard(lines: list[T]) -> list[T]:
    """``lines``, if there are any. Raises NotHeardError."""
    if not lines:
        raise NotHeardError("it ended without a word")
    return lines


def given_its_moment(test: Callable[P, None]) -> Callable[P, None]:
    """Run ``test`` again where nothing was ``heard``, three times at most; whatever else it finds stands.

    A process that is told to end has a few hundred milliseconds by the emulator's clock, as in Lambda. On a machine
    that is busy otherwise it may not be run in them, which says nothing of what it does with them.
    """

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        for _ in range(CHANCES - 1):
            try:
                return test(*args, **kwargs)
            except NotHeardError:
                continue
        return test(*args, **kwargs)

    return run
