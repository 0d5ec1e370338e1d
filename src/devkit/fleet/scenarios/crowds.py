"""More environments than the server has connections for."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING

from devkit.fleet.finding import OURS, PLAIN, Finding, failures, nothing_lost
from devkit.fleet.fleet import under_load
from devkit.fleet.run import function, run
from devkit.fleet.site import Site
from devkit.pgbouncer import PgBouncer
from devkit.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.fleet.environment import Environment
    from devkit.fleet.finding import Curve
    from devkit.fleet.fleet import Pause
    from devkit.fleet.ledger import Outcome
    from devkit.fleet.nursery import Nursery
    from devkit.fleet.run import Run
    from devkit.ports import Endpoint

TIMEOUT_S = 10
RESERVED = 3  # PostgreSQL's superuser_reserved_connections
# What ours asks the server for when it connects: a session that idles longer is ended, frozen or not.
IDLE_SESSION_S = 2
OF_OURS = {"DB_CONNECT_ARGS": json.dumps({"options": f"-c idle_session_timeout={IDLE_SESSION_S}s"})}
SETTLE_S = 0.5
POOL = 20
# Hundreds of environments hash their passwords on the cores of this one machine; in Lambda each has its own.
SCRAM_ITERATIONS = "1"


def storm(nursery: Nursery, *, environments: int = 300, max_connections: int = 50) -> Finding:
    """Every environment is invoked in the same moment, for the first time since it was loaded."""
    outcomes: dict[str, Outcome] = {}
    curves: dict[str, Curve] = {}
    for name in (OURS, PLAIN):
        with _alone(name, nursery, environments=environments, max_connections=max_connections) as running:
            running.fleets[name].invoke_all()
            outcomes |= running.outcomes()
        curves |= running.curves()
    budget = max_connections - RESERVED
    return _finding(
        "storm",
        f"{environments} environments at once against max_connections {max_connections}, deadline {TIMEOUT_S} s",
        outcomes,
        curves,
        budget=budget,
    )


def pooler(nursery: Nursery, *, environments: int = 200) -> Finding:
    """As many at once through PgBouncer in transaction mode, which lends ``POOL`` connections."""
    outcomes: dict[str, Outcome] = {}
    curves: dict[str, Curve] = {}
    for name in (OURS, PLAIN):
        with _alone(name, nursery, environments=environments, max_connections=50, pooled=True) as running:
            running.fleets[name].invoke_all()
            outcomes |= running.outcomes()
        curves |= running.curves()
    title = f"{environments} environments at once through PgBouncer with {POOL} connections, deadline {TIMEOUT_S} s"
    return _finding("pooler", title, outcomes, curves, budget=POOL)


def deploy(nursery: Nursery, *, environments: int = 40, max_connections: int = 50) -> Finding:
    """A new version takes over while the old one's environments are still there, each with its connection, frozen."""
    outcomes: dict[str, Outcome] = {}
    curves: dict[str, Curve] = {}
    for name in (OURS, PLAIN):
        with _alone(name, nursery, environments=2 * environments, max_connections=max_connections) as running:
            fleet = running.fleets[name]
            old, new = fleet.environments[:environments], fleet.environments[environments:]
            fleet.invoke_all(old)
            for environment in old:
                environment.freeze()
            fleet.invoke_all(new)
            for environment in old:
                environment.end()
            fleet.invoke_all(new)
            outcomes |= running.outcomes()
        curves |= running.curves()
    title = (
        f"a deploy: {environments} new environments beside {environments} old ones that are frozen, max_connections "
        f"{max_connections}, deadline {TIMEOUT_S} s"
    )
    return _finding("deploy", title, outcomes, curves, budget=max_connections - RESERVED)


def warm(
    nursery: Nursery, *, environments: int = 200, active: int = 20, most_held: int = 30, seconds: float = 8.0
) -> Finding:
    """All have served; then few of them have work, and the others are frozen."""
    outcomes: dict[str, Outcome] = {}
    curves: dict[str, Curve] = {}
    for name in (OURS, PLAIN):
        with _alone(name, nursery, environments=environments, max_connections=environments + 20) as running:
            fleet = running.fleets[name]
            for first in range(0, environments, active):  # one machine has not the processors for all at once
                fleet.invoke_all(fleet.environments[first : first + active])
            for environment in fleet.environments[active:]:
                environment.freeze()
            settled_s = running.held.seconds() + IDLE_SESSION_S + SETTLE_S
            with under_load([fleet], _think, active=active):
                time.sleep(seconds)
            outcomes |= running.outcomes(held_since_s=settled_s)
        curves |= running.curves()
    held = outcomes[OURS].held_max or 0
    return Finding(
        name="warm",
        title=f"{environments} warm environments, {active} of them active",
        target=f"connections held ≤ {most_held}",
        parts={
            f"connections held ≤ {most_held}": held <= most_held,
            "0 failed": outcomes[OURS].failed == 0,
            **nothing_lost(outcomes[OURS]),
        },
        figures={label: f"{outcome.held_max} held, {failures(outcome)}" for label, outcome in outcomes.items()},
        outcomes=outcomes,
        curves=curves,
    )


def _think(_: Environment, pause: Pause) -> None:
    pause.wait(pause.draw.uniform(0, 0.4))


@contextlib.contextmanager
def _alone(
    name: str, nursery: Nursery, *, environments: int, max_connections: int, pooled: bool = False
) -> Iterator[Run]:
    """One function on a server of its own: both at once would fight for one budget."""
    with contextlib.ExitStack() as parts:
        server = parts.enter_context(
            Postgres(settings={"max_connections": str(max_connections), "scram_iterations": SCRAM_ITERATIONS})
        )
        endpoint: Endpoint = server
        variables = OF_OURS if name == OURS else {}
        if pooled:
            endpoint = parts.enter_context(PgBouncer(server, default_pool_size=POOL))
            variables = {"DB_PROXY": "pgbouncer"}
        site = Site(server)
        chosen = function(name, site, endpoint, timeout_s=TIMEOUT_S, variables=variables)
        yield parts.enter_context(
            run({name: (chosen, "run")}, size=environments, server=lambda: server, nursery=nursery)
        )


def _finding(name: str, title: str, outcomes: dict[str, Outcome], curves: dict[str, Curve], *, budget: int) -> Finding:
    ours = outcomes[OURS]
    return Finding(
        name=name,
        title=title,
        target=f"0 failed, never more than {budget} connections",
        parts={
            "0 failed": ours.failed == 0,
            "never above the budget": (ours.held_max or 0) <= budget,
            **nothing_lost(ours),
        },
        figures={label: f"{failures(outcome)}, {outcome.held_max} held" for label, outcome in outcomes.items()},
        outcomes=outcomes,
        curves=curves,
    )
