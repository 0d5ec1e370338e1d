"""The results of the sections ``batch``, ``copy``, ``once`` and ``throughput`` as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .bulk import BAD, RECORDS, ROWS
from .markdown import markdown
from .sections import batch, copy, once, throughput
from .targets import MEGABYTE
from .works import Work

if TYPE_CHECKING:
    from .series import Result


def batches(result: Result) -> str:
    """For each way to take a batch: how fast, and what becomes of one with bad records in it."""
    rows = []
    for peer in batch.peers():
        seconds = result.find(peer.name, Work.BATCH, "wall_us", batch.DELAY_MS).median() / 1_000_000
        spoiled = [result.find(peer.name, Work.SPOILED, measure).median() for measure in batch.COUNTED]
        rows.append((peer.name, f"{RECORDS / seconds:.0f}", *(f"{count:.0f}" for count in spoiled)))
    head = f"records per second at {batch.DELAY_MS:g} ms"
    return markdown((f"batch of {RECORDS} records", head, *(f"{one}, {BAD} bad" for one in batch.COUNTED)), rows)


def loads(result: Result) -> str:
    """For each way to load many rows: how fast, and with how much memory."""
    rows = []
    for peer in copy.peers():
        seconds = result.find(peer.name, Work.LOAD, "wall_us").median() / 1_000_000
        peaks = [max(result.find(peer.name, work, "peak_bytes").rounds[0]) for work in (Work.LOAD_SOME, Work.LOAD)]
        rows.append((peer.name, f"{ROWS[Work.LOAD] / seconds:,.0f}", *(f"{peak / MEGABYTE:.1f} MB" for peak in peaks)))
    return markdown(("COPY", "rows per second", *(f"peak memory, {n:,} rows" for n in ROWS.values())), rows)


def storm(result: Result) -> str:
    """What was done to ``db.once``, and what came of it."""
    rows = [(measure, f"{result.find(once.PEER, once.WORK, measure).median():,.0f}") for measure in once.MEASURES]
    return markdown((once.WORK, ""), rows)


def through_a_pooler(result: Result) -> str:
    """For each side: how many transactions, and how long the slowest of a hundred took."""
    rows = []
    for side in (throughput.OURS, throughput.PGBENCH):
        cells = []
        for work in throughput.PAUSES:
            per_s = result.find(side, work, "per_s").median()
            p99_ms = result.find(side, work, "p99_us").median() / 1000
            cells.append(f"{per_s:,.0f} · {p99_ms:.1f} ms")
        rows.append((side, *cells))
    return markdown(("transactions a second · 99th percentile", *throughput.PAUSES), rows)
