"""The figures that matter, each with what it is to reach. The table of them comes first wherever results are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .sections import once
from .sections.batch import DELAY_MS as BATCH_DELAY_MS
from .sections.cold import BY_HAND, OURS, USUAL
from .sections.cold import WORK as COLD_START
from .works import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
    """A measured value, and for a ratio the lowest and highest of a round."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Target:
    """What a figure is to reach: at most ``limit``, or at least."""

    section: str
    what: str
    limit: float
    figure: Callable[[Result], Figure]
    at_least: bool = False

    def met_by(self, result: Result) -> bool:
        value = self.figure(result).value
        return value >= self.limit if self.at_least else value <= self.limit


def _trips(peer: str, work: Work) -> Callable[[Result], Figure]:
    return lambda result: Figure(result.find(peer, work, "trips").median())


def _ratio(
    measure: str, work: str, reference: str, *, ours: str = OURS, delay_ms: float = 0
) -> Callable[[Result], Figure]:
    """The median of all samples over the reference's; and the same round by round."""

    def figure(result: Result) -> Figure:
        above = result.find(ours, work, measure, delay_ms)
        below = result.find(reference, work, measure, delay_ms)
        by_round = [a / b for a, b in zip(above.medians(), below.medians(), strict=True)]
        return Figure(above.median() / below.median(), min(by_round), max(by_round))

    return figure


def _megabytes(result: Result) -> Figure:
    return Figure(result.find(OURS, "artifact", "bytes").median() / MEGABYTE)


def _growth(result: Result) -> Figure:
    """Of the peak, from a load of a tenth to the last of all."""
    ((some,),) = result.find(DB_COPY, Work.LOAD_SOME, "peak_bytes").rounds
    ((*_, all_of_them),) = result.find(DB_COPY, Work.LOAD, "peak_bytes").rounds
    return Figure((all_of_them - some) / MEGABYTE)


def _count(measure: str) -> Callable[[Result], Figure]:
    return lambda result: Figure(result.find(once.PEER, once.WORK, measure).median())


TARGETS = (
    Target("wire", "trips, first transaction of a process", 5, _trips(OURS, Work.FIRST)),
    Target("wire", "trips, warm transaction with tenant and deadline", 2, _trips(OURS, Work.BOUND_WRITE)),
    Target("wire", "trips, warm read with tenant and deadline, read-only", 1, _trips(OURS, Work.BOUND_READ)),
    Target("wire", "trips, transaction of nothing", 0, _trips(OURS, Work.NOTHING)),
    Target("wire", "trips, null-pool transaction with tenant and deadline", 5, _trips(NULL, Work.UNPOOLED)),
    Target(
        "wire",
        "latency of a warm transaction at 1 ms ÷ SQLAlchemy with pre-ping",
        0.55,
        _ratio("wall_us", Work.WRITE, PRE_PING, delay_ms=1),
    ),
    Target(
        "wire",
        "the same with tenant and deadline, by hand there",
        0.40,
        _ratio("wall_us", Work.BOUND_WRITE, PRE_PING, delay_ms=1),
    ),
    Target(
        "cpu",
        "client CPU of a warm transaction ÷ SQLAlchemy without ping",
        1.0,
        _ratio("cpu_us", Work.WRITE, PLAIN),
    ),
    Target("cold", "CPU of a cold start ÷ the usual way", 0.25, _ratio("cpu_us", COLD_START, USUAL)),
    Target("cold", "CPU of a cold start ÷ psycopg and boto3 by hand", 0.5, _ratio("cpu_us", COLD_START, BY_HAND)),
    Target("cold", "artifact, unzipped, in MB", 25, _megabytes),
    Target(
        "batch",
        "throughput of db.batch at 1 ms ÷ a transaction for each record, with pre-ping, tenant and deadline",
        3,
        # Throughputs are as times the other way round.
        _ratio("wall_us", Work.BATCH, DB_BATCH, ours=EACH_PRE_PING, delay_ms=BATCH_DELAY_MS),
        at_least=True,
    ),
    Target("batch", "trips, batch of 100 records, 10 of them bad", 103, _trips(DB_BATCH, Work.SPOILED)),
    Target(
        "copy",
        "throughput of db.copy_rows ÷ psycopg's COPY, 1,000,000 rows",
        0.9,
        _ratio("wall_us", Work.LOAD, DB_COPY, ours=RAW_COPY),
        at_least=True,
    ),
    Target("copy", "growth of peak memory from 100,000 rows to 1,000,000, in MB", 16, _growth),
    Target("once", "keys whose effect is not there exactly once", 0, _count(once.WRONG_EFFECTS)),
    Target("once", "keys whose callers did not all get the one answer", 0, _count(once.WRONG_ANSWERS)),
)


def missed(results: Mapping[str, Result]) -> list[Target]:
    """The targets of the sections at hand that are not met."""
    return [target for target in TARGETS if target.section in results and not target.met_by(results[target.section])]
