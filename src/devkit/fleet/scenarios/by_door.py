"""The faults that each proxy has words of its own for: at every door, with either driver, and nobody plain beside."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from devkit.fleet.finding import OURS, Finding, failures, nothing_lost
from devkit.fleet.fleet import under_load
from devkit.fleet.run import function, run
from devkit.fleet.site import DATABASE, Site
from devkit.network.wire import Wire
from devkit.servers.aws import LocalAws
from devkit.servers.doors import USUAL, Door
from devkit.servers.postgres import Postgres
from devkit.servers.postgres_settings import CHEAP_PASSWORDS

from .crowds import end_sessions, waves
from .kills import kill, think
from .outages import restart_behind, thinking
from .rotations import IDLE_SESSION_S, Rotation, pause, rotate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from devkit.fleet.environment import Function
    from devkit.fleet.fork_server import ForkServer
    from devkit.fleet.ledger import Outcome
    from devkit.servers.ports import Endpoint

TIMEOUT_S = 10
PAUSE_S = 0.2
# Between two restarts. PgBouncer comes back a second and more after the server, and an invocation is to meet one.
SETTLE_S = 4.0
# The module of ours that runs on it, and what that is told.
DRIVERS: dict[str, tuple[str, dict[str, str]]] = {
    "psycopg": ("ours", {}),
    "asyncpg": ("ours_aio", {"DB_ASYNC_DRIVER": "asyncpg"}),
}
ALL = USUAL
# A burst is over, and the environments that are left hold on to nothing.
IDLE_CLIENT_S = 2
POOL = 10


def rotation_by_door(
    fork_server: ForkServer,
    *,
    doors: Sequence[Door] = ALL,
    environments: int = 6,
    rotations: int = 4,
    alternations: int = 2,
    window_s: float = 2.0,
) -> Finding:
    """As ``rotation``; both drivers have the one secret."""
    outcomes: dict[str, Outcome] = {}
    for door in doors:
        with Postgres(settings={"idle_session_timeout": f"{IDLE_SESSION_S:g}s"}) as server, LocalAws() as aws:
            # PgBouncer would keep its clients, who would never enter anew.
            idle = {"client_idle_timeout": f"{IDLE_SESSION_S:g}"}
            with door.opened(server, settings=idle) as endpoint:
                site = Site(server)
                rotated = Rotation(OURS, site, server, aws, endpoint=endpoint)
                secret = {**aws.environment(), "DB_SECRET_ID": rotated.secret_id}
                fleets = _fleets(door, site, endpoint, work="run", variables=secret)
                with run(fleets, size=environments, server=lambda: server, fork_server=fork_server) as running:
                    with under_load([*running.fleets.values()], pause):
                        rotate([rotated], rotations=rotations, alternations=alternations, window_s=window_s)
                    outcomes |= running.outcomes()
    title = f"{rotations} rotations with a window of {window_s:g} s, and {alternations} between users, under load"
    return _finding("rotation", title, outcomes)


def restart_by_door(
    fork_server: ForkServer,
    *,
    doors: Sequence[Door] = ALL,
    environments: int = 10,
    restarts: int = 2,
    away_s: float = 2.0,
) -> Finding:
    """As ``restart``; the server is away, and what stands before it stays."""
    outcomes: dict[str, Outcome] = {}
    for door in doors:
        with (
            Postgres() as server,
            Wire(server.host, server.port) as wire,
            door.opened(server, upstream=wire) as endpoint,
        ):
            fleets = _fleets(door, Site(server), endpoint, work="once")
            with run(
                fleets,
                size=environments,
                server=lambda: server,
                fork_server=fork_server,
                connected=True,
            ) as running:
                with under_load([*running.fleets.values()], thinking(PAUSE_S)):
                    restart_behind(wire, server, restarts=restarts, away_s=away_s, settle_s=SETTLE_S)
                outcomes |= running.outcomes()
    return _finding("restart", f"{restarts} server restarts (fast) under load, each {away_s:g} s away", outcomes)


def storm_by_door(
    fork_server: ForkServer,
    *,
    doors: Sequence[Door] = ALL,
    environments: int = 60,
    max_connections: int = 20,
) -> Finding:
    """As ``storm``, each by itself. It is PgBouncer that takes no more clients at its door than the server would."""
    outcomes: dict[str, Outcome] = {}
    full = {"max_client_conn": str(max_connections), "client_idle_timeout": str(IDLE_CLIENT_S)}
    for door in doors:
        with _small(max_connections) as server, door.opened(server, default_pool_size=POOL, settings=full) as endpoint:
            for label, chosen in _fleets(door, Site(server), endpoint, work="run").items():
                with run(
                    {label: chosen},
                    size=environments,
                    server=lambda: server,
                    fork_server=fork_server,
                ) as running:
                    fleet = running.fleets[label]
                    for wave in waves(fleet):
                        fleet.invoke_all(wave)
                        end_sessions(server, OURS)
                    running.begin_anew()
                    fleet.invoke_all()
                    outcomes |= running.outcomes()
                end_sessions(server, OURS)
    return _finding("storm", f"{environments} environments at once for {max_connections} connections", outcomes)


def kills_by_door(
    fork_server: ForkServer,
    *,
    doors: Sequence[Door] = ALL,
    environments: int = 4,
    kills: int = 100,
) -> Finding:
    """As ``kills``, so many for each by itself. At PgBouncer's door they are the pooler's connections."""
    outcomes: dict[str, Outcome] = {}
    with Postgres() as server:
        site = Site(server)
        for door in doors:
            with door.opened(server) as endpoint:
                for label, chosen in _fleets(door, site, endpoint, work="read, then once").items():
                    with run(
                        {label: chosen},
                        size=environments,
                        server=lambda: server,
                        fork_server=fork_server,
                        connected=True,
                    ) as running:
                        with under_load([*running.fleets.values()], think):
                            kill(server, running.fleets[label], OURS, kills)
                        outcomes |= running.outcomes()
                    server.terminate(DATABASE, OURS)
    return _finding("kills", f"{kills:,} backends terminated at random moments", outcomes)


def _fleets(
    door: Door,
    site: Site,
    endpoint: Endpoint,
    *,
    work: str,
    variables: Mapping[str, str] | None = None,
) -> dict[str, tuple[Function, str]]:
    """Ours on each driver, entering by ``door``."""
    return {
        f"{door}, {driver}": (
            function(
                OURS,
                site,
                endpoint,
                timeout_s=TIMEOUT_S,
                variables={"DB_PROXY": door.proxy, **told, **(variables or {})},
                module=module,
            ),
            work,
        )
        for driver, (module, told) in DRIVERS.items()
    }


@contextlib.contextmanager
def _small(max_connections: int) -> Iterator[Postgres]:
    settings = {"max_connections": str(max_connections), "idle_session_timeout": f"{IDLE_CLIENT_S}s"}
    with Postgres(settings={**settings, **CHEAP_PASSWORDS}) as server:
        yield server


def _finding(fault: str, title: str, outcomes: dict[str, Outcome]) -> Finding:
    parts: dict[str, bool] = {}
    for label, outcome in outcomes.items():
        held = {"0 failed": outcome.failed == 0, **nothing_lost(outcome)}
        parts |= {f"{what} ({label})": met for what, met in held.items()}
    return Finding(
        name=f"{fault}-by-door",
        title=f"{title}, deadline {TIMEOUT_S} s",
        target="0 failed, 0 lost, 0 applied twice, at every door",
        parts=parts,
        figures={label: failures(outcome) for label, outcome in outcomes.items()},
        outcomes=outcomes,
        by_door=True,
    )
