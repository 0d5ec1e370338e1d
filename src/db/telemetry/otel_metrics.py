"""Metrics for OpenTelemetry, by its conventions for database clients. Loaded where DB_METRICS asks for it.

What takes time is recorded when it has ended: connects and statements as the spans of it (``spans``), waits and uses as
the pool tells of them. What a pool holds is asked for when a reader collects.

https://opentelemetry.io/docs/specs/semconv/db/database-metrics/: of these, only the duration of operations is stable.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from db.errors import DOCUMENTATION, ConfigurationError

from .metrics import pool_name
from .span_exporters import SCHEMA_URL, attributes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opentelemetry.metrics import CallbackOptions, Observation

    from db.settings import Settings

    from .metrics import PoolNumbers
    from .spans import Span

    Pools = Callable[[], Iterable[PoolNumbers]]

POOL_NAME, STATE = "db.client.connection.pool.name", "db.client.connection.state"
# Those of OpenTelemetry without its advice end at 10 s of milliseconds; these are what the conventions ask for.
_BOUNDARIES_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
# An operation's, of all that a span has: each further value of an attribute is one more series to pay for.
_OF_OPERATIONS = {
    "db.system.name",
    "db.namespace",
    "server.address",
    "server.port",
    "db.query.summary",
    "db.response.status_code",
    "error.type",
}


class PoolMeter:
    """Records what the connections of one pool, and the statements on them, took."""

    def __init__(self, instruments: _Instruments, *, pool: str) -> None:
        self._instruments = instruments
        self._pool = {POOL_NAME: pool}

    def record(self, span: Span) -> None:
        """One statement, or one connect that gave a connection: those that failed created none."""
        duration_s = max(span.ended_s - span.began_s, 0.0)
        if span.statement is not None:
            known = {name: value for name, value in attributes(span).items() if name in _OF_OPERATIONS}
            self._instruments.operations.record(duration_s, known)
        elif span.error is None:
            self._instruments.creates.record(duration_s, self._pool)

    def waited(self, seconds: float) -> None:
        """A checkout took that long, a connect that it had to wait for included."""
        self._instruments.waits.record(seconds, self._pool)

    def used(self, seconds: float) -> None:
        """A connection came back after that time."""
        self._instruments.uses.record(seconds, self._pool)


class _Instruments:
    """Those of the process. They report to the provider that is set, before or after."""

    def __init__(self) -> None:
        from opentelemetry import metrics

        self._observation = metrics.Observation
        self._meter = metrics.get_meter("db", schema_url=SCHEMA_URL)
        self.operations = self._histogram("db.client.operation.duration", "Duration of database client operations.")
        self.creates = self._histogram(
            "db.client.connection.create_time", "The time it took to create a new connection."
        )
        self.waits = self._histogram(
            "db.client.connection.wait_time", "The time it took to obtain an open connection from the pool."
        )
        self.uses = self._histogram(
            "db.client.connection.use_time", "The time between borrowing a connection and returning it to the pool."
        )
        self._pools: Pools | None = None

    def _histogram(self, name: str, description: str) -> Any:
        return self._meter.create_histogram(
            name, unit="s", description=description, explicit_bucket_boundaries_advisory=_BOUNDARIES_S
        )

    def observe(self, pools: Pools) -> None:
        """Have readers ask ``pools``, from the first call on."""
        if self._pools is not None:
            return
        self._pools = pools
        up_down, connection = self._meter.create_observable_up_down_counter, "{connection}"
        up_down(
            "db.client.connection.count",
            [self._by_state],
            unit=connection,
            description="The number of connections that are currently in state described by the `state` attribute.",
        )
        up_down(
            "db.client.connection.max",
            [self._one_each(lambda pool: pool.limit)],
            unit=connection,
            description="The maximum number of open connections allowed.",
        )
        up_down(
            "db.client.connection.idle.max",
            [self._one_each(lambda pool: pool.idle_limit)],
            unit=connection,
            description="The maximum number of idle open connections allowed.",
        )
        up_down(
            "db.client.connection.pending_requests",
            [self._one_each(lambda pool: pool.pending)],
            unit="{request}",
            description="The number of current pending requests for an open connection.",
        )
        self._meter.create_observable_counter(
            "db.client.connection.timeouts",
            [self._one_each(lambda pool: pool.counted.timeouts)],
            unit="{timeout}",
            description="The number of connection timeouts that have occurred trying to obtain a connection from the "
            "pool.",
        )

    def _by_state(self, _options: CallbackOptions) -> Iterator[Observation]:
        for pool in self._now():
            yield self._observation(pool.idle, {**_named(pool), STATE: "idle"})
            yield self._observation(pool.used, {**_named(pool), STATE: "used"})

    def _one_each(
        self, number: Callable[[PoolNumbers], int | None]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observed(_options: CallbackOptions) -> Iterator[Observation]:
            for pool in self._now():
                if (found := number(pool)) is not None:
                    yield self._observation(found, _named(pool))

        return observed

    def _now(self) -> Iterable[PoolNumbers]:
        return self._pools() if self._pools is not None else ()


def _named(pool: PoolNumbers) -> dict[str, str]:
    return {POOL_NAME: pool.name}


@functools.cache
def _instruments() -> _Instruments:
    """Raises ConfigurationError where OpenTelemetry is not installed."""
    try:
        return _Instruments()
    except ImportError as error:
        problem = (
            f"DB_METRICS=otel or both needs a package that is not installed, {error.name}: "
            f"see {DOCUMENTATION}run/observability/#metrics"
        )
        raise ConfigurationError([problem]) from error


def meter_for(settings: Settings, pool: str) -> PoolMeter:
    """What measures for the pool of that name. Raises ConfigurationError."""
    return PoolMeter(_instruments(), pool=pool_name(settings.database, pool))


def observe(pools: Pools) -> None:
    """Report what ``pools`` gives whenever a reader collects. Raises ConfigurationError."""
    _instruments().observe(pools)


def flush(within_s: float) -> Exception | None:
    """Have the provider send what it has; what went wrong, which is not the handler's to answer for."""
    from opentelemetry import metrics

    # The API's own provider, where no SDK is set, has nothing to send.
    send = getattr(metrics.get_meter_provider(), "force_flush", None)
    try:
        if send is not None:
            send(timeout_millis=within_s * 1000)
    except Exception as error:  # noqa: BLE001 - an exporter's may be any
        return error
    return None
