"""The figures that matter, each with what it is to reach. The table of them comes first wherever results are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .sections.cold import BY_HAND, OURS, USUAL
from .sections.cold import WORK as COLD_START
from .works import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .series import Result

NULL = "db, DB_POOL=null"
PLAIN = "SQLAlchemy"
PRE_PING = "SQLAlchemy, pre-ping"
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Figure:
    """A measured value, and for a ratio the lowest and highest of a round."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Target:
    """What a figure is to reach: at most ``limit``."""

    section: str
    what: str
    limit: float
    figure: Callable[[Result], Figure]

    def met_by(self, result: Result) -> bool:
        return self.figure(result).value <= self.limit


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
)


def missed(results: Mapping[str, Result]) -> list[Target]:
    """The targets of the sections at hand that are not met."""
    return [target for target in TARGETS if target.section in results and not target.met_by(results[target.section])]
