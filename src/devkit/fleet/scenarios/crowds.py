"""More environments than the server has connections for."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING

from devkit.fleet.finding import OURS, PLAIN, Finding, failures, nothing_lost
from devkit.fleet.fleet import under_load
from devkit.fleet.run import function, run
from devkit.fleet.site import DATABASE, Site
from devkit.servers.pgbouncer import PgBouncer
from devkit.servers.postgres import Postgres
from devkit.servers.postgres_settings import CHEAP_PASSWORDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from devkit.fleet.environment import Environment
    from devkit.fleet.finding import Curve
    from devkit.fleet.fleet import Fleet, Pause
    from devkit.fleet.fork_server import ForkServer
    from devkit.fleet.ledger import Outcome
    from devkit.fleet.run import Run
    from devkit.servers.ports import Endpoint

TIMEOUT_S = 10
RESERVED = 3  # PostgreSQL's superuser_reserved_connections
# What ours asks the server for when it connects: a session that idles longer is ended, frozen or not.
IDLE_SESSION_S = 2
OF_OURS = {"DB_CONNECT_ARGS": json.dumps({"options": f"-c idle_session_timeout={IDLE_SESSION_S}s"})}
SETTLE_S = 0.5
WAVE = 20
POOL = 20


def storm(fork_server: ForkServer, *, environments: int = 300, max_connections: int = 50) -> Finding:
    """Every environment is invoked in the same moment. All have served before, and the server has ended their sessions.

    They have, so that the moment is about connections: what else a first invocation costs is the processor's time, of
    which an environment in Lambda has its own, and 300 here share one machine's.
    """
    outcomes: dict[str, Outcome] = {}
    curves: dict[str, Curve] = {}
    for name in (OURS, PLAIN):
        with _alone(name, fork_server, environments=environments, max_connections=max_connections) as running:
            fleet = running.fleets[name]
            for wave in waves(fleet):
                fleet.invoke_all(wave)
                end_sessions(running.server(), name)
            running.begin_anew()
            fleet.invoke_all()
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


def pooler(fork_server: ForkServer, *, environments: int = 200) -> Finding:
    """As many at once through PgBouncer in transaction mode, which lends ``POOL`` connections."""
    outcomes: dict[str, Outcome] = {}
    curves: dict[str, Curve] = {}
    for name in (OURS, PLAIN):
        with _alone(name, fork_server, environments=environments, max_connections=50, pooled=True) as running:
            running.fleets[name].invoke_all()
            outcomes |= running.outcomes()
        curves |= running.curves()
    title = f"{environments} environments at once through PgBouncer with {POOL} connections, deadline {TIMEOUT_S} s"
    return _finding("pooler", title, outcomes, curves, budget=POOL)


def deploy(fork_server: ForkServer, *, environments: int = 40, max_connections: int = 50) -> Finding:
    """A new version takes over while the old one's environments are still there, each with its connection, frozen."""
    outcomes: dict[str, Outcome] = {}
    curves: dict[str, Curve] = {}
    for name in (OURS, PLAIN):
        with _alone(name, fork_server, environments=2 * environments, max_connections=max_connections) as running:
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
    fork_server: ForkServer, *, environments: int = 200, active: int = 20, most_held: int = 30, seconds: float = 8.0
) -> Finding:
    """All have served; then few of them have work, and the others are frozen."""
    outcomes: dict[str, Outcome] = {}
    curves: dict[str, Curve] = {}
    for name in (OURS, PLAIN):
        with _alone(name, fork_server, environments=environments, max_connections=environments + 20) as running:
            fleet = running.fleets[name]
            for wave in waves(fleet):
                fleet.invoke_all(wave)
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


def waves(fleet: Fleet) -> Iterator[Sequence[Environment]]:
    """All environments, as many at a time as one machine has the processors for."""
    for first in range(0, len(fleet.environments), WAVE):
        yield fleet.environments[first : first + WAVE]


def end_sessions(server: Postgres, login: str) -> None:
    """As idle_session_timeout does, at once."""
    server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [login])
    if not server.all_left(DATABASE, login):
        raise RuntimeError(f"sessions of {login} stay")


@contextlib.contextmanager
def _alone(
    name: str, fork_server: ForkServer, *, environments: int, max_connections: int, pooled: bool = False
) -> Iterator[Run]:
    """One function on a server of its own: both at once would fight for one budget."""
    with contextlib.ExitStack() as parts:
        # Hundreds of environments hash their passwords on the cores of this one machine; in Lambda each has its own.
        settings = {"max_connections": str(max_connections), **CHEAP_PASSWORDS}
        server = parts.enter_context(Postgres(settings=settings))
        endpoint: Endpoint = server
        variables = OF_OURS if name == OURS else {}
        if pooled:
            endpoint = parts.enter_context(PgBouncer(server, default_pool_size=POOL))
            variables = {"DB_PROXY": "pgbouncer"}
        site = Site(server)
        chosen = function(name, site, endpoint, timeout_s=TIMEOUT_S, variables=variables)
        yield parts.enter_context(
            run({name: (chosen, "run")}, size=environments, server=lambda: server, fork_server=fork_server)
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
