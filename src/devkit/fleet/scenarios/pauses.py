"""The server pauses where nobody is connected, and resumes for who comes, as Aurora does that may go down to 0 ACU."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from devkit.fleet.finding import OURS, PLAIN, Finding, failures, nothing_lost
from devkit.fleet.run import function, run
from devkit.fleet.site import Site
from devkit.network.resuming import ResumingWire
from devkit.servers.postgres import Postgres
from devkit.servers.postgres_settings import CHEAP_PASSWORDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.fleet.finding import Curve
    from devkit.fleet.fork_server import ForkServer
    from devkit.fleet.ledger import Outcome
    from devkit.network.resuming import Parting

TIMEOUT_S = 20
# What docs/run/aurora.md tells to set: one connect outlasts the resume, and the server ends what idles.
IDLE_SESSION_S = 1
OF_OURS = {
    "DB_CONNECT_TIMEOUT_S": "30",
    "DB_CONNECT_ARGS": json.dumps({"options": f"-c idle_session_timeout={IDLE_SESSION_S}s"}),
}
# Of those who wait while it resumes, a quarter loses its connection, and a quarter is refused once.
SENT_AWAY: tuple[Parting, ...] = ("closed", "no entry")
PATIENCE_S = 5.0


def resume(fork_server: ForkServer, *, environments: int = 40, pauses: int = 3, resume_s: float = 3.0) -> Finding:
    """All environments at once on a paused server; and again, when it has paused, if it ever does."""
    outcomes: dict[str, Outcome] = {}
    curves: dict[str, Curve] = {}
    paused: dict[str, int] = {}
    knocks: dict[str, int] = {}
    for name in (OURS, PLAIN):
        partings = [parting for parting in SENT_AWAY for _ in range(environments // 4)]
        with (
            Postgres(settings={**CHEAP_PASSWORDS, "max_connections": str(environments + 20)}) as server,
            ResumingWire(server.host, server.port, resume_s=resume_s, partings=partings) as wire,
        ):
            chosen = function(
                name, Site(server), wire, timeout_s=TIMEOUT_S, variables=OF_OURS if name == OURS else None
            )
            with run(
                {name: (chosen, "run")}, size=environments, server=_same(server), fork_server=fork_server
            ) as running:
                fleet = running.fleets[name]
                fleet.invoke_all()
                paused[name] = 1
                while paused[name] < pauses and _pauses(wire):
                    fleet.invoke_all()
                    paused[name] += 1
                outcomes |= running.outcomes()
                curves |= running.curves()
                knocks[name] = wire.knocks
    title = (
        f"{environments} environments at once on a paused server that resumes in {resume_s:g} s, {pauses} times; "
        f"a half of them is sent away once; deadline {TIMEOUT_S} s"
    )
    return Finding(
        name="resume",
        title=title,
        target="0 failed, paused each time, a connect each and one more for who was sent away",
        parts={
            "0 failed": outcomes[OURS].failed == 0,
            "paused each time": paused[OURS] == pauses,
            # On a busy machine a session may have ended before its first statement, which is sent again then.
            "no further connects": knocks[OURS] <= environments * pauses + environments // 2 + outcomes[OURS].replayed,
            **nothing_lost(outcomes[OURS]),
        },
        figures={
            name: f"{failures(outcomes[name])}, {knocks[name]} connects, paused {paused[name]} of {pauses} times"
            for name in outcomes
        },
        outcomes=outcomes,
        curves=curves,
    )


def _same(server: Postgres) -> Callable[[], Postgres]:
    return lambda: server


def _pauses(wire: ResumingWire) -> bool:
    """Whether nobody is connected soon, so that the server has paused."""
    try:
        wire.pause(within_s=PATIENCE_S)
    except RuntimeError:
        return False
    return True
