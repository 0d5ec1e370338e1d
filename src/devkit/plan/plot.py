"""Demand against capacity, as SVG: for each server a bar of who connects, and a line where it is full."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .sums import Line, Side

WIDTH, LABEL, RIGHT = 840, 130, 20
TITLE, BAR, GAP, LEGEND = 26, 24, 8, 18
# Readable on a light page and on a dark one; more lines than colours begin again.
COLOURS = ("#0969da", "#8250df", "#1a7f37", "#9a6700", "#bf3989", "#57606a")
STYLE = (
    """
text { font: 13px system-ui, sans-serif; fill: #24292f } .title { font-weight: 600 } .small { font-size: 11px }
.full { stroke: #cf222e; stroke-width: 2 } .over { fill: #cf222e } .people { fill: #afb8c1 }
"""
    + "\n".join(f".use{number} {{ fill: {colour} }}" for number, colour in enumerate(COLOURS))
    + """
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .full { stroke: #f85149 } .over { fill: #f85149 } .people { fill: #6e7681 }
}
"""
)


def plot(sides: Sequence[Side], title: str) -> str:
    """The picture of a plan."""
    drawn: list[str] = []
    top = 0.0
    for side in sides:
        drawn += _panel(side, top)
        top += TITLE + 2 * (BAR + GAP) + LEGEND * len(_legend(side)) + GAP * 2
    size = f'viewBox="0 0 {WIDTH} {top:.0f}" width="{WIDTH}" height="{top:.0f}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n" + "\n".join(drawn) + "\n</svg>\n"
    )


def _panel(side: Side, top: float) -> Iterator[str]:
    server = side.server
    scale = (WIDTH - LABEL - RIGHT) / max(side.most + server.people, server.usable, 1)
    words = f"{server.what[:1].upper()}{server.what[1:]}: {side.most + server.people} of {server.usable}"
    yield f'<text class="title" x="0" y="{top + 14:.0f}">{escape(words)}</text>'
    top += TITLE
    for label, held in (
        ("at work", [line.at_work for line in side.lines]),
        ("during a deploy", [line.most for line in side.lines]),
    ):
        yield f'<text class="small" x="{LABEL - 8}" y="{top + 16:.0f}" text-anchor="end">{label}</text>'
        yield from _bar([*held, server.people], top, scale)
        top += BAR + GAP
    x = LABEL + server.usable * scale
    yield f'<line class="full" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 2 * (BAR + GAP) - 4:.0f}" y2="{top - 4:.0f}"/>'
    for number, (style, text) in enumerate(_legend(side)):
        y = top + LEGEND * number
        yield f'<rect class="{style}" x="{LABEL}" y="{y:.0f}" width="10" height="10"/>'
        yield f'<text class="small" x="{LABEL + 16}" y="{y + 9:.0f}">{escape(text)}</text>'


def _bar(held: list[int], top: float, scale: float) -> Iterator[str]:
    x = float(LABEL)
    for number, count in enumerate(held):
        style = "people" if number == len(held) - 1 else _style(number)
        if count:
            width = max(count * scale - 1, 0.5)
            yield f'<rect class="{style}" x="{x:.1f}" y="{top:.0f}" width="{width:.1f}" height="{BAR}"/>'
            x += count * scale


def _legend(side: Side) -> list[tuple[str, str]]:
    rows = [(_style(number), _said(line)) for number, line in enumerate(side.lines)]
    if side.server.people:
        rows.append(("people", f"for a person, a dashboard and a backup: {side.server.people}"))
    rows.append(("over", f"the line: {side.server.usable}, of {side.server.most} by {side.server.source}"))
    return rows


def _said(line: Line) -> str:
    return f"{line.name}: {line.at_work}" + (f", and {line.deploy} more during a deploy" if line.deploy else "")


def _style(number: int) -> str:
    return f"use{number % len(COLOURS)}"
