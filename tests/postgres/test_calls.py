"""What a warm unit of work costs the CPU, counted in calls: these repeat exactly, where a clock tells of its machine.

As SQLAlchemy's own ``aaa_profiling`` does. What is counted goes down when something is saved: then say the new numbers
here. SQLAlchemy's and psycopg's calls are among them, of the versions that the lock file names.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import greenlet  # type: ignore[import-untyped]  # noqa: F401 - once it is loaded, as by others, each unit asks it for a loop
import pytest

import db
from db.timing.invocation import Invocation, running

from .conftest import Use
from .warm_units import nothing, read, write

if TYPE_CHECKING:
    from collections.abc import Callable

# One call more or less is a matter of a patch release of what is below; from 3 % on it is somebody's doing.
MARGIN = 1.02


class Context:
    """Of a function that has a minute left."""

    aws_request_id = "8f2c"

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


def read_nothing() -> None:
    with db.read(tenant="acme"):
        pass


def calls(work: Callable[[], None]) -> tuple[int, int]:
    """How many functions in Python, and in C, ``work`` calls when it is warm: the least of some runs."""
    counted: list[tuple[int, int]] = []
    for _ in range(8):
        seen: list[str] = []

        def note(_frame: Any, event: str, _argument: Any, seen: list[str] = seen) -> None:
            seen.append(event)

        work()
        sys.setprofile(note)
        try:
            work()
        finally:
            sys.setprofile(None)
        # Less the call of ``work``, and of what ends the count.
        counted.append((seen.count("call") - 1, seen.count("c_call") - 1))
    return min(counted)


# In Python; in C up to 3.13, and from 3.14 on, where the entry of a lock is a call as well.
@pytest.mark.parametrize(
    ("work", "python", "c", "c_since_3_14"),
    [(write, 209, 71, 76), (read, 207, 67, 72), (nothing, 101, 28, 32), (read_nothing, 110, 28, 32)],
)
def test_a_unit_takes_no_more_calls_than_it_did(
    use: Use, work: Callable[[], None], python: int, c: int, c_since_3_14: int
) -> None:
    """Outside of an invocation."""
    use()
    require_no_more(calls(work), python, c if sys.version_info < (3, 14) else c_since_3_14)


@pytest.mark.parametrize(
    ("work", "python", "c", "c_since_3_14"), [(write, 217, 89, 94), (read, 212, 80, 85), (nothing, 102, 31, 35)]
)
def test_a_unit_of_an_invocation_looks_at_the_time_that_is_left(
    use: Use, work: Callable[[], None], python: int, c: int, c_since_3_14: int
) -> None:
    """Where it begins, where the flight leaves, and before each wait; and its statements are counted by their text."""
    use()
    with running(Invocation.from_context(Context(), cold=False, now=time.time())):
        counted = calls(work)
    require_no_more(counted, python, c if sys.version_info < (3, 14) else c_since_3_14)


def require_no_more(counted: tuple[int, int], python: int, c: int) -> None:
    in_python, in_c = counted
    assert in_python <= python * MARGIN
    assert in_c <= c * MARGIN
