"""What stands still: an environment between two invocations, and a statement that outlasts its own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from devkit.fleet.finding import OURS, PLAIN, Finding, failures, nothing_lost
from devkit.fleet.fleet import Fleet, under_load
from devkit.fleet.ledger import audited
from devkit.fleet.run import function, run
from devkit.fleet.site import DATABASE, Site
from devkit.lambda_runtime.environment import TIMEOUT_ERROR
from devkit.servers.postgres import Postgres

if TYPE_CHECKING:
    from devkit.fleet.environment import Environment
    from devkit.fleet.fleet import Pause
    from devkit.fleet.fork_server import ForkServer

IDLE_SESSION_S = 1.0
FREEZE_S = 1.3  # past the session's end
SHARE_OF_LONG_FREEZES = 0.3
SHARE_OF_KILLS = 0.02
SLEEP_S = 60
LEFT_S = 3
GONE_S = 0.5


def freezes(fork_server: ForkServer | None = None, *, environments: int = 20, invocations: int = 50) -> Finding:
    """Every environment is frozen after each invocation, some past the end of their sessions, and a few are killed.

    Without a fork server the environments are real ones.
    """
    with Postgres(settings={"idle_session_timeout": f"{IDLE_SESSION_S:g}s"}) as server:
        site = Site(server)
        fleets = {name: (function(name, site, server, timeout_s=10), "run") for name in (OURS, PLAIN)}
        with run(fleets, size=environments, server=lambda: server, fork_server=fork_server) as running:
            with under_load([*running.fleets.values()], freeze, invocations=invocations):
                pass
            outcomes = running.outcomes()
    return Finding(
        name="freezes",
        title=(
            f"{environments * invocations:,} invocations over {environments} environments, frozen in between, "
            f"idle_session_timeout {IDLE_SESSION_S:g} s"
        ),
        target="0 failed",
        parts={"0 failed": outcomes[OURS].failed == 0, **nothing_lost(outcomes[OURS])},
        figures={label: failures(outcome) for label, outcome in outcomes.items()},
        outcomes=outcomes,
        curves=running.curves(),
        notes={"environments": "real" if fork_server is None else "light"},
    )


def freeze(environment: Environment, pause: Pause) -> None:
    """Or kill it."""
    if pause.draw.random() < SHARE_OF_KILLS:
        environment.end()
        return
    environment.freeze()
    pause.wait(FREEZE_S if pause.draw.random() < SHARE_OF_LONG_FREEZES else pause.draw.uniform(0, 0.1))


def sleep(_: ForkServer | None = None, *, left_s: int = LEFT_S) -> Finding:
    """A statement of a minute in an invocation of ``left_s`` seconds, in real environments: the timeout is Lambda's."""
    outcomes, figures, busy = {}, {}, {}
    with Postgres() as server:
        site = Site(server)
        for name in (OURS, PLAIN):
            with Fleet(function(name, site, server, timeout_s=left_s), size=1, work="sleep") as fleet:
                fleet.warm_up(connected=False)
                answer = fleet.invoke(fleet.environments[0], seconds=SLEEP_S)
                busy[name] = not _idle(server, name, within_s=GONE_S)
            server.terminate(DATABASE, name)
            outcomes[name] = audited(fleet.entries, {})
            backend = "its backend sleeps on" if busy[name] else "its backend is gone"
            figures[name] = f"{answer.error} after {outcomes[name].max_ms / 1000:.1f} s, {backend}"
    ours = outcomes[OURS]
    answered = TIMEOUT_ERROR not in "".join(ours.errors) and ours.failed == 1 and ours.max_ms < left_s * 1000
    return Finding(
        name="sleep",
        title=f"pg_sleep({SLEEP_S}) with {left_s} s left",
        target="error to the caller before the deadline, backend gone",
        parts={"error to the caller before the deadline": answered, "backend gone": not busy[OURS]},
        figures=figures,
        outcomes=outcomes,
    )


def _idle(server: Postgres, login: str, *, within_s: float) -> bool:
    """Whether no backend of ``login`` is at work, now or ``within_s`` later."""
    at_work = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND state <> 'idle'"
    give_up_at = time.monotonic() + within_s
    while server.execute(at_work, [login]) != [(0,)]:
        if time.monotonic() > give_up_at:
            return False
        time.sleep(0.02)
    return True
