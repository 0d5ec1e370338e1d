"""Curves as SVG: one chart, a line for each label, and its name beside it. No library: a page needs none either."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Points = Sequence[tuple[float, float]]

WIDTH, LEFT, RIGHT = 840, 10, 20
TITLE, HEIGHT, FOOT, LEGEND = 40, 180, 26, 18
# Readable on a light page and on a dark one; more lines than colours begin again.
COLOURS = ("#0969da", "#cf222e", "#1a7f37", "#9a6700")
STYLE = (
    """
text { font: 13px system-ui, sans-serif; fill: #24292f } .title { font-weight: 600 } .small { font-size: 11px }
path { fill: none; stroke-width: 2 } .axis { stroke: #8c959f; stroke-width: 1 }
"""
    + "\n".join(f".of{number} {{ stroke: {colour} }}" for number, colour in enumerate(COLOURS))
    + """
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .axis { stroke: #6e7681 } }
"""
)


def plot(title: str, curves: Mapping[str, Points], *, x: str, y: str) -> str:
    """The picture; ``x`` and ``y`` are the units of the axes, which begin at zero."""
    most_x = max((at for points in curves.values() for at, _ in points), default=0) or 1
    most_y = max((value for points in curves.values() for _, value in points), default=0) or 1
    base = TITLE + HEIGHT
    lines = [
        f'<text class="title" x="0" y="14">{escape(title)}</text>',
        f'<path class="axis" d="M{LEFT} {TITLE}V{base}H{WIDTH - RIGHT}"/>',
        _text(LEFT, TITLE - 6, f"{most_y:,.4g} {y}"),
        _text(WIDTH - RIGHT, base + 14, f"{most_x:,.4g} {x}", anchor="end"),
        _text(LEFT, base + 14, "0"),
    ]
    for number, (label, points) in enumerate(curves.items()):
        style = f"of{number % len(COLOURS)}"
        steps = [(LEFT + (WIDTH - LEFT - RIGHT) * at / most_x, base - HEIGHT * value / most_y) for at, value in points]
        drawn = "L".join(f"{at:.0f} {height:.0f}" for at, height in _bends(steps))
        lines.append(f'<path class="{style}" d="M{drawn}"/>')
        top = base + FOOT + LEGEND * number
        lines.append(f'<path class="{style}" d="M{LEFT} {top + 6}h20"/>')
        lines.append(_text(LEFT + 28, top + 10, label))
    height = base + FOOT + LEGEND * len(curves)
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n" + "\n".join(lines) + "\n</svg>\n"
    )


def _bends(steps: Points) -> list[tuple[float, float]]:
    """Without the points amid a level stretch, to the pixel."""
    kept: list[tuple[float, float]] = []
    for number, (at, height) in enumerate(steps):
        level = 0 < number < len(steps) - 1 and len(
            {round(steps[near][1]) for near in (number - 1, number, number + 1)}
        )
        if level != 1:
            kept.append((at, height))
    return kept


def _text(x: float, y: float, text: str, *, anchor: str = "start") -> str:
    return f'<text class="small" x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{escape(text)}</text>'
