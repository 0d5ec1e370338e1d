"""The results as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .markdown import markdown
from .peers import peers
from .sections.cold import OURS, REQUIREMENTS
from .sections.cold import WORK as COLD_START
from .tables_of_bulk import batches, loads, storm
from .targets import MEGABYTE, TARGETS
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
        parts.append(cpu(results["cpu"]))
    if "cold" in results:
        parts.append(cold_starts(results["cold"]))
    if "batch" in results:
        parts.append(batches(results["batch"]))
    if "copy" in results:
        parts.append(loads(results["copy"]))
    if "once" in results:
        parts.append(storm(results["once"]))
    return "\n\n".join(parts) + "\n"


def targets(results: Mapping[str, Result]) -> str:
    """What was to be reached, and what was."""
    rows = [
        (target.what, _shown(target, results[target.section]), _limit(target), _verdict(target, results))
        for target in TARGETS
        if target.section in results
    ]
    return markdown(("figure", "measured", "target", ""), rows)


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


def cpu(result: Result) -> str:
    """For each peer and work: the client's CPU."""
    works = [work for work in TRANSACTIONS if any(result.has(peer.name, work, "cpu_us") for peer in peers())]
    rows = []
    for peer in peers():
        medians = [
            f"{result.find(peer.name, work, 'cpu_us').median():.0f} µs"
            if result.has(peer.name, work, "cpu_us")
            else NOT_DONE
            for work in works
        ]
        if set(medians) != {NOT_DONE}:
            rows.append((peer.name, *medians))
    return markdown(("client CPU", *works), rows)


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


def _limit(target: Target) -> str:
    return f"{'≥' if target.at_least else '≤'} {target.limit:g}"


def _shown(target: Target, result: Result) -> str:
    figure = target.figure(result)
    if figure.low is None or figure.high is None:
        return _number(figure)
    return f"{figure.value:.2f} (rounds: {figure.low:.2f} to {figure.high:.2f})"


def _number(figure: Figure) -> str:
    return f"{figure.value:.0f}" if figure.value == round(figure.value) else f"{figure.value:.1f}"


def _verdict(target: Target, results: Mapping[str, Result]) -> str:
    return "met" if target.met_by(results[target.section]) else "missed"
