"""What connections did, in numbers: for ``db.status()``, and per invocation as CloudWatch metrics."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

DEFAULT_NAMESPACE = "ServerlessDataAccess"  # where POWERTOOLS_METRICS_NAMESPACE names none


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

    def since(self, earlier: Tally) -> Tally:
        """What was added after ``earlier`` was copied."""
        return Tally(*(now - then for now, then in zip(self._values(), earlier._values(), strict=True)))

    def copy(self) -> Tally:
        return dataclasses.replace(self)

    def as_dict(self) -> dict[str, int | float]:
        return {f.name: round(getattr(self, f.name), 3) for f in dataclasses.fields(self)}

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, f.name) for f in dataclasses.fields(self))


def emit(tally: Tally, database: str | None = None) -> None:
    """Print ``tally`` in CloudWatch's embedded metric format; nothing where no connection was touched.

    ``database`` is a dimension, but for the default one, whose metrics stay what they are where there is but one.
    """
    if tally == Tally():
        return
    metrics = EphemeralMetrics(namespace=os.environ.get("POWERTOOLS_METRICS_NAMESPACE") or DEFAULT_NAMESPACE)
    if database is not None:
        metrics.add_dimension(name="database", value=database)
    for name, value in tally.as_dict().items():
        unit = MetricUnit.Milliseconds if name.endswith("_ms") else MetricUnit.Count
        metrics.add_metric(name="".join(part.title() for part in name.split("_")), unit=unit, value=value)
    metrics.flush_metrics()
