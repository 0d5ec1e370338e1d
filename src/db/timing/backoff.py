"""Which failure may be tried again, when, and for how long. Pure: a verdict, a count and a clock in, a delay out."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from db.errors import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

_DOUBLINGS = 30  # past any cap, and well before a float overflows


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Full jitter: a delay drawn evenly from zero to ``base_s`` doubled per attempt, at most ``cap_s``.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ has why the whole range is drawn from.
    """

    base_s: float = 0.05
    cap_s: float = 2.0
    attempts: float = 6  # five delays of 0.05 to 0.8 s at the most: 1.55 s together, half of that on average

    def delay_s(
        self, verdict: Verdict, attempt: int, *, left_s: float, draw: Callable[[], float] = random.random
    ) -> float | None:
        """Seconds to wait before attempt ``attempt + 1`` (the first is 1); None where the failure has to stand.

        ``left_s`` is what the deadline leaves; a wait that it cannot hold is not begun.
        """
        if not verdict.transient or attempt >= self.attempts:
            return None
        ceiling = min(self.cap_s, self.base_s * 2 ** min(attempt - 1, _DOUBLINGS))
        delay = ceiling * draw()
        return delay if delay < left_s else None
