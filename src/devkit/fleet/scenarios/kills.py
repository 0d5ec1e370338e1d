"""Backends that are terminated at any moment, on a machine that is busy otherwise."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psycopg

from devkit.fleet.environment import Function
from devkit.fleet.finding import OURS, PLAIN, Finding, failures, nothing_lost
from devkit.fleet.fleet import under_load
from devkit.fleet.run import run
from devkit.fleet.site import DATABASE, Site
from devkit.servers.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.fleet.environment import Environment
    from devkit.fleet.finding import Curve
    from devkit.fleet.fleet import Fleet, Pause
    from devkit.fleet.fork_server import ForkServer
    from devkit.fleet.ledger import Outcome

OURS_NULL, OURS_AIO, OURS_ASYNCPG = "ours, null pool", "ours, db.aio", "ours, asyncpg"
# What each function runs as, what it is told beside where the database is, and what it does.
_FUNCTIONS = {
    OURS: ("ours", {}, "read, then run"),
    OURS_NULL: ("ours", {"DB_POOL": "null"}, "read, then run"),
    OURS_AIO: ("ours_aio", {}, "read, then run"),
    OURS_ASYNCPG: ("ours_aio", {"DB_ASYNC_DRIVER": "asyncpg"}, "read, then run"),
    PLAIN: ("plain", {}, "begin"),
}
_OURS = (OURS, OURS_NULL, OURS_AIO, OURS_ASYNCPG)
_KILL_ONE = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s AND backend_type = 'client backend'
    ORDER BY random() LIMIT 1
"""
_BUSY = "import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"
LONGEST_S = 240.0
PAUSE_S = 0.02


def kills(fork_server: ForkServer, *, environments: int = 4, kills: int = 1_000, busy_loops: int = 4) -> Finding:
    """Each of four functions of ours by itself, until its share of ``kills`` has met it; then the plain one likewise.

    A backend is drawn among those that it has at the time. Its handler writes by ``db.run`` and reads by ``db.read``, a
    statement each.
    """
    outcomes: dict[str, Outcome] = {}
    curves: dict[str, Curve] = {}
    share = kills // len(_OURS)
    with Postgres() as server, _busy(busy_loops):
        site = Site(server)
        for label, (module, settings, work) in _FUNCTIONS.items():
            login = PLAIN if label == PLAIN else OURS
            variables = {**site.variables(login, server), **settings}
            chosen = Function(login, f"devkit.fleet.functions.{module}.handler", variables, timeout_s=10)
            with run(
                {label: (chosen, work)},
                size=environments,
                server=lambda: server,
                fork_server=fork_server,
                connected=True,
            ) as running:
                with under_load([*running.fleets.values()], think):
                    kill(server, running.fleets[label], login, share)
                outcomes |= running.outcomes()
            curves |= running.curves()
            server.terminate(DATABASE, login)
    parts: dict[str, bool] = {}
    for label in _OURS:
        outcome, kind = outcomes[label], label.partition(", ")[2] or "queue"
        held = {"0 failed but unknown outcomes": outcome.failed == outcome.unknown, **nothing_lost(outcome)}
        parts |= {f"{what} ({kind})": met for what, met in held.items()}
    return Finding(
        name="kills",
        title=f"{kills:,} backends terminated at random moments, a quarter a kind, beside {busy_loops} busy loops",
        target="0 failed but unknown outcomes, which are said to be; 0 lost, 0 applied twice",
        parts=parts,
        figures={label: failures(outcome) for label, outcome in outcomes.items()},
        outcomes=outcomes,
        curves=curves,
    )


def kill(server: Postgres, fleet: Fleet, login: str, kills: int) -> None:
    """One at a time, the next when each environment has answered since. Raises RuntimeError where it takes too long.

    More of them would be no accidents any more: a statement is sent again for two deaths, and not for a third.
    """
    draw = random.Random(0)  # noqa: S311 - a scenario, drawn alike each time
    give_up_at = time.monotonic() + LONGEST_S
    with psycopg.connect(
        host=server.host,
        port=server.port,
        user=server.superuser,
        password=server.password,
        dbname=DATABASE,
        autocommit=True,
    ) as killer:
        while kills:
            if time.monotonic() > give_up_at:
                raise RuntimeError(f"{kills} kills are left after {LONGEST_S:.0f} s")
            time.sleep(draw.uniform(0, PAUSE_S))
            if killer.execute(_KILL_ONE, [login]).fetchall():
                kills -= 1
                before = fleet.answered.copy()
                while any(fleet.answered[one] == before[one] for one in fleet.environments):
                    if time.monotonic() > give_up_at:
                        break
                    time.sleep(0.001)


def think(_: Environment, pause: Pause) -> None:
    # Some are killed while they idle.
    pause.wait(pause.draw.uniform(0, 0.01))


@contextlib.contextmanager
def _busy(loops: int) -> Iterator[None]:
    """``loops`` processes that do nothing, each as fast as it can. They end by themselves, should nobody end them."""
    script = _BUSY.format(seconds=LONGEST_S * len(_FUNCTIONS))
    with contextlib.ExitStack() as ending:
        for _ in range(loops):
            process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.DEVNULL)
            ending.callback(process.wait)
            ending.callback(process.kill)
        yield
