"""What connections did, in numbers: for ``db.status()``, per invocation as CloudWatch metrics, and pool by pool.

``otel_metrics`` and ``environment.prometheus`` report what is here of the pools.
"""

from __future__ import annotations

import dataclasses
import os
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DEFAULT_NAMESPACE = "ServerlessDataAccess"  # where POWERTOOLS_METRICS_NAMESPACE names none
DEFAULT_DATABASE = "db"  # what the one without a name is called where a name has to be; no other can be called so
TO_EMF, TO_OPENTELEMETRY = {"emf", "both"}, {"otel", "both"}  # of DB_METRICS
_POOLS_ALONE = {"of_pools_alone": True}  # not in an invocation's metrics: CloudWatch bills each name


@dataclass(slots=True)
class Tally:
    """Counts, and milliseconds. The names are those of ``db.status()``; the metrics are the same in CamelCase."""

    connects: int = 0
    connect_ms: float = 0.0
    checkouts: int = 0
    reuses: int = 0
    invalidations: int = 0
    closes: int = 0
    statements: int = 0
    database_ms: float = 0.0
    timeouts: int = field(default=0, metadata=_POOLS_ALONE)

    @classmethod
    def sum(cls, tallies: Iterable[Tally]) -> Tally:
        """All of them in one."""
        return cls(*map(sum, zip(*(one.values() for one in (Tally(), *tallies)), strict=True)))

    def since(self, earlier: Tally) -> Tally:
        """What was added after ``earlier`` was copied."""
        return Tally(*(now - then for now, then in zip(self.values(), earlier.values(), strict=True)))

    def copy(self) -> Tally:
        return dataclasses.replace(self)

    def clear(self) -> None:
        """Begin anew, for all who count into it: a forked child adds to what its parent reports, and repeats none."""
        for f in dataclasses.fields(self):
            setattr(self, f.name, f.default)

    def as_dict(self) -> dict[str, int | float]:
        return {f.name: round(getattr(self, f.name), 3) for f in dataclasses.fields(self) if f.metadata != _POOLS_ALONE}

    def values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, f.name) for f in dataclasses.fields(self))


class Waits:
    """Who waits for a connection of one pool now, and what is told of it afterwards."""

    def __init__(self, tally: Tally, measure: Callable[[float], None] | None = None) -> None:
        """``measure`` is told how many seconds each checkout took."""
        self.measure = measure
        self._tally = tally
        # Weak, so that a wait which an exception of a signal handler cuts short anywhere is not counted for ever.
        self._waiting: weakref.WeakSet[Waiter] = weakref.WeakSet()

    @property
    def pending(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def begin(self) -> Waiter:
        """Count one more for as long as somebody keeps what this gives."""
        waiter = Waiter()
        self._waiting.add(waiter)
        return waiter

    def end(self, waiter: Waiter) -> None:
        self._waiting.discard(waiter)

    def part(self) -> None:
        """In a forked child: the threads that wait did not come along, and what they hold is never given up."""
        self._waiting = weakref.WeakSet()

    def timed_out(self) -> None:
        self._tally.timeouts += 1


class Waiter:
    """One who waits."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False, match_args=False)
class PoolNumbers:
    """One pool: what it holds now, and what it counted since the process first used its database."""

    database: str
    pool: str  # as a key of ``engines`` in ``db.status()``: "writer", "aio reader"
    idle: int
    used: int
    limit: int | None  # None where it has none, as with DB_POOL=null
    idle_limit: int
    pending: int
    counted: Tally

    @property
    def name(self) -> str:
        return pool_name(self.database, self.pool)

    def with_(self, other: PoolNumbers) -> PoolNumbers:
        """Both in one: two databases that are called the same cannot be told apart by whoever reads the name."""
        return dataclasses.replace(
            self,
            idle=self.idle + other.idle,
            used=self.used + other.used,
            limit=None if self.limit is None or other.limit is None else self.limit + other.limit,
            idle_limit=self.idle_limit + other.idle_limit,
            pending=self.pending + other.pending,
            counted=Tally.sum((self.counted, other.counted)),
        )


def pool_name(database: str | None, pool: str) -> str:
    """OpenTelemetry's ``db.client.connection.pool.name``: "db/writer", "audit/aio reader"."""
    return f"{database or DEFAULT_DATABASE}/{pool}"


def emit(tally: Tally, database: str | None = None) -> None:
    """Print ``tally`` in CloudWatch's embedded metric format; nothing where no connection was touched.

    ``database`` is a dimension, but for the default one, whose metrics stay what they are where there is but one.
    """
    if not any(tally.as_dict().values()):
        return
    metrics = EphemeralMetrics(namespace=os.environ.get("POWERTOOLS_METRICS_NAMESPACE") or DEFAULT_NAMESPACE)
    if database is not None:
        metrics.add_dimension(name="database", value=database)
    for name, value in tally.as_dict().items():
        unit = MetricUnit.Milliseconds if name.endswith("_ms") else MetricUnit.Count
        metrics.add_metric(name="".join(part.title() for part in name.split("_")), unit=unit, value=value)
    metrics.flush_metrics()
