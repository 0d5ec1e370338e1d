"""The figures that matter, each with what it is to reach. The table of them comes first wherever results are shown."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from .cores import Where
from .pairs import ratio
from .sections import once, releases, secured, throughput
from .sections.batch import DELAY_MS as BATCH_DELAY_MS
from .sections.cold import BY_HAND, COMPILED, FAR, FLOOR, IN_SEQUENCE, OURS, USUAL
from .sections.cold import WORK as COLD_START
from .sections.secured import WHERE as TLS
from .works import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .pairs import Interval
    from .series import Result

NULL = "db, DB_POOL=null"
PLAIN = "SQLAlchemy"
PRE_PING = "SQLAlchemy, pre-ping"
DB_BATCH = "db.batch"
EACH_PRE_PING = "SQLAlchemy, pre-ping, bound: a transaction for each record"
DB_COPY = "db.copy_rows"
RAW_COPY = "psycopg, cursor.copy()"
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Figure:
    """A measured value; of a ratio the interval of its median as well."""

    value: float
    interval: Interval | None = None


class Verdict(StrEnum):
    """Of a figure and what it was to reach, in the order in which they are shown."""

    MISSED = "missed"
    MET_BY_THE_MEDIAN = "met by the median; the interval reaches beyond"
    MET = "met"
    NO_TARGET = ""
    NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Target:
    """What a figure is to reach: at most ``limit``, or at least. Without one it is shown, and that is all."""

    section: str
    what: str
    limit: float | None
    figure: Callable[[Result], Figure]
    at_least: bool = False

    def reached(self, results: Mapping[str, Result]) -> Figure | None:
        """None where it was not measured: the section was not, or not on a machine that can."""
        try:
            return self.figure(results[self.section])
        except KeyError:
            return None

    def verdict(self, results: Mapping[str, Result]) -> Verdict:
        figure = self.reached(results)
        if figure is None:
            return Verdict.NOT_MEASURED
        if self.limit is None:
            return Verdict.NO_TARGET
        if not self._holds(figure.value):
            return Verdict.MISSED
        ends = (figure.interval.low, figure.interval.high) if figure.interval else ()
        return Verdict.MET if all(map(self._holds, ends)) else Verdict.MET_BY_THE_MEDIAN

    def _holds(self, value: float) -> bool:
        if self.limit is None:
            return True
        return value >= self.limit if self.at_least else value <= self.limit


def _trips(peer: str, work: Work, where: str = "") -> Callable[[Result], Figure]:
    return lambda result: Figure(result.find(peer, work, "trips", 0, where).median())


def ratio_of(
    measure: str, work: str, reference: str, *, ours: str = OURS, delay_ms: float = 0, where: str = ""
) -> Callable[[Result], Figure]:
    """The median of the ratios of the rounds, each of two medians."""

    def figure(result: Result) -> Figure:
        above = result.find(ours, work, measure, delay_ms, where)
        below = result.find(reference, work, measure, delay_ms, where)
        found = ratio(above.medians(), below.medians())
        return Figure(found.value, found.interval)

    return figure


def _megabytes(result: Result) -> Figure:
    return Figure(result.find(OURS, "artifact", "bytes").median() / MEGABYTE)


def _overlap(result: Result) -> Figure:
    """Of what a cold start with delays takes to its parts one after the other."""
    found = ratio(*(result.find(OURS, FAR, measure).medians() for measure in ("wall_us", IN_SEQUENCE)))
    return Figure(found.value, found.interval)


def _growth(result: Result) -> Figure:
    """Of the peak, from a load of a tenth to the last of all."""
    ((some,),) = result.find(DB_COPY, Work.LOAD_SOME, "peak_bytes").rounds
    ((*_, all_of_them),) = result.find(DB_COPY, Work.LOAD, "peak_bytes").rounds
    return Figure((all_of_them - some) / MEGABYTE)


def _count(measure: str) -> Callable[[Result], Figure]:
    return lambda result: Figure(result.find(once.PEER, once.WORK, measure).median())


def cpu_ratio(work: Work, where: str) -> Callable[[Result], Figure]:
    """Of the client's CPU to SQLAlchemy's without a ping."""
    return ratio_of("cpu_us", work, PLAIN, where=where)


def _cpu(what: str, limit: float, work: Work) -> tuple[Target, Target]:
    """The target, with the server on the other core; and beside it the same figure with the server on the same one."""
    return (
        Target("cpu", what, limit, cpu_ratio(work, Where.OTHER)),
        Target("cpu", f"{what}, {Where.SAME}", None, cpu_ratio(work, Where.SAME)),
    )


def _part(work: Work) -> Callable[[Result], Figure]:
    """Of instructions, which are counted once: a ratio without an interval."""

    def figure(result: Result) -> Figure:
        ours, plain = (result.find(peer, work, "instructions").median() for peer in (OURS, PLAIN))
        return Figure(ours / plain)

    return figure


# A tenant and limits on both sides: SQLAlchemy's by hand. "Plain" is SQLAlchemy without a ping.
CPU = (
    *_cpu("client CPU of `db.begin()` with one statement ÷ plain `engine.begin()`", 1.20, Work.WRITE),
    *_cpu(
        "client CPU of `db.begin()` ÷ plain `engine.begin()`, tenant and limit on both sides", 0.60, Work.BOUND_WRITE
    ),
    *_cpu("client CPU of `db.read()` ÷ a read with plain `engine.connect()`", 1.0, Work.READ),
    *_cpu("client CPU of an empty unit ÷ an empty `engine.begin()`", 1.9, Work.NOTHING),
)

INSTRUCTIONS = tuple(
    Target(
        "instructions",
        f"instructions of the client, without the kernel's, ÷ plain SQLAlchemy: {work}",
        None,
        _part(work),
    )
    for work in (Work.NOTHING, Work.READ, Work.WRITE, Work.BOUND_WRITE)
)

WIRE = (
    Target("wire", "trips, first transaction of a process", 5, _trips(OURS, Work.FIRST)),
    Target("wire", "trips, warm transaction with tenant and deadline", 2, _trips(OURS, Work.BOUND_WRITE)),
    Target("wire", "trips, warm read with tenant and deadline, read-only", 1, _trips(OURS, Work.BOUND_READ)),
    Target("wire", "trips, a write known up front", 1, _trips(OURS, Work.KNOWN)),
    Target("wire", "trips, transaction of nothing", 0, _trips(OURS, Work.NOTHING)),
    Target("wire", "trips, null-pool transaction with tenant and deadline", 5, _trips(NULL, Work.UNPOOLED)),
    Target(
        "wire",
        "latency of a warm transaction at 1 ms ÷ SQLAlchemy with pre-ping",
        0.55,
        ratio_of("wall_us", Work.WRITE, PRE_PING, delay_ms=1),
    ),
    Target(
        "wire",
        "latency of a warm transaction with tenant and deadline at 1 ms ÷ SQLAlchemy with pre-ping, by hand there",
        0.38,
        ratio_of("wall_us", Work.BOUND_WRITE, PRE_PING, delay_ms=1),
    ),
)

COLD = (
    Target("cold", "CPU of a cold start ÷ the usual way", 0.17, ratio_of("cpu_us", COLD_START, USUAL)),
    Target("cold", "CPU of a cold start ÷ the usual way, compiled", 0.57, ratio_of("cpu_us", COLD_START, COMPILED)),
    Target("cold", "CPU of a cold start ÷ psycopg and boto3 by hand", 0.38, ratio_of("cpu_us", COLD_START, BY_HAND)),
    Target("cold", "CPU of a cold start ÷ SQLAlchemy and psycopg alone", 1.06, ratio_of("cpu_us", COLD_START, FLOOR)),
    Target("cold", f"wall clock of a {FAR} ÷ the same without overlap", 0.85, _overlap),
    Target("cold", "artifact, unzipped, in MB", 20, _megabytes),
)

BULK = (
    Target(
        "batch",
        "throughput of db.batch at 1 ms ÷ a transaction for each record, with pre-ping, tenant and deadline",
        3,
        # Throughputs are as times the other way round.
        ratio_of("wall_us", Work.BATCH, DB_BATCH, ours=EACH_PRE_PING, delay_ms=BATCH_DELAY_MS),
        at_least=True,
    ),
    Target("batch", "trips, batch of 100 records, 10 of them bad", 103, _trips(DB_BATCH, Work.SPOILED)),
    Target(
        "copy",
        "throughput of db.copy_rows ÷ psycopg's COPY with write_row, 1,000,000 rows",
        1.0,
        ratio_of("wall_us", Work.LOAD, DB_COPY, ours=RAW_COPY),
        at_least=True,
    ),
    Target("copy", "growth of peak memory from 100,000 rows to 1,000,000, in MB", 16, _growth),
    Target("once", "keys whose effect is not there exactly once", 0, _count(once.WRONG_EFFECTS)),
    Target("once", "keys whose callers did not all get the one answer", 0, _count(once.WRONG_ANSWERS)),
)

THROUGHPUT = (
    Target(
        "throughput",
        f"transactions a second of {throughput.ENVIRONMENTS} environments through PgBouncer ÷ pgbench, "
        f"{throughput.PAUSE_US // 1000} ms between them",
        0.9,
        ratio_of("per_s", throughput.PACED, throughput.PGBENCH),
        at_least=True,
    ),
    Target(
        "throughput",
        f"99th percentile of a transaction of {throughput.ENVIRONMENTS} environments ÷ pgbench, "
        f"{throughput.PAUSE_US // 1000} ms between them",
        None,
        ratio_of("p99_us", throughput.PACED, throughput.PGBENCH),
    ),
    Target(
        "throughput",
        f"transactions a second of {throughput.ENVIRONMENTS} environments ÷ pgbench, all clients on one core, no pause",
        None,
        ratio_of("per_s", throughput.FLAT_OUT, throughput.PGBENCH),
    ),
)

SECURED = (
    # Two more than without: to ask for TLS, and to agree on keys.
    Target("secured", f"trips, first transaction of a process, {TLS}", 7, _trips(OURS, Work.FIRST, TLS)),
    Target(
        "secured",
        f"latency of a first transaction at 1 ms ÷ SQLAlchemy, {TLS}",
        None,
        ratio_of("wall_us", Work.FIRST, PRE_PING, delay_ms=secured.DELAY_MS, where=TLS),
    ),
    Target(
        "secured",
        f"latency of a warm transaction at 1 ms ÷ SQLAlchemy with pre-ping, {TLS}",
        None,
        ratio_of("wall_us", Work.WRITE, PRE_PING, delay_ms=secured.DELAY_MS, where=TLS),
    ),
    Target(
        "secured",
        f"client CPU of `db.begin()` with one statement ÷ plain `engine.begin()`, {TLS}",
        None,
        ratio_of("cpu_us", Work.WRITE, PLAIN, where=TLS),
    ),
)

# The same targets as on the release that everything else is measured on.
RELEASES = tuple(
    target
    for name in releases.RELEASES.values()
    for target in (
        Target(
            "releases",
            f"trips, warm transaction with tenant and deadline, {name}",
            2,
            _trips(OURS, Work.BOUND_WRITE, name),
        ),
        Target(
            "releases",
            f"client CPU of `db.begin()` ÷ plain `engine.begin()`, {name}",
            None,
            ratio_of("cpu_us", Work.WRITE, PLAIN, where=name),
        ),
    )
)

TARGETS = (*CPU, *INSTRUCTIONS, *WIRE, *COLD, *BULK, *THROUGHPUT, *SECURED, *RELEASES)


def missed(results: Mapping[str, Result]) -> list[Target]:
    """The targets that were measured and not met."""
    return [target for target in TARGETS if target.verdict(results) is Verdict.MISSED]
