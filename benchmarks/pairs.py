"""What makes a ratio believable: who is compared takes turns in rounds, and the median of the rounds has an interval.

Within a round each peer is measured once, and the order is drawn anew for every round, so that neither a slow minute
nor whoever came before favours one of them. A ratio is taken within a round, and its figure is the median of those
ratios: what changed between the rounds changed for both.
"""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CONFIDENCE = 0.95

T = TypeVar("T")


@dataclass(frozen=True)
class Interval:
    """``low`` to ``high`` holds the true median with the probability ``coverage``."""

    low: float
    high: float
    coverage: float


@dataclass(frozen=True)
class Ratio:
    """The median of the rounds' ratios, and its interval."""

    value: float
    interval: Interval


def turns(things: Sequence[T], *, rounds: int, seed: str) -> Iterator[list[T]]:
    """``things`` in an order of its own for each round: the same orders for the same ``seed``."""
    drawn = random.Random(seed)  # noqa: S311 - nobody has to be kept from guessing it
    for _ in range(rounds):
        yield drawn.sample(things, len(things))


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """The interval of the median by order statistics: as many values are cut off on both sides as ``confidence`` lets.

    Each value lies below the true median with probability one half, whatever the values are distributed like, so how
    many do is binomial. That assumes nothing else, and draws nothing by chance. Of fewer than six values even the
    whole range covers less than 0.95: ``coverage`` then says how much.
    """
    ordered, number = sorted(values), len(values)
    if not ordered:
        raise ValueError("nothing has no median")
    cut = 0
    while 2 * (cut + 1) < number and _coverage(number, cut + 1) >= confidence:
        cut += 1
    return Interval(ordered[cut], ordered[number - 1 - cut], _coverage(number, cut))


def ratio(above: Sequence[float], below: Sequence[float]) -> Ratio:
    """Of two peers' values, round by round. Raises ValueError where they have not been in the same rounds."""
    by_round = [one / other for one, other in zip(above, below, strict=True)]
    return Ratio(statistics.median(by_round), interval(by_round))


def _coverage(number: int, cut: int) -> float:
    """How probable it is that the median lies between the values that are left where ``cut`` go on each side."""
    outside: int = sum(math.comb(number, lower) for lower in range(cut + 1))
    return 1 - 2 * outside / float(2**number)
