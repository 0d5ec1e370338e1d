"""The results as one picture: bars, side by side, as SVG. No library: a page that shows it needs none either."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from .cores import Where
from .peers import peers
from .sections.cold import OURS, REQUIREMENTS
from .sections.cold import WORK as COLD_START
from .works import Work

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .series import Result

WIDTH, VALUE = 840, 70
ROW, BAR, TITLE, GAP = 22, 14, 30, 18
LETTER, MARGIN = 7.3, 8  # what a letter takes on average where system-ui is a wide font, as DejaVu Sans
# Readable on a light page and on a dark one.
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f } .title { font-weight: 600 }
rect { fill: #8c959f } .ours { fill: #0969da }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } rect { fill: #6e7681 } .ours { fill: #58a6ff } }
"""


@dataclass(frozen=True)
class Panel:
    """One chart: a bar for each name, shorter is better."""

    title: str
    unit: str
    bars: dict[str, float]


def plot(results: Mapping[str, Result]) -> str:
    """The picture of the sections that were measured."""
    shown = panels(results)
    # The names end where the bars begin, one below another in all charts.
    bars_from = MARGIN + round(LETTER * max((len(name) for panel in shown for name in panel.bars), default=0))
    drawn, top = [], 0
    for panel in shown:
        drawn.append(_panel(panel, top, bars_from))
        top += TITLE + ROW * len(panel.bars) + GAP
    size = f'viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n'
        f"<title>What transactions and cold starts cost, shorter is better</title>\n<style>{STYLE}</style>\n"
        + "\n".join(drawn)
        + "\n</svg>\n"
    )


def panels(results: Mapping[str, Result]) -> list[Panel]:
    """What is worth a picture."""
    names = [peer.name for peer in peers()]
    found = []
    if "wire" in results:
        work, at = Work.BOUND_WRITE, 1.0
        bars = {
            name: results["wire"].find(name, work, "wall_us", at).median() / 1000
            for name in names
            if results["wire"].has(name, work, "wall_us", at)
        }
        found.append(Panel("Transaction with tenant and deadline, 1 ms away", "ms", bars))
    if "cpu" in results:
        bars = {
            name: results["cpu"].find(name, Work.WRITE, "cpu_us", 0, Where.OTHER).median()
            for name in names
            if results["cpu"].has(name, Work.WRITE, "cpu_us", 0, Where.OTHER)
        }
        found.append(Panel(f"Client CPU of a transaction with one statement, {Where.OTHER}", "µs", bars))
    if "cold" in results:
        bars = {
            name: results["cold"].find(name, COLD_START, "cpu_us").median() / 1000 for name in (OURS, *REQUIREMENTS)
        }
        found.append(Panel("CPU of a cold start, to the first row", "ms", bars))
    return [panel for panel in found if panel.bars]


def _panel(panel: Panel, top: int, bars_from: int) -> str:
    longest = max(panel.bars.values())
    lines = [f'<text class="title" x="0" y="{top + TITLE - 12}">{escape(panel.title)}</text>']
    for number, (name, value) in enumerate(panel.bars.items()):
        y = top + TITLE + ROW * number
        width = (WIDTH - bars_from - VALUE) * value / longest
        kind = ' class="ours"' if name == OURS else ""
        shown = f"{value:.1f}" if value < 100 else f"{value:.0f}"  # noqa: PLR2004 - two or three digits that mean something
        lines += [
            f'<text x="{bars_from - MARGIN}" y="{y + BAR - 2}" text-anchor="end">{escape(name)}</text>',
            f'<rect{kind} x="{bars_from}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2"/>',
            f'<text x="{bars_from + width + 6:.1f}" y="{y + BAR - 2}">{shown} {panel.unit}</text>',
        ]
    return "\n".join(lines)
