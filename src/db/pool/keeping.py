"""Whether a connection that was kept may serve once more. Pure: times of the wall clock in, an answer out.

What ended it meanwhile is another matter, which the socket tells.
"""

from __future__ import annotations

import math

from .reader_route import AWAY_S
from .switchover import LONGEST_S

# The longest that a connection is told to serve from now on, where it is told at all.
_LONGEST_S = max(LONGEST_S, AWAY_S)
# What a clock may step back, as those that are kept in time do, before what it said before counts for nothing.
_CLOCK_STEP_S = 1.0


def may_serve(
    *, now: float, connected_at: float, returned_at: float, idle_s: float, recycle_s: float, until: float = math.inf
) -> bool:
    """Whether it is neither too old nor idle for too long.

    ``idle_s`` and ``recycle_s`` are DB_POOL_IDLE_S and DB_POOL_RECYCLE_S, and a negative ``recycle_s`` is any age, as
    in SQLAlchemy. ``until`` is how long it was told to serve at the most.
    """
    return not (
        now - returned_at >= idle_s
        # A clock that was set back tells nothing of the age, and would not for hours; nor when another server is due.
        or now < returned_at - _CLOCK_STEP_S
        or (until != math.inf and not now < until <= now + _LONGEST_S)
        or -1 < recycle_s <= now - connected_at
    )
