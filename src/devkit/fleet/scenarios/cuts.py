"""The wire cut at every flight of a writing workload."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from devkit.fleet.finding import OURS, PLAIN, Finding, failures, nothing_lost
from devkit.fleet.fleet import Fleet
from devkit.fleet.ledger import audited
from devkit.fleet.run import function
from devkit.fleet.site import DATABASE, Site, written
from devkit.network.faults import Lost
from devkit.network.wire import Wire
from devkit.servers.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.fleet.fork_server import ForkServer
    from devkit.fleet.ledger import Outcome

WORK = ("run", "begin", "run", "begin")
MOST_FLIGHTS = 200


def cuts(fork_server: ForkServer, *, work: Sequence[str] = WORK) -> Finding:
    """Writes from a cold start on, again and again, the wire cut one flight later each time, until none is left."""
    outcomes, flights = {}, {}
    with Postgres() as server:
        site = Site(server)
        for name in (OURS, PLAIN):
            outcomes[name], flights[name] = _every_flight(name, work, site, server, fork_server)
    tried = {name: sum(counts.values()) for name, counts in flights.items()}
    return Finding(
        name="cuts",
        title=f"the wire cut after every single flight, both directions, of {len(work)} writes from a cold start on",
        target="0 acknowledged writes lost, 0 applied twice, unknown outcomes reported as such, every flight tried",
        parts={**nothing_lost(outcomes[OURS]), "every flight tried": min(flights[OURS].values()) > len(work)},
        figures={name: f"{tried[name]} cuts: {failures(outcome)}" for name, outcome in outcomes.items()},
        outcomes=outcomes,
        notes={"flights": flights},
    )


def _every_flight(
    name: str, works: Sequence[str], site: Site, server: Postgres, fork_server: ForkServer
) -> tuple[Outcome, dict[str, int]]:
    """The outcome of all, and how many flights there were to cut, by what was lost of them."""
    flights = {}
    with Wire(server.host, server.port) as wire:
        chosen = function(name, site, wire, timeout_s=10)
        with Fleet(chosen, size=1, fork_server=fork_server) as fleet:
            (environment,) = fleet.environments
            for lost in get_args(Lost):
                flight, fired = 0, True
                while fired:
                    flight += 1
                    if flight > MOST_FLIGHTS:
                        raise RuntimeError(f"the workload has more than {MOST_FLIGHTS} flights")
                    environment.end()  # the next invocation is a cold start, so flights are the same each time
                    environment.invoke({"id": "", "work": "nothing"})
                    cut = wire.cut_at(flight, lost=lost)
                    for work in works:
                        fleet.invoke(environment, work=work)
                    fired = cut.fired
                flights[lost] = flight - 1
    if not server.all_left(DATABASE):
        raise RuntimeError("a connection stayed")
    return audited(fleet.entries, written(server)), flights
