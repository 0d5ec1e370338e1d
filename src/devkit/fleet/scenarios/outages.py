"""The server goes away and comes back, or another one takes its place."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from devkit.fleet.finding import OURS, PLAIN, Finding, failures, nothing_lost
from devkit.fleet.fleet import under_load
from devkit.fleet.run import function, run
from devkit.fleet.site import Site
from devkit.network.wire import Wire
from devkit.servers.postgres import Postgres
from devkit.servers.replica import Cluster

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.fleet.environment import Environment, Function
    from devkit.fleet.finding import Curve
    from devkit.fleet.fleet import Pause
    from devkit.fleet.fork_server import ForkServer
    from devkit.fleet.ledger import Outcome
    from devkit.fleet.site import Place
    from devkit.servers.ports import Endpoint

OURS_RUN = "ours, db.run"
SETTLE_S = 1.5


class Restarted(Protocol):
    """A server of the kit's, whichever engine it is."""

    def restart(self, mode: str = "fast") -> None: ...


def restart(
    fork_server: ForkServer, *, environments: int = 20, restarts: int = 3, away_s: float = 2.0, pause_s: float = 0.2
) -> Finding:
    """Fast shutdowns under load; for ``away_s`` beyond each the address refuses connections."""
    with Postgres() as server, Wire(server.host, server.port) as wire:
        site = Site(server)
        fleets = by_once_and_run(site, wire, timeout_s=10)
        with run(fleets, size=environments, server=lambda: server, fork_server=fork_server, connected=True) as running:
            with under_load([*running.fleets.values()], thinking(pause_s)):
                restart_behind(wire, server, restarts=restarts, away_s=away_s)
            outcomes = running.outcomes()
    title = f"{restarts} server restarts (fast) under load, each {away_s:g} s away, deadline 10 s"
    return outage("restart", title, "0 failed", outcomes, running.curves())


def restart_behind(wire: Wire, server: Restarted, *, restarts: int, away_s: float, settle_s: float = SETTLE_S) -> None:
    """Fast shutdowns; for ``away_s`` beyond each, ``wire`` before the server refuses connections.

    ``settle_s`` is between them, and before the first and after the last.
    """
    for _ in range(restarts):
        time.sleep(settle_s)
        wire.refuse()
        server.restart("fast")
        time.sleep(away_s)
        wire.accept()
    time.sleep(settle_s)


def failover(fork_server: ForkServer, *, environments: int = 20, away_s: float = 2.0, pause_s: float = 0.1) -> Finding:
    """The primary is killed under load, and its standby promoted ``away_s`` later."""
    with Cluster() as cluster:
        fleets = by_once_and_run(Site(cluster.primary), cluster.endpoint, timeout_s=30)
        with run(
            fleets, size=environments, server=lambda: cluster.primary, fork_server=fork_server, connected=True
        ) as running:
            with under_load([*running.fleets.values()], thinking(pause_s)):
                time.sleep(SETTLE_S)
                cluster.primary.kill()
                time.sleep(away_s)
                cluster.promote()
                time.sleep(2 * SETTLE_S)
            outcomes = running.outcomes()
    title = f"the primary killed under load, its replica promoted {away_s:g} s later, deadline 30 s"
    return outage("failover", title, "0 acknowledged writes lost, 0 failed", outcomes, running.curves())


def by_once_and_run(site: Place, endpoint: Endpoint, *, timeout_s: int) -> dict[str, tuple[Function, str]]:
    """Ours twice: a COMMIT without an answer is unknown to ``db.run``, which says so, while ``db.once`` finds out."""
    works = {OURS: (OURS, "once"), OURS_RUN: (OURS, "run"), PLAIN: (PLAIN, "run")}
    return {label: (function(name, site, endpoint, timeout_s=timeout_s), work) for label, (name, work) in works.items()}


def outage(name: str, title: str, target: str, outcomes: dict[str, Outcome], curves: dict[str, Curve]) -> Finding:
    by_run = outcomes[OURS_RUN]
    return Finding(
        name=name,
        title=title,
        target=target,
        parts={
            "0 failed (db.once)": outcomes[OURS].failed == 0,
            "0 failed but unknown outcomes (db.run)": by_run.failed == by_run.unknown,
            **nothing_lost(outcomes[OURS]),
            **{f"{what} (db.run)": held for what, held in nothing_lost(by_run).items()},
        },
        figures={label: failures(outcome) for label, outcome in outcomes.items()},
        outcomes=outcomes,
        curves=curves,
    )


def thinking(mean_s: float) -> Callable[[Environment, Pause], None]:
    def between(_: Environment, pause: Pause) -> None:
        pause.wait(pause.draw.uniform(0, 2 * mean_s))

    return between
