"""Prometheus: the numbers of every database of this process, as the text that a scrape reads, or as a collector.

    from db.environment import prometheus

    app.add_route("/metrics", lambda request: PlainTextResponse(prometheus.text(), media_type=prometheus.CONTENT_TYPE))

The names are those that OpenTelemetry's metrics have when they are exported to Prometheus, as far as there are such.
Nothing is loaded, and nothing counted, for it alone: reading is all that it costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from db.errors import DOCUMENTATION, ConfigurationError

from .process import pools

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.metrics_core import Metric

    from db.telemetry.metrics import PoolNumbers

__all__ = ["CONTENT_TYPE", "Collector", "text"]

# https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
CONTENT_TYPE: str = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass(frozen=True)
class _Sample:
    labels: dict[str, str]
    value: float
    count: int = 0  # a summary's, whose sum is the value


@dataclass(frozen=True)
class _Family:
    """Samples of one name. A counter's has no ``_total``, which is its samples'."""

    name: str
    kind: Literal["gauge", "counter", "summary"]
    help: str
    samples: list[_Sample]


def text() -> str:
    """The numbers of every database that this process has used, in Prometheus's text format.

    Counters never fall while the process lives and somebody keeps the ``db.Database``, ``db.configure`` or not. What is
    not used yet is missing. Opens nothing and asks the database nothing.
    """
    lines: list[str] = []
    for family in _families(pools()):
        name = f"{family.name}_total" if family.kind == "counter" else family.name
        lines += [f"# HELP {name} {family.help}", f"# TYPE {name} {family.kind}"]
        for sample in family.samples:
            labels = ",".join(f'{key}="{value.translate(_ESCAPES)}"' for key, value in sample.labels.items())
            if family.kind == "summary":
                lines += [f"{name}_count{{{labels}}} {sample.count}", f"{name}_sum{{{labels}}} {sample.value}"]
            else:
                lines.append(f"{name}{{{labels}}} {sample.value}")
    return "".join(f"{line}\n" for line in lines)


class Collector:
    """The same for a registry of prometheus_client: ``REGISTRY.register(prometheus.Collector())``.

    Raises ConfigurationError where that package is missing: it comes with the extra ``prometheus``.
    """

    def __init__(self) -> None:
        try:
            from prometheus_client import metrics_core
        except ImportError as error:
            problem = (
                f"Collector of db.environment.prometheus needs a package that is not installed, {error.name}: "
                f"see {DOCUMENTATION}run/observability/#prometheus"
            )
            raise ConfigurationError([problem]) from error
        self._core: Any = metrics_core

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client asks for at each scrape."""
        kinds = {
            "gauge": self._core.GaugeMetricFamily,
            "counter": self._core.CounterMetricFamily,
            "summary": self._core.SummaryMetricFamily,
        }
        for family in _families(pools()):
            made = kinds[family.kind](family.name, family.help, labels=list(family.samples[0].labels))
            for sample in family.samples:
                values = list(sample.labels.values())
                if family.kind == "summary":
                    made.add_metric(values, count_value=sample.count, sum_value=sample.value)
                else:
                    made.add_metric(values, sample.value)
            yield made


def _families(found: Iterable[PoolNumbers]) -> list[_Family]:
    """Those that have a sample."""
    by_pool = [(_labels(pool), pool, pool.counted) for pool in found]
    connection, states = "db_client_connection", ("idle", "used")
    families = [
        _Family(
            f"{connection}_count",
            "gauge",
            "The number of connections that are currently in the state.",
            [
                _Sample({**labels, f"{connection}_state": state}, getattr(pool, state))
                for labels, pool, _ in by_pool
                for state in states
            ],
        ),
        _Family(
            f"{connection}_max",
            "gauge",
            "The maximum number of open connections allowed.",
            [_Sample(labels, pool.limit) for labels, pool, _ in by_pool if pool.limit is not None],
        ),
        _Family(
            f"{connection}_idle_max",
            "gauge",
            "The maximum number of idle open connections allowed.",
            [_Sample(labels, pool.idle_limit) for labels, pool, _ in by_pool],
        ),
        _Family(
            f"{connection}_pending_requests",
            "gauge",
            "The number of current pending requests for an open connection.",
            [_Sample(labels, pool.pending) for labels, pool, _ in by_pool],
        ),
        _Family(
            f"{connection}_create_time_seconds",
            "summary",
            "The time it took to create a new connection.",
            [_Sample(labels, total.connect_ms / 1000, total.connects) for labels, _, total in by_pool],
        ),
    ]
    counters = {
        f"{connection}_timeouts": ("The number of waits for a connection of the pool that were in vain.", "timeouts"),
        f"{connection}_checkouts": ("Connections taken from the pool.", "checkouts"),
        f"{connection}_reuses": ("Of these, connections that were open already.", "reuses"),
        f"{connection}_invalidations": ("Connections found dead, or dropped for their age.", "invalidations"),
        f"{connection}_closes": ("Connections closed.", "closes"),
        "db_client_statements": ("Statements sent, without those that the layer sends for itself.", "statements"),
    }
    for name, (said, field) in counters.items():
        families.append(
            _Family(name, "counter", said, [_Sample(at, getattr(total, field)) for at, _, total in by_pool])
        )
    busy = [_Sample(labels, total.database_ms / 1000) for labels, _, total in by_pool]
    families.append(_Family("db_client_database_seconds", "counter", "The time that statements took.", busy))
    return [family for family in families if family.samples]


def _labels(pool: PoolNumbers) -> dict[str, str]:
    return {"database": pool.database, "db_client_connection_pool_name": pool.name}
