"""The fleet of real processes and the simulation, under the same six scenarios, and how far they are from each other.

What an environment waits for is declared: statements of ``pg_sleep``, pauses, limits, pools of a size. What a machine
decides, how long a connect, a refusal and an invocation of nothing take on it, is measured in the same run and given
to the simulation. Each scenario has a server of its own.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import math
import os
import platform
import random
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from devkit.fleet.environment import WAITS
from devkit.fleet.finding import OURS
from devkit.fleet.fork_server import ForkServer
from devkit.fleet.ledger import percentile
from devkit.fleet.run import function
from devkit.fleet.run import run as fleet_run
from devkit.fleet.scenarios.crowds import end_sessions
from devkit.fleet.site import Site
from devkit.servers.pgbouncer import PgBouncer
from devkit.servers.postgres import Postgres
from devkit.servers.postgres_settings import CHEAP_PASSWORDS

from .run import simulate
from .scenario import Callers, Function, Handler, Pooler, Scenario, Server, settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from devkit.fleet.environment import Environment
    from devkit.fleet.fleet import Fleet
    from devkit.fleet.run import Run
    from devkit.servers.ports import Endpoint

LEAST, MOST = 0.9, 1.1
FILE = "simulate.json"
RESERVED = 3  # PostgreSQL's superuser_reserved_connections
WATCHING = 1  # who counts the others
WAVE = 20
TRIES = 15
SEEDS = 5
EVERY_S = 0.05
LONGEST_S = 300.0
_COLUMNS = {
    "held_mean": "held, mean",
    "held_max": "held, at most",
    "answer_p50_s": "answer, p50",
    "answer_p99_s": "answer, p99",
    "waits": "refusals",
    "failed": "failed",
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One scenario for both: ``size`` callers, each with an environment, for ``room`` connections of the server.

    Each of ``invocations`` sleeps for ``sleep_s`` within a unit of ``db.run``. ``connected`` have a connection when
    the load begins. ``pool`` is that of ``db``; ``borrowed`` is how many connections a PgBouncer lends.
    """

    name: str
    title: str
    size: int
    room: int
    invocations: int
    pause_s: tuple[float, float]
    sleep_s: float = 1.0
    over_s: float = 0.0
    timeout_s: int = 25
    connected: bool = False
    pool: str = "queue"
    borrowed: int | None = None
    idle_session_s: int | None = None


def cases(size: int) -> list[Case]:
    """The six, for ``size`` environments; fewer where all ask the server again and again, on this machine's cores."""
    crowd = max(size * 2 // 5, 10)
    return [
        Case(
            name="warm",
            title="room for all, each keeps its connection",
            size=size,
            room=size + 10,
            invocations=8,
            pause_s=(0.5, 1.5),
            over_s=2.0,
            connected=True,
        ),
        Case(
            name="null",
            title="room for all, DB_POOL=null",
            size=size,
            room=size + 10,
            invocations=4,
            pause_s=(4.0, 8.0),
            over_s=7.0,
            pool="null",
        ),
        Case(
            name="idle",
            title="room for all, idle_session_timeout of 2 s and pauses of up to 8 s",
            size=size,
            room=size + 10,
            invocations=6,
            pause_s=(0.0, 8.0),
            over_s=5.0,
            idle_session_s=2,
        ),
        Case(
            name="crowd",
            title="an eighth of the room, idle_session_timeout of 1 s",
            size=crowd,
            room=max(crowd // 8, 2),
            invocations=8,
            pause_s=(1.2, 2.2),
            sleep_s=0.5,
            timeout_s=60,  # more than anybody waits for
            # Nobody keeps a connection over a pause: who was never refused would, and starve the others.
            idle_session_s=1,
        ),
        Case(
            name="refused",
            title="a fifth of the room, and 4 s to wait and to work in",
            size=crowd,
            room=crowd // 5,
            invocations=6,
            pause_s=(1.2, 2.2),
            sleep_s=1.0,
            timeout_s=4,
            idle_session_s=1,
        ),
        Case(
            name="pooler",
            title="through PgBouncer, which lends a fifth as many",
            size=size,
            room=size // 5 + 20,
            invocations=5,
            pause_s=(0.0, 1.0),
            sleep_s=0.5,
            connected=True,
            borrowed=max(size // 5, 2),
        ),
    ]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What either came to. ``waits`` are the refusals that a connect waited after."""

    held_mean: float
    held_max: float
    answer_p50_s: float
    answer_p99_s: float
    waits: float
    failed: float


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What was measured beside it, by medians: a connect, a refused one, and an invocation that does nothing."""

    connect_s: float
    refused_s: float
    nothing_s: float
    cores: int


def run(size: int, *, seed: int, results: Path | None) -> int:
    """All six with ``size`` environments; 0 where every ratio is within its range. Takes about five minutes."""
    told: list[dict[str, Any]] = []
    began = time.monotonic()
    with ForkServer() as fork_server:
        for case in cases(size):
            real, costs = measured(case, fork_server)
            told.append(compared(case, costs, real, simulated(case, costs, seed=seed)))
            print(shown(told[-1]), flush=True)
    missed = [f"{one['name']}: {what}" for one in told for what in one["missed"]]
    print(f"\n{as_markdown({'scenarios': told})}")
    print(f"\n{len(told)} scenarios in {time.monotonic() - began:.0f} s; out of {LEAST} to {MOST}: {len(missed)}")
    if results is not None:
        save(told, size, seed, results)
    if missed:
        print(f"missed: {'; '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def compared(case: Case, costs: Costs, real: Figures, simulation: Figures) -> dict[str, Any]:
    """Both, and simulation ÷ real, None where there was nothing in either."""
    ours, theirs = vars(simulation), vars(real)
    ratios = {what: _ratio(ours[what], theirs[what]) for what in ours}
    return {
        "name": case.name,
        "title": case.title,
        "environments": case.size,
        "costs": _rounded(vars(costs)),
        "real": _rounded(theirs),
        "simulated": _rounded(ours),
        "ratios": {what: None if ratio is None else round(ratio, 3) for what, ratio in ratios.items()},
        "missed": [what for what, ratio in ratios.items() if ratio is not None and not LEAST <= ratio <= MOST],
    }


def shown(told: dict[str, Any]) -> str:
    """For a terminal."""
    lines = [f"{told['name']}: {told['environments']} environments, {told['title']}"]
    costs = told["costs"]
    lines.append(
        f"  a connect {costs['connect_s'] * 1000:.1f} ms, a refusal {costs['refused_s'] * 1000:.1f} ms, an invocation "
        f"of nothing {costs['nothing_s'] * 1000:.1f} ms"
    )
    for what, ratio in told["ratios"].items():
        said = "none" if ratio is None else f"{ratio:.2f}{'  MISSED' if what in told['missed'] else ''}"
        lines.append(f"  {what:<14}{told['simulated'][what]:>10,.2f} ÷{told['real'][what]:>10,.2f} = {said}")
    return "\n".join(lines)


def save(told: Sequence[dict[str, Any]], size: int, seed: int, folder: Path) -> None:
    """``simulate.json`` in ``folder``."""
    document = {
        "command": f"python -m devkit simulate --validate --environments {size} --seed {seed} --results {folder}",
        "made_on": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": {
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 1),
            "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        },
        "range": [LEAST, MOST],
        "scenarios": list(told),
    }
    (folder / FILE).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def stored(folder: Path) -> dict[str, Any]:
    """What ``save`` kept."""
    document: dict[str, Any] = json.loads((folder / FILE).read_text())
    return document


def as_markdown(document: dict[str, Any]) -> str:
    """The ratios, as they stand in docs/run/sizing.md; those out of range are marked."""
    lines = [f"| scenario | {' | '.join(_COLUMNS.values())} |", f"|---|{'---|' * len(_COLUMNS)}"]
    for told in document["scenarios"]:
        cells = [_cell(told["ratios"][what], missed=what in told["missed"]) for what in _COLUMNS]
        lines.append(f"| {told['name']}: {told['title']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(ratio: float | None, *, missed: bool) -> str:
    if ratio is None:
        return "none in either"
    return f"{ratio:.2f}{', out of range' if missed else ''}"


def simulated(case: Case, costs: Costs, *, seed: int) -> Figures:
    """The mean of some seeds."""
    found = [_figures_of(case, costs, seed + number) for number in range(SEEDS)]
    return Figures(**{what: statistics.fmean(getattr(one, what) for one in found) for what in vars(found[0])})


def _figures_of(case: Case, costs: Costs, seed: int) -> Figures:
    outcome = simulate(_scenario(case, costs), seed=seed)
    held = [sample.held for sample in outcome.samples if sample.at_s <= outcome.last_answer_s]
    return Figures(
        held_mean=statistics.fmean(held),
        held_max=max(held),
        answer_p50_s=outcome.answer_p50_s,
        answer_p99_s=outcome.answer_p99_s,
        waits=outcome.waited,
        failed=outcome.failed,
    )


def _scenario(case: Case, costs: Costs) -> Scenario:
    return Scenario(
        name=case.name,
        title=case.title,
        duration_s=LONGEST_S,
        load=[
            Callers(
                count=case.size,
                invocations=case.invocations,
                pause_s=case.pause_s,
                at_s=1.0 if case.connected else 0.0,
                over_s=case.over_s,
                connected=case.connected,
            )
        ],
        function=Function(
            # An invocation of nothing is the way to the function and back, which a deadline counts as well.
            handler=Handler(before_s=costs.nothing_s, waits_s=case.sleep_s, cpu_s=0.0, trips=0),
            timeout_s=float(case.timeout_s),
        ),
        server=Server(
            max_connections=case.room + RESERVED,
            cores=costs.cores,
            connect_cpu_s=costs.connect_s,
            refuse_cpu_s=costs.refused_s,
            trip_s=0.0,
            idle_session_s=math.inf if case.idle_session_s is None else float(case.idle_session_s),
        ),
        pooler=None if case.borrowed is None else Pooler(size=case.borrowed),
        settings=settings(pool=case.pool, proxy="none" if case.borrowed is None else "pgbouncer"),
        every_s=EVERY_S,
    )


def measured(case: Case, fork_server: ForkServer) -> tuple[Figures, Costs]:
    """What real environments came to, and what things cost meanwhile."""
    with _running(case, fork_server) as (server, site, running):
        fleet = running.fleets[OURS]
        # Each has served, so that the load is about connections: what else a first invocation costs is the processor's.
        for first in range(0, case.size, _wave(case)):
            _all_at_once(fleet, fleet.environments[first : first + _wave(case)])
            if not case.connected:
                end_sessions(server, OURS)
        costs = _costs(case, server, site, fleet)
        running.begin_anew()
        _load(case, fleet)
        last_s = max(entry.at_s for entry in fleet.entries)
        held = [by_login.get(OURS, 0) for at_s, by_login in running.held.samples if at_s <= last_s]
    times = sorted(entry.took_s for entry in fleet.entries)
    return Figures(
        held_mean=statistics.fmean(held),
        held_max=max(held),
        answer_p50_s=percentile(times, 0.5),
        answer_p99_s=percentile(times, 0.99),
        waits=sum(entry.answer.events[WAITS] for entry in fleet.entries),
        failed=sum(entry.failed for entry in fleet.entries),
    ), costs


@contextlib.contextmanager
def _running(case: Case, fork_server: ForkServer) -> Iterator[tuple[Postgres, Site, Run]]:
    server_settings = {"max_connections": str(case.room + RESERVED + WATCHING), **CHEAP_PASSWORDS}
    if case.idle_session_s is not None:
        server_settings["idle_session_timeout"] = f"{case.idle_session_s}s"
    # To log its first slow statement loads a module in each environment, all of them on the cores of one machine.
    variables = {"DB_POOL": case.pool, "DB_SLOW_QUERY_S": "60"}
    with contextlib.ExitStack() as parts:
        server = parts.enter_context(Postgres(settings=server_settings))
        endpoint: Endpoint = server
        if case.borrowed is not None:
            endpoint = parts.enter_context(PgBouncer(server, default_pool_size=case.borrowed))
            variables["DB_PROXY"] = "pgbouncer"
        site = Site(server)
        chosen = function(OURS, site, endpoint, timeout_s=case.timeout_s, variables=variables)
        fleets = {OURS: (chosen, "sleep, run")}
        running = fleet_run(fleets, size=case.size, server=lambda: server, fork_server=fork_server)
        yield server, site, parts.enter_context(running)


def _wave(case: Case) -> int:
    return min(WAVE, case.room)


def _all_at_once(fleet: Fleet, environments: Sequence[Environment]) -> None:
    with ThreadPoolExecutor(len(environments)) as callers:
        list(callers.map(lambda one: fleet.invoke(one, seconds=0.0), environments))


def _load(case: Case, fleet: Fleet) -> None:
    """Every caller, from the same moment on."""
    gate = threading.Barrier(case.size)

    def call(number: int) -> None:
        pause = random.Random(number)  # noqa: S311 - drawn alike each time
        gate.wait()
        time.sleep(case.over_s * number / case.size)
        for _ in range(case.invocations):
            fleet.invoke(fleet.environments[number], seconds=case.sleep_s)
            time.sleep(pause.uniform(*case.pause_s))

    with ThreadPoolExecutor(case.size) as callers:
        list(callers.map(call, range(case.size)))


def _costs(case: Case, server: Postgres, site: Site, fleet: Fleet) -> Costs:
    address = site.url(OURS, server).set(drivername="postgresql").render_as_string(hide_password=False)
    nothing = [_took(lambda: fleet.invoke(fleet.environments[0], work="nothing")) for _ in range(TRIES)]
    connects, refusals = [0.0], [0.0]
    if not case.connected:
        end_sessions(server, OURS)
        connects = [_took(lambda: psycopg.connect(address).close()) for _ in range(TRIES)]
        with contextlib.ExitStack() as opened:
            with contextlib.suppress(psycopg.OperationalError):
                while True:
                    opened.enter_context(contextlib.closing(psycopg.connect(address)))
            refusals = [_took(lambda: _refused(address)) for _ in range(TRIES)]
        end_sessions(server, OURS)
    return Costs(
        connect_s=statistics.median(connects),
        refused_s=statistics.median(refusals),
        nothing_s=statistics.median(nothing),
        cores=os.cpu_count() or 1,
    )


def _refused(address: str) -> None:
    with contextlib.suppress(psycopg.OperationalError):
        psycopg.connect(address).close()


def _took(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _ratio(simulation: float, real: float) -> float | None:
    if not real:
        return None if not simulation else float("inf")
    return simulation / real


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 4) for name, value in values.items()}
