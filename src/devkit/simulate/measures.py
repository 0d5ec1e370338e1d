"""What is counted while a simulation runs, and what it comes to."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from devkit.fleet.ledger import percentile

if TYPE_CHECKING:
    from collections.abc import Sequence

DIGITS = 4


@dataclass(frozen=True)
class Sample:
    """What there was at a moment: environments, those at work, the server's connections, and all that failed so far."""

    at_s: float
    environments: int
    at_work: int
    held: int
    failed: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one scenario came to.

    ``throttled`` are requests that Lambda refused at least once, ``dead`` messages that went to the dead-letter queue.
    ``refused`` counts attempts to connect that the server or pooler had no room for, ``waited`` those of any kind that
    were waited after, ``retried`` units that ran again. Times are of an invocation without its cold start, and of its
    wait for a connection, from wanting one to having it.
    """

    name: str
    seed: int
    requests: int
    invoked: int
    answered: int
    failed: int
    throttled: int
    dead: int
    cold: int
    connects: int
    refused: int
    waited: int
    retried: int
    errors: dict[str, int]
    environments_max: int
    held_max: int
    held_mean: float
    answer_mean_s: float
    answer_p50_s: float
    answer_p99_s: float
    answer_max_s: float
    wait_mean_s: float
    wait_p50_s: float
    wait_p99_s: float
    cpu_busy: float
    started_10s_max: int
    last_answer_s: float
    samples: Sequence[Sample] = field(default=(), repr=False)

    def as_dict(self) -> dict[str, Any]:
        """All but the samples, which are drawn."""
        return {name: value for name, value in asdict(self).items() if name != "samples"}


class Measures:
    """The counts of one run."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.answers = array("d")
        self.waits = array("d")
        self.samples: list[Sample] = []
        self.environments_max = self.held_max = self.started_most = 0
        self.last_answer_s = 0.0
        self._held, self._held_since_s, self._held_seconds = 0, 0.0, 0.0

    def held(self, now: float, count: int) -> None:
        """The server holds ``count`` connections from ``now`` on."""
        self._held_seconds += self._held * (now - self._held_since_s)
        self._held, self._held_since_s = count, now
        self.held_max = max(self.held_max, count)

    def failed(self, reason: str) -> None:
        self.counts["failed"] += 1
        self.errors[reason] += 1

    def outcome(self, name: str, *, seed: int, now: float, cpu_busy: float) -> Outcome:
        self.held(now, self._held)
        counts, answers, waits = self.counts, sorted(self.answers), sorted(self.waits)
        return Outcome(
            name=name,
            seed=seed,
            **{key: counts[key] for key in _COUNTED},
            errors=dict(sorted(self.errors.items())),
            environments_max=self.environments_max,
            held_max=self.held_max,
            held_mean=round(self._held_seconds / now, DIGITS) if now else 0.0,
            answer_mean_s=_mean(answers),
            answer_p50_s=round(percentile(answers, 0.5), DIGITS),
            answer_p99_s=round(percentile(answers, 0.99), DIGITS),
            answer_max_s=round(answers[-1], DIGITS) if answers else 0.0,
            wait_mean_s=_mean(waits),
            wait_p50_s=round(percentile(waits, 0.5), DIGITS),
            wait_p99_s=round(percentile(waits, 0.99), DIGITS),
            cpu_busy=round(cpu_busy, DIGITS),
            started_10s_max=self.started_most,
            last_answer_s=round(self.last_answer_s, DIGITS),
            samples=self.samples,
        )


_COUNTED = (
    "requests",
    "invoked",
    "answered",
    "failed",
    "throttled",
    "dead",
    "cold",
    "connects",
    "refused",
    "waited",
    "retried",
)


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), DIGITS) if values else 0.0
