"""Which failure may be tried again, when, and for how long. Pure: a verdict, a count and a clock in, a delay out."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from db.errors import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

_DOUBLINGS = 30  # past any cap, and well before a float overflows


@dataclass(frozen=True, kw_only=True, eq=False, repr=False, match_args=False)
class Backoff:
    """Full jitter: a delay drawn evenly from zero to ``base_s`` doubled per attempt, at most ``cap_s``.

    The time that is left bounds that range, and not the number drawn from it: whether there is another attempt is no
    matter of luck. Where it does, the later half is drawn from, and a rest below a quarter of ``base_s`` is not waited
    for again: else the last moment would hold many attempts. None is begun with less than ``least_s`` to it.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ has why the whole range is drawn from.
    """

    base_s: float = 0.05
    cap_s: float = 2.0
    attempts: float = 6  # five delays of 0.05 to 0.8 s at the most: 1.55 s together, half of that on average
    least_s: float = 0.1  # three round trips, and TLS, within a region

    def delay_s(
        self, verdict: Verdict, attempt: int, *, left_s: float, draw: Callable[[], float] = random.random
    ) -> float | None:
        """Seconds to wait before attempt ``attempt + 1`` (the first is 1); None where the failure has to stand.

        ``left_s`` is what the deadline leaves for the wait and the attempt after it; with ``least_s`` or less of it
        there is neither.
        """
        spare_s = left_s - self.least_s
        worth_s = 0.0 if attempt == 1 else self.base_s / 4
        if not verdict.transient or attempt >= self.attempts or spare_s <= worth_s:
            return None
        ceiling: float = min(self.cap_s, self.base_s * 2 ** min(attempt - 1, _DOUBLINGS))
        return ceiling * draw() if ceiling <= spare_s else spare_s * (1 + draw()) / 2
