"""The same on every release of PostgreSQL that is supported: trips, and the client's CPU."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from benchmarks.cores import aside
from benchmarks.peers.ours import Ours
from benchmarks.peers.with_sqlalchemy import SqlAlchemy
from benchmarks.place import Place
from benchmarks.releases import VERSIONS, installation
from benchmarks.workers import Worker
from benchmarks.works import Work
from devkit.servers.postgres import Postgres

from . import cpu, wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.plan import Plan
    from benchmarks.series import Series

WORKS = (Work.READ, Work.WRITE, Work.BOUND_WRITE)
RELEASES = {release: f"PostgreSQL {version.removesuffix('.0')}" for release, version in VERSIONS.items()}


def measure(plan: Plan, tell: Callable[[str], None]) -> list[Series]:
    """One release after another, the server on the other core."""
    series: list[Series] = []
    for release, name in RELEASES.items():
        tell(f"releases: {name}")
        with (
            aside() as cores,
            Postgres(installation=installation(release)) as postgres,
            Place(postgres) as place,
            contextlib.ExitStack() as running,
        ):
            series += wire.counted(Ours, place, plan.warm_up, where=name)
            workers = [running.enter_context(Worker(peer, place.url(), cores.client)) for peer in (Ours, SqlAlchemy)]
            series += cpu.of(workers, WORKS, name, rounds=plan.further_rounds, times=plan.cpu_times)
    return series
