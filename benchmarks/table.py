"""The results as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .cores import Where
from .markdown import markdown
from .pairs import CONFIDENCE
from .peers import peers
from .sections.cold import OURS, REQUIREMENTS
from .sections.cold import WORK as COLD_START
from .tables_of_bulk import batches, loads, storm, through_a_pooler
from .targets import MEGABYTE, TARGETS, Verdict
from .works import TRANSACTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .series import Result
    from .targets import Figure, Target

NOT_DONE = ""
SHOWN_DELAY_MS = 1


def table(results: Mapping[str, Result]) -> str:
    """Targets first, then the peers side by side, then the rest; of the sections that were measured."""
    parts = [targets(results)]
    if "wire" in results:
        parts.append(trips_and_latency(results["wire"]))
    if "cpu" in results:
        parts += [cpu(results["cpu"], where) for where in Where]
    if "cold" in results:
        parts.append(cold_starts(results["cold"]))
    if "batch" in results:
        parts.append(batches(results["batch"]))
    if "copy" in results:
        parts.append(loads(results["copy"]))
    if "once" in results:
        parts.append(storm(results["once"]))
    if "throughput" in results:
        parts.append(through_a_pooler(results["throughput"]))
    return "\n\n".join(parts) + "\n"


def targets(results: Mapping[str, Result]) -> str:
    """What was to be reached, and what was: the misses first."""
    order = list(Verdict)
    shown = [target for target in TARGETS if target.section in results]
    shown.sort(key=lambda target: order.index(target.verdict(results)))
    return markdown(("figure", "median", "interval", "target", ""), [_row(target, results) for target in shown])


def trips_and_latency(result: Result) -> str:
    """For each peer and work: round trips, and milliseconds where a trip takes one more."""
    rows = []
    for peer in peers():
        cells = []
        for work in TRANSACTIONS:
            if not result.has(peer.name, work, "trips"):
                cells.append(NOT_DONE)
                continue
            trips = result.find(peer.name, work, "trips").median()
            ms = result.find(peer.name, work, "wall_us", SHOWN_DELAY_MS).median() / 1000
            cells.append(f"{trips:.0f} · {ms:.1f} ms")
        rows.append((peer.name, *cells))
    return markdown((f"trips · latency at {SHOWN_DELAY_MS} ms", *TRANSACTIONS), rows)


def cpu(result: Result, where: str) -> str:
    """For each peer and work: the client's CPU, with the server ``where``."""
    works = [work for work in TRANSACTIONS if any(result.has(one.name, work, "cpu_us", 0, where) for one in peers())]
    rows = []
    for peer in peers():
        medians = [
            f"{result.find(peer.name, work, 'cpu_us', 0, where).median():.0f} µs"
            if result.has(peer.name, work, "cpu_us", 0, where)
            else NOT_DONE
            for work in works
        ]
        if set(medians) - {NOT_DONE}:
            rows.append((peer.name, *medians))
    return markdown((f"client CPU, {where}", *works), rows)


def cold_starts(result: Result) -> str:
    """For each variant: the process until the first row, and what is deployed."""
    rows = [
        (
            variant,
            f"{result.find(variant, COLD_START, 'cpu_us').median() / 1000:.0f} ms",
            f"{result.find(variant, COLD_START, 'wall_us').median() / 1000:.0f} ms",
            f"{result.find(variant, 'artifact', 'bytes').median() / MEGABYTE:.1f} MB",
        )
        for variant in (OURS, *REQUIREMENTS)
    ]
    return markdown(("cold start to the first row", "CPU", "wall clock", "artifact, unzipped"), rows)


def _row(target: Target, results: Mapping[str, Result]) -> tuple[str, ...]:
    figure = target.reached(results)
    cells = ("", "") if figure is None else _figure(figure)
    return (target.what, *cells, _limit(target), target.verdict(results))


def _limit(target: Target) -> str:
    return "" if target.limit is None else f"{'≥' if target.at_least else '≤'} {target.limit:g}"


def _figure(figure: Figure) -> tuple[str, str]:
    if figure.interval is None:  # a count, a size, or a ratio of counts
        return f"{figure.value:.2f}".rstrip("0").removesuffix("."), ""
    low, high, coverage = figure.interval.low, figure.interval.high, figure.interval.coverage
    # Few rounds cover less than the interval is to: that is then said.
    less = "" if coverage >= CONFIDENCE else f" ({coverage:.0%})"
    return f"{figure.value:.2f}", f"{low:.2f} to {high:.2f}{less}"
