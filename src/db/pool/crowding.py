"""Whether the database has lately had no connection to give: then an environment does well not to keep its own.

Pure: a clock and a source of jitter in, an answer out.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Since the last refusal. While it lasts, each invocation connects anew and so learns whether there is room; one that
# is refused begins it again. Long enough to outlast a burst of cold starts, short enough to cost few connects after it.
HELD_S = 30.0


class Crowding:
    """Remembers when the server, or the pooler, refused a connection because it had none left.

    ``crowded`` for 15 to 30 s after the last refusal, drawn anew at each, so that the environments of a burst do not
    all go back to keeping their connections in the same moment.
    """

    def __init__(self, clock: Callable[[], float], *, draw: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._draw = draw
        self._until = -float("inf")

    @property
    def crowded(self) -> bool:
        """Whether an invocation that ends now should give its connection back."""
        # A clock that was ahead and is set back does not make hours of it.
        now = self._clock()
        return now < self._until <= now + HELD_S

    def refused(self) -> None:
        """There was no room just now."""
        self._until = self._clock() + HELD_S * (1 + self._draw()) / 2
