"""What people ask of pools and poolers, answered by simulations: the numbers and plots of docs/run/sizing.md.

Each question is a function of a seed that gives a table, and curves where time is what matters. What is the same in
all: a database like an Aurora ``db.r6g.large``, whose connections ``devkit.plan`` knows, and a function that takes a
second, a tenth of it in a transaction.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from devkit.plan import limits

from .plot import plot
from .run import simulate
from .scenario import Burst, Callers, Deploy, Function, Messages, Pooler, Scenario, Server, Steady, settings
from .scenarios import JOB, JOB_S, MINUTE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from .measures import Outcome

FILE = "sizing.json"
PICTURE = "sizing-{}.svg"
COMMAND = "python -m devkit simulate --questions --results benchmarks/results"
CLASS, CORES = "db.r6g.large", 2
ROOM = limits.by_class(limits.POSTGRESQL, CLASS, aurora=True) or 0
SERVER = Server(max_connections=ROOM, cores=CORES)
FUNCTION = Function(handler=JOB, timeout_s=29.0, account=20_000)
SMALL = 103  # a hundred connections, and those for superusers
LENT = 100


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A table, and what is to be drawn: by label, points of ``x`` and ``y``."""

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    x: str = ""
    y: str = ""
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)

    def as_markdown(self) -> str:
        """The table, as it stands in the page."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def run(*, seed: int, results: Path | None) -> int:
    """Answer all, print the tables, and keep ``sizing.json`` and the pictures in ``results``; 0."""
    began = time.process_time()
    found = [answer(seed) for answer in QUESTIONS.values()]
    for one in found:
        print(f"{one.title}\n\n{one.as_markdown()}\n", flush=True)
    print(f"{time.process_time() - began:.0f} s of one core")
    if results is not None:
        save(found, seed, results)
    return 0


def save(found: Sequence[Answer], seed: int, folder: Path) -> None:
    """The answers, and a picture of each that has curves."""
    document = {"command": COMMAND, "seed": seed, "answers": [asdict(one) for one in found]}
    (folder / FILE).write_text(
        json.dumps(document, indent=None, ensure_ascii=False).replace('{"name"', '\n{"name"') + "\n"
    )
    for one in found:
        if one.curves:
            (folder / PICTURE.format(one.name)).write_text(plot(one.title, one.curves, x=one.x, y=one.y))


def stored(folder: Path) -> list[Answer]:
    """What ``save`` kept."""
    document: dict[str, Any] = json.loads((folder / FILE).read_text())
    return [Answer(**one) for one in document["answers"]]


def pools(seed: int) -> Answer:
    """Queue or null pool, and from where on a null pool loses."""
    rows: list[list[str]] = []
    curves: dict[str, list[tuple[float, float]]] = {"queue": [], "null": []}
    for per_s in (10, 50, 100, 150, 200, 250):
        cells = [f"{per_s}"]
        for pool, points in curves.items():
            found = _done(seed, MINUTE, [Steady(per_s=per_s)], pool=pool)
            cells += [f"{found.held_max}", _percent(found.cpu_busy), _ms(found.wait_p99_s), _failed(found)]
            points.append((float(per_s), round(found.wait_p99_s, 3)))
        rows.append(cells)
    what = ("held", "CPU", "wait", "failed")
    return Answer(
        name="pools",
        title=f"Wait for a connection (p99) by requests a second, on {CORES} cores",
        columns=["requests a second", *(f"{pool}: {one}" for pool in curves for one in what)],
        rows=rows,
        x="requests a second",
        y="s",
        curves=curves,
    )


def recycle(seed: int) -> Answer:
    """The age at which a connection is replaced."""
    rows = []
    for recycle_s in (10, 60, 300, 600, 1800):
        load = [Steady(per_s=20)]
        found = _done(seed, 30 * MINUTE, load, pool_recycle_s=float(recycle_s))
        share = found.connects / found.invoked
        rows.append([f"{recycle_s} s", f"{found.connects:,}", f"{share:.2%}", _ms(found.wait_p99_s)])
    return Answer(
        name="recycle",
        title="DB_POOL_RECYCLE_S with 20 requests a second for half an hour",
        columns=["DB_POOL_RECYCLE_S", "connects", "of all invocations", "wait for a connection, p99"],
        rows=rows,
    )


def idle(seed: int) -> Answer:
    """What idles between two bursts, and who ends it."""
    rows, curves = [], {}
    bursts = [Burst(at_s=float(at_s), count=200, over_s=5.0) for at_s in range(0, 3600, 240)]
    cases = [(300.0, math.inf), (60.0, math.inf), (300.0, 60.0), (300.0, 10.0)]
    for idle_s, session_s in cases:
        server = replace(SERVER, idle_session_s=session_s)
        found = _done(seed, 60 * MINUTE, bursts, server=server, every_s=5.0, pool_idle_s=idle_s)
        ended = "none" if session_s == math.inf else f"{session_s:.0f} s"
        rows.append([f"{idle_s:.0f} s", ended, f"{found.connects:,}", f"{found.held_mean:.0f}", f"{found.held_max}"])
        if idle_s == 300:  # noqa: PLR2004 - the default; the other looks alike
            curves[f"idle_session_timeout: {ended}"] = _held(found, until_s=900.0)
    return Answer(
        name="idle",
        title="Connections held between bursts of 200 requests, one each four minutes",
        columns=["DB_POOL_IDLE_S", "idle_session_timeout", "connects", "held on average", "held at most"],
        rows=rows,
        x="s",
        y="connections",
        curves=curves,
    )


def full(seed: int) -> Answer:
    """More environments than connections: how long idle sessions stay, and how long a connect is waited for."""
    rows = []
    for session_s, wait_s in ((math.inf, 30.0), (30.0, 30.0), (10.0, 30.0), (2.0, 30.0), (2.0, 5.0), (2.0, 0.0)):
        server = Server(max_connections=SMALL, cores=CORES, idle_session_s=session_s)
        load = [Callers(count=300, invocations=1)]
        found = _done(seed, MINUTE, load, server=server, connect_wait_s=wait_s)
        ended = "none" if session_s == math.inf else f"{session_s:.0f} s"
        rows.append([ended, f"{wait_s:.0f} s", _failed(found), _ms(found.answer_p50_s), _ms(found.answer_p99_s)])
    return Answer(
        name="full",
        title="300 environments at once for 100 connections",
        columns=["idle_session_timeout", "DB_CONNECT_WAIT_S", "failed", "p50", "p99"],
        rows=rows,
    )


def proxy(seed: int) -> Answer:
    """A herd of a size, straight to the server and through a pooler."""
    rows, curves = [], {}
    for count in (100, 1000, 3000, 10_000):
        cells = [f"{count:,}"]
        for pooler in (None, Pooler(size=LENT, max_clients=20_000)):
            server = replace(SERVER, idle_session_s=2.0)
            load = [Callers(count=count, invocations=1)]
            kind = "none" if pooler is None else "pgbouncer"
            found = _done(seed, MINUTE, load, server=server, pooler=pooler, proxy=kind)
            cells += [f"{found.held_max:,}", _failed(found), _ms(found.answer_p50_s), _ms(found.answer_p99_s)]
            if count == 10_000:  # noqa: PLR2004 - the largest
                curves["straight" if pooler is None else "through a pooler"] = _held(found, until_s=MINUTE)
        rows.append(cells)
    what = ("held", "failed", "p50", "p99")
    return Answer(
        name="proxy",
        title="Connections held at the server when 10,000 environments come at once",
        columns=["at once", *(f"{way}: {one}" for way in ("straight", f"pooler of {LENT}") for one in what)],
        rows=rows,
        x="s",
        y="connections",
        curves=curves,
    )


def reserved(seed: int) -> Answer:
    """How many environments at a time for work that can wait."""
    rows = []
    for concurrency in (25, 50, 100, 200, 1000):
        server = Server(max_connections=SMALL, cores=CORES, idle_session_s=10.0)
        load = [Messages(count=5000, concurrency=concurrency)]
        found = _done(seed, 20 * MINUTE, load, server=server, function=replace(FUNCTION, account=1000))
        done_s = f"{found.last_answer_s:.0f} s"
        rows.append([f"{concurrency:,}", f"{found.held_max}", f"{found.refused:,}", f"{found.failed:,}", done_s])
    return Answer(
        name="reserved",
        title="5,000 messages of a queue, for 100 connections",
        columns=["at a time", "held at most", "connects refused", "invocations failed", "the last after"],
        rows=rows,
    )


def deploy(seed: int) -> Answer:
    """A new version, while the old one's environments keep what they have."""
    rows, curves = [], {}
    for label, pool, session_s in (
        ("queue", "queue", math.inf),
        ("queue, idle_session_timeout 10 s", "queue", 10.0),
        ("null", "null", math.inf),
    ):
        server = Server(max_connections=SMALL, cores=CORES, idle_session_s=session_s)
        happenings = [Deploy(at_s=120.0, linger_s=120.0)]
        load = [Steady(per_s=35 / JOB_S)]
        function = replace(FUNCTION, account=1000)
        found = _done(
            seed, 5 * MINUTE, load, server=server, function=function, happenings=happenings, pool=pool, every_s=2.0
        )
        rows.append([label, f"{found.held_max}", f"{found.refused:,}", _failed(found), _ms(found.answer_p99_s)])
        curves[label] = _held(found, until_s=300.0)
    return Answer(
        name="deploy",
        title="Connections held over a deploy, of 100: 35 requests a second",
        columns=["pool", "held at most", "connects refused", "failed", "p99"],
        rows=rows,
        x="s",
        y="connections",
        curves=curves,
    )


QUESTIONS: dict[str, Callable[[int], Answer]] = {
    one.__name__: one for one in (pools, recycle, idle, full, proxy, reserved, deploy)
}


def _done(
    seed: int,
    duration_s: float,
    load: Sequence[Any],
    *,
    server: Server = SERVER,
    function: Function = FUNCTION,
    pooler: Pooler | None = None,
    happenings: Sequence[Deploy] = (),
    every_s: float = 1.0,
    **given: Any,
) -> Outcome:
    """``given`` are settings of ``db``."""
    scenario = Scenario(
        name="question",
        title="",
        duration_s=duration_s,
        load=load,
        server=server,
        function=function,
        pooler=pooler,
        happenings=happenings,
        settings=settings(**given),
        every_s=every_s,
    )
    return simulate(scenario, seed=seed)


def _held(found: Outcome, *, until_s: float) -> list[tuple[float, float]]:
    return [(sample.at_s, float(sample.held)) for sample in found.samples if sample.at_s <= until_s]


def _failed(found: Outcome) -> str:
    """Of the invocations that came to an end."""
    return f"{found.failed / found.invoked:.1%}" if found.failed else "0"


def _percent(share: float) -> str:
    return f"{share:.0%}"


def _ms(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
