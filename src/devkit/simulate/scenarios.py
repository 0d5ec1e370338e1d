"""Scenarios by name: each for as many environments as one says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .scenario import (
    Burst,
    Callers,
    Deploy,
    Failover,
    Function,
    Handler,
    Messages,
    Pooler,
    Rotation,
    Scenario,
    Server,
    SlowQueries,
    Steady,
    settings,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MINUTE, HOUR = 60.0, 3600.0
# What a request of an API does: 2 ms of the server's CPU within 20 ms, and 80 ms of the function's own.
REQUEST = Handler(before_s=0.03, cpu_s=0.002, waits_s=0.018, after_s=0.05, varies=True)
# One that has more to do.
JOB = Handler(before_s=0.2, cpu_s=0.002, waits_s=0.098, after_s=0.7, varies=True)
JOB_S = JOB.before_s + JOB.cpu_s + JOB.waits_s + JOB.after_s


def hour(environments: int) -> Scenario:
    """A fan-out to every environment each five minutes, beside steady requests, through a pooler."""
    return Scenario(
        name="hour",
        title=f"an hour: steady requests, and each five minutes a burst of {environments:,} asynchronous events",
        duration_s=HOUR,
        load=[
            Steady(per_s=environments / 100),
            *(Burst(at_s=at_s, count=environments, kind="async") for at_s in range(60, 3600, 300)),
        ],
        function=Function(handler=JOB, timeout_s=60.0, account=2 * environments, keep_s=600.0),
        server=Server(max_connections=500, cores=16),
        pooler=Pooler(size=400, max_clients=2 * environments),
        settings=settings(proxy="pgbouncer"),
        every_s=10.0,
    )


def steady(environments: int) -> Scenario:
    """Requests at random for five minutes; about half as many environments are at work at a time."""
    return Scenario(
        name="steady",
        title=f"steady requests that {environments // 2:,} environments work at",
        duration_s=5 * MINUTE,
        load=[Steady(per_s=environments / 2 / JOB_S)],
        function=Function(handler=JOB, account=environments),
        server=Server(max_connections=environments + 20, cores=16),
    )


def herd(environments: int) -> Scenario:
    """All come in the same moment, warm and without a connection, for a third as many connections."""
    return Scenario(
        name="herd",
        title=f"{environments:,} environments at once for {max(environments // 3, 1):,} connections",
        duration_s=2 * MINUTE,
        load=[Callers(count=environments, invocations=1, at_s=1.0)],
        function=Function(handler=REQUEST, timeout_s=29.0),
        server=Server(max_connections=max(environments // 3, 1) + 3, cores=16),
    )


def pooled(environments: int) -> Scenario:
    """The same through a pooler of a hundredth as many."""
    return Scenario(
        name="pooled",
        title=f"{environments:,} environments at once through a pooler of {max(environments // 100, 2):,}",
        duration_s=2 * MINUTE,
        load=[Callers(count=environments, invocations=1, at_s=1.0)],
        function=Function(handler=REQUEST, timeout_s=29.0),
        server=Server(max_connections=max(environments // 100, 2) + 20, cores=16),
        pooler=Pooler(size=max(environments // 100, 2)),
        settings=settings(proxy="pgbouncer"),
    )


def deploy(environments: int) -> Scenario:
    """A new version takes over amid steady requests; the server has one and a half times the room of one version."""
    at_work = environments // 2
    return Scenario(
        name="deploy",
        title=f"a deploy amid requests that {at_work:,} environments work at",
        duration_s=10 * MINUTE,
        load=[Steady(per_s=at_work / JOB_S)],
        function=Function(handler=JOB, timeout_s=29.0, account=environments),
        server=Server(max_connections=int(at_work * 1.5) + 20, cores=16),
        happenings=[Deploy(at_s=5 * MINUTE, linger_s=2 * MINUTE)],
    )


def rotation(environments: int) -> Scenario:
    """The password rotates; each connection is replaced within a minute."""
    return Scenario(
        name="rotation",
        title=f"a rotation of the password amid requests of {environments // 2:,} environments",
        duration_s=5 * MINUTE,
        load=[Steady(per_s=environments / 2 / JOB_S)],
        function=Function(handler=JOB, account=environments),
        server=Server(max_connections=environments + 20, cores=16),
        happenings=[Rotation(at_s=2 * MINUTE)],
        settings=settings(pool_recycle_s=60.0),
    )


def failover(environments: int) -> Scenario:
    """The server is away for ten seconds."""
    return Scenario(
        name="failover",
        title=f"a failover of 10 s amid requests of {environments // 4:,} environments",
        duration_s=5 * MINUTE,
        load=[Steady(per_s=environments / 4 / JOB_S)],
        function=Function(handler=JOB, timeout_s=29.0, account=environments),
        server=Server(max_connections=environments + 20, cores=16),
        happenings=[Failover(at_s=2 * MINUTE)],
    )


def slow(environments: int) -> Scenario:
    """Statements take thirty times as long for a minute."""
    return Scenario(
        name="slow",
        title=f"a minute of slow statements amid requests of {environments // 4:,} environments",
        duration_s=5 * MINUTE,
        load=[Steady(per_s=environments / 4 / JOB_S)],
        function=Function(handler=JOB, timeout_s=29.0, account=environments),
        server=Server(max_connections=environments + 20, cores=16),
        happenings=[SlowQueries(at_s=2 * MINUTE, for_s=MINUTE, factor=30.0)],
    )


def queue(environments: int) -> Scenario:
    """Messages that an event source mapping works through, as many at a time as there are environments."""
    return Scenario(
        name="queue",
        title=f"{10 * environments:,} messages of a queue, {environments:,} at a time",
        duration_s=5 * MINUTE,
        load=[Messages(count=10 * environments, concurrency=environments)],
        function=Function(handler=JOB, timeout_s=29.0, account=environments),
        server=Server(max_connections=environments + 20, cores=16),
    )


def reserved(environments: int) -> Scenario:
    """Asynchronous events twice as many as a reserved concurrency lets through at a time."""
    return Scenario(
        name="reserved",
        title=f"a burst of {2 * environments:,} events, reserved concurrency {environments:,}",
        duration_s=5 * MINUTE,
        load=[Burst(at_s=1.0, count=2 * environments, kind="async")],
        function=Function(handler=JOB, timeout_s=29.0, reserved=environments, account=10 * environments),
        server=Server(max_connections=environments + 20, cores=16),
    )


SCENARIOS: dict[str, Callable[[int], Scenario]] = {
    one.__name__: one for one in (steady, herd, pooled, deploy, rotation, failover, slow, queue, reserved, hour)
}
