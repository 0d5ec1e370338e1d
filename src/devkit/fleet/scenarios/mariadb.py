"""``freezes``, ``rotations`` and ``outages`` once more, on MariaDB: ours beside SQLAlchemy on PyMySQL with pre-ping."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from devkit.fleet.finding import OURS, PLAIN, Finding, failures, nothing_lost
from devkit.fleet.fleet import under_load
from devkit.fleet.mariadb_site import HeldOnMariaDb, MariaDbSite
from devkit.fleet.run import function, run
from devkit.fleet.site import DATABASE
from devkit.network.wire import Wire
from devkit.servers.aws import LocalAws
from devkit.servers.mariadb import MariaDb
from devkit.servers.passwords import new_password

from .freezes import freeze
from .outages import by_once_and_run, outage, restart_behind, thinking
from .rotations import Rotation, rotate

if TYPE_CHECKING:
    from devkit.fleet.environment import Environment
    from devkit.fleet.fleet import Pause
    from devkit.fleet.fork_server import ForkServer

OURS_AIO = "ours, db.aio"
IDLE_SESSION_S = 1  # the shortest that `wait_timeout` can be
PAUSE_S = 2.5  # so that most invocations have to enter anew


class MariaDbRotation(Rotation):
    """``Rotation`` on such a server."""

    engine = "mariadb"

    def _add(self, login: str) -> None:
        self._server.execute(f"CREATE USER {login}@'%%' IDENTIFIED BY %s", [new_password()])
        self._server.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {DATABASE}.* TO {login}@'%'")

    def _set(self, login: str, password: str) -> None:
        self._server.execute(f"ALTER USER {login}@'%%' IDENTIFIED BY %s", [password])


def mariadb_freezes(fork_server: ForkServer | None = None, *, environments: int = 10, invocations: int = 50) -> Finding:
    """As ``freezes``: frozen after each invocation, some past the end of their sessions, and a few killed.

    Without a fork server the environments are real ones.
    """
    with MariaDb(settings={"wait-timeout": str(IDLE_SESSION_S)}) as server:
        site = MariaDbSite(server)
        fleets = {
            OURS: (function(OURS, site, server, timeout_s=10), "run"),
            OURS_AIO: (function(OURS, site, server, timeout_s=10, module="ours_aio"), "run"),
            PLAIN: (function(PLAIN, site, server, timeout_s=10), "run"),
        }
        with run(
            fleets, size=environments, server=lambda: server, fork_server=fork_server, watch=HeldOnMariaDb
        ) as running:
            with under_load([*running.fleets.values()], freeze, invocations=invocations):
                pass
            outcomes = running.outcomes()
    return Finding(
        name="mariadb-freezes",
        title=(
            f"MariaDB: {environments * invocations:,} invocations over {environments} environments, frozen in between, "
            f"wait_timeout {IDLE_SESSION_S} s"
        ),
        target="0 failed",
        parts={
            "0 failed": outcomes[OURS].failed == outcomes[OURS_AIO].failed == 0,
            **nothing_lost(outcomes[OURS]),
            **{f"{what} (db.aio)": held for what, held in nothing_lost(outcomes[OURS_AIO]).items()},
        },
        figures={label: failures(outcome) for label, outcome in outcomes.items()},
        outcomes=outcomes,
        curves=running.curves(),
        notes={"environments": "real" if fork_server is None else "light"},
    )


def mariadb_rotation(
    fork_server: ForkServer,
    *,
    environments: int = 10,
    rotations: int = 10,
    alternations: int = 3,
    window_s: float = 2.0,
    pause_s: float = PAUSE_S,
) -> Finding:
    """As ``rotation``: single-user rotations, every other one without AWSPENDING, and some between two users."""
    with MariaDb(settings={"wait-timeout": str(IDLE_SESSION_S)}) as server, LocalAws() as aws:
        site = MariaDbSite(server)
        rotated = {name: MariaDbRotation(name, site, server, aws) for name in (OURS, PLAIN)}

        def variables(name: str) -> dict[str, Any]:
            return {**aws.environment(), "DB_ENGINE": "mariadb", "DB_SECRET_ID": rotated[name].secret_id}

        fleets = {
            name: (function(name, site, server, timeout_s=10, variables=variables(name)), "run") for name in rotated
        }

        def pause(_: Environment, until: Pause) -> None:
            until.wait(until.draw.uniform(0, pause_s))

        with run(
            fleets, size=environments, server=lambda: server, fork_server=fork_server, watch=HeldOnMariaDb
        ) as running:
            with under_load([*running.fleets.values()], pause):
                rotate([*rotated.values()], rotations=rotations, alternations=alternations, window_s=window_s)
            outcomes = running.outcomes()
    return Finding(
        name="mariadb-rotation",
        title=(
            f"MariaDB: {rotations} rotations, single-user with a window of {window_s:g} s, and {alternations} between "
            "users, under load, deadline 10 s"
        ),
        target="0 failed",
        parts={"0 failed": outcomes[OURS].failed == 0, **nothing_lost(outcomes[OURS])},
        figures={label: failures(outcome) for label, outcome in outcomes.items()},
        outcomes=outcomes,
        curves=running.curves(),
    )


def mariadb_restart(
    fork_server: ForkServer, *, environments: int = 20, restarts: int = 3, away_s: float = 2.0, pause_s: float = 0.2
) -> Finding:
    """As ``restart``: shutdowns under load; for ``away_s`` beyond each the address refuses connections."""
    with MariaDb() as server, Wire(server.host, server.port) as wire:
        fleets = by_once_and_run(MariaDbSite(server), wire, timeout_s=10)
        with run(
            fleets,
            size=environments,
            server=lambda: server,
            fork_server=fork_server,
            connected=True,
            watch=HeldOnMariaDb,
        ) as running:
            with under_load([*running.fleets.values()], thinking(pause_s)):
                restart_behind(wire, server, restarts=restarts, away_s=away_s)
            outcomes = running.outcomes()
    title = f"MariaDB: {restarts} server restarts (SIGTERM) under load, each {away_s:g} s away, deadline 10 s"
    return outage("mariadb-restart", title, "0 failed", outcomes, running.curves())
