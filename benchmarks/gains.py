"""What a user has of it, in plain words, with the figures that were measured: the first that a page says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .cores import Where
from .sections.cold import BY_HAND, OURS, USUAL
from .sections.cold import WORK as COLD_START
from .targets import DB_BATCH, EACH_PRE_PING, PRE_PING, cpu_ratio, ratio_of
from .works import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .series import Result


def gains(results: Mapping[str, Result]) -> str:
    """A line for each gain, of those that were measured."""
    said = []
    for section, lines in LINES.items():
        if section in results:
            try:
                said += list(lines(results[section]))
            except KeyError:  # not on a machine that can
                continue
    return "\n".join(f"- {line}" for line in said)


def _wire(result: Result) -> Iterator[str]:
    here, there = (result.find(peer, Work.BOUND_WRITE, "trips").median() for peer in (OURS, PRE_PING))
    part = ratio_of("wall_us", Work.BOUND_WRITE, PRE_PING, delay_ms=1)(result).value
    yield (
        "**Answers come sooner.** A transaction with tenant and time limit waits "
        f"{here:.0f} times for the database, and not {there:.0f} times. A millisecond away it takes {part:.0%} of the "
        "time that it takes with SQLAlchemy and pre-ping."
    )
    here, there = (result.find(peer, Work.FIRST, "trips").median() for peer in (OURS, PRE_PING))
    yield (
        f"**The first answer as well.** From no connection to the first commit it is {here:.0f} trips, and not "
        f"{there:.0f}."
    )


def _cold(result: Result) -> Iterator[str]:
    usual, by_hand = (ratio_of("cpu_us", COLD_START, peer)(result).value for peer in (USUAL, BY_HAND))
    ours = result.find(OURS, COLD_START, "cpu_us").median() / 1000
    yield (
        f"**A cold start is short.** From the start of the process to the first row it takes {ours:.0f} ms of CPU: "
        f"{usual:.0%} of what the usual way takes, and {by_hand:.0%} of psycopg and boto3 by hand."
    )


def _cpu(result: Result) -> Iterator[str]:
    bound, bare = (cpu_ratio(work, Where.OTHER)(result).value for work in (Work.BOUND_WRITE, Work.WRITE))
    yield (
        f"**Tenant and limits cost little.** With both, a transaction takes {bound:.0%} of the client's CPU that it "
        f"takes with SQLAlchemy and both set by hand. With a limit here and none there it takes {bare:.0%}."
    )


def _batch(result: Result) -> Iterator[str]:
    here, there = (result.find(peer, Work.SPOILED, "trips").median() for peer in (DB_BATCH, EACH_PRE_PING))
    yield (
        f"**Queues are emptied sooner.** A batch of 100 records, 10 of them bad, takes {here:.0f} trips, and not "
        f"{there:.0f}."
    )


LINES: Mapping[str, Callable[[Result], Iterator[str]]] = {"wire": _wire, "cold": _cold, "cpu": _cpu, "batch": _batch}
