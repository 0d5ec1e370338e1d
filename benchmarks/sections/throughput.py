"""Transactions a second of fifty environments through PgBouncer, beside pgbench with the same statements.

The clients share one core, and server and pooler the other. In Lambda each environment has a processor of its own, and
an event that does more than one transaction: so what is compared is fifty that pause before each, as for the rest of an
event, and keep a part of the core busy. The same without a pause is shown as well: then the clients' processor is all
that counts, and one of them is a program in C.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

from benchmarks.cores import aside
from benchmarks.pairs import turns
from benchmarks.pgbench import PgBench, Taken
from benchmarks.place import Place
from benchmarks.releases import NEWEST, installation
from benchmarks.series import Series
from benchmarks.workers import ENVIRONMENT, ROOT
from devkit.servers.pgbouncer import PgBouncer
from devkit.servers.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from benchmarks.plan import Plan

OURS, PGBENCH = "db", "pgbench"
ENVIRONMENTS = 50
PAUSE_US = 50_000
PACED = f"bound write, {ENVIRONMENTS} environments, a pause of {PAUSE_US // 1000} ms before each"
FLAT_OUT = f"bound write, {ENVIRONMENTS} environments, without a pause"
PAUSES = {PACED: PAUSE_US, FLAT_OUT: 0}
# A row for each, so that none waits for another's lock.
TENANTS = f"""
INSERT INTO tenant_notes SELECT tenant, 1, 0 FROM generate_series(0, {ENVIRONMENTS - 1}) AS n, CAST(n AS text) AS tenant
"""  # noqa: S608 - a constant


class Environments:
    """So many of them, for the length of a ``with`` block."""

    def __init__(self, url: str, core: int, number: int = ENVIRONMENTS) -> None:
        self._start = {"url": url, "core": core, "environments": number}

    def __enter__(self) -> Self:
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.environments"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=ROOT,
            env=ENVIRONMENT,
            text=True,
        )
        self._say(self._start)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # at the end of its input it ends
        self._errors.close()

    def taken(self, *, seconds: int, pause_us: int) -> Taken:
        """Of every transaction of all of them together. Raises RuntimeError with what they printed when they failed."""
        self._say({"seconds": seconds, "pause_us": pause_us})
        assert self._process.stdout is not None  # noqa: S101 - for the type checker: it is a pipe
        answer = self._process.stdout.readline()
        if not answer:
            self._errors.seek(0)
            raise RuntimeError(f"the environments failed:\n{self._errors.read()}")
        return Taken(json.loads(answer), seconds)

    def _say(self, message: object) -> None:
        assert self._process.stdin is not None  # noqa: S101
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()


def measure(plan: Plan, tell: Callable[[str], None]) -> list[Series]:
    """Of each round the transactions a second and the 99th percentile of their times."""
    programs = installation(NEWEST)
    with (
        aside() as cores,
        Postgres(installation=programs) as postgres,
        Place(postgres) as place,
        PgBouncer(postgres) as pooler,
        Environments(place.url(pooler.port), cores.client) as environments,
    ):
        postgres.execute(TENANTS, database=place.name)
        bench = PgBench(programs / "bin" / "pgbench", place, pooler.port, cores.client)
        seconds = plan.throughput_s
        sides: dict[str, Callable[[int], Taken]] = {
            OURS: lambda pause_us: environments.taken(seconds=seconds, pause_us=pause_us),
            PGBENCH: lambda pause_us: bench.taken(clients=ENVIRONMENTS, seconds=seconds, pause_us=pause_us),
        }
        environments.taken(seconds=0, pause_us=0)  # not measured: they connect
        taken: dict[tuple[str, str], list[Taken]] = {(side, work): [] for work in PAUSES for side in sides}
        for work, pause_us in PAUSES.items():
            for number, order in enumerate(turns(list(sides), rounds=plan.throughput_rounds, seed=work), 1):
                tell(f"throughput: {work}, round {number} of {plan.throughput_rounds}")
                for side in order:
                    taken[side, work].append(sides[side](pause_us))
    return [one for (side, work), rounds in taken.items() for one in _series(side, work, rounds)]


def _series(side: str, work: str, rounds: list[Taken]) -> list[Series]:
    per_second = [[round(len(one.latencies_us) / one.seconds, 1)] for one in rounds]
    slowest = [[percentile_99(one.latencies_us)] for one in rounds]
    return [
        Series(peer=side, work=work, measure="per_s", rounds=per_second),
        Series(peer=side, work=work, measure="p99_us", rounds=slowest),
    ]


def percentile_99(latencies: list[int]) -> float:
    """What one of a hundred takes longer than."""
    return round(statistics.quantiles(latencies, n=100)[-1])
