"""The scenarios over time, as SVG: the connections that each function held, and what it answered below."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .finding import Curve, Finding

WIDTH, LABEL = 840, 130
TITLE, HELD, STRIP, GAP = 26, 90, 20, 26
BUCKETS = 120
# Readable on a light page and on a dark one.
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f } .title { font-weight: 600 } .small { font-size: 11px }
.held { fill: none; stroke: #8c959f; stroke-width: 1.5 } .ours-held { fill: none; stroke: #0969da; stroke-width: 1.5 }
.answered { fill: #8c959f } .ours-answered { fill: #0969da } .failed { fill: #cf222e }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .held { stroke: #6e7681 } .ours-held { stroke: #58a6ff }
  .answered { fill: #6e7681 } .ours-answered { fill: #58a6ff } .failed { fill: #f85149 }
}
"""


def plot(findings: Sequence[Finding]) -> str:
    """The picture of those that were watched over time."""
    drawn, top = [], 0.0
    for finding in findings:
        if finding.curves:
            drawn.append(_panel(finding, top))
            top += TITLE + HELD + STRIP * len(finding.curves) + GAP
    size = f'viewBox="0 0 {WIDTH} {top:.0f}" width="{WIDTH}" height="{top:.0f}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n'
        "<title>Connections held, and what was answered (blue, grey) or failed (red), over time</title>\n"
        f"<style>{STYLE}</style>\n" + "\n".join(drawn) + "\n</svg>\n"
    )


def _panel(finding: Finding, top: float) -> str:
    curves = finding.curves
    longest = max((at_s for curve in curves.values() for at_s, _ in (*curve.held, *curve.answers)), default=0) or 1
    most = max((count for curve in curves.values() for _, count in curve.held), default=0) or 1
    lines = [f'<text class="title" x="0" y="{top + 14:.0f}">{escape(finding.title)}</text>']
    lines.append(f'<text class="small" x="{LABEL - 8}" y="{top + TITLE + 9:.0f}" text-anchor="end">{most} held</text>')
    base = top + TITLE + HELD
    for label, curve in reversed([*curves.items()]):  # ours on top
        lines.append(_line(label, curve, longest, most, base))
    for number, (label, curve) in enumerate(curves.items()):
        lines += _strip(label, curve, longest, base + STRIP * number)
    lines.append(
        f'<text class="small" x="{WIDTH}" y="{base + STRIP * len(curves) + 12:.0f}" text-anchor="end">'
        f"{longest:.0f} s</text>"
    )
    return "\n".join(lines)


def _line(label: str, curve: Curve, longest: float, most: int, base: float) -> str:
    """The connections held, as steps; a sample that repeats the one before it is left out."""
    steps, before = ["M", f"{LABEL} {base:.0f}"], 0
    for at_s, count in curve.held:
        if count != before:
            steps.append(f"H{_x(at_s, longest):.0f}V{base - HELD * count / most:.0f}")
            before = count
    steps.append(f"H{_x(curve.held[-1][0] if curve.held else 0, longest):.0f}")
    return f'<path class="{_style(label, "held")}" d="{"".join(steps)}"/>'


def _strip(label: str, curve: Curve, longest: float, top: float) -> list[str]:
    """A bar for each stretch of time in which something was answered, its red part what failed."""
    width = (WIDTH - LABEL) / BUCKETS
    asked = Counter((min(int(at_s / longest * BUCKETS), BUCKETS - 1), failed) for at_s, failed in curve.answers)
    most = max((asked[bucket, False] + asked[bucket, True] for bucket in range(BUCKETS)), default=0) or 1
    bars: dict[str, str] = {"failed": "", _style(label, "answered"): ""}
    for bucket in range(BUCKETS):
        bottom = top + STRIP
        for style, count in zip(bars, (asked[bucket, True], asked[bucket, False]), strict=True):
            if count:
                height = max((STRIP - 4) * math.sqrt(count / most), 1.5)  # a single failure is to be seen
                bottom -= height
                x = LABEL + bucket * width
                bars[style] += f"M{x:.0f} {bottom:.1f}h{width - 1:.0f}v{height:.1f}h-{width - 1:.0f}z"
    name = f'<text class="small" x="{LABEL - 8}" y="{top + STRIP - 5:.0f}" text-anchor="end">{escape(label)}</text>'
    return [name, *(f'<path class="{style}" d="{drawn}"/>' for style, drawn in bars.items() if drawn)]


def _style(label: str, what: str) -> str:
    return f"ours-{what}" if label.startswith("ours") else what


def _x(at_s: float, longest: float) -> float:
    return LABEL + (WIDTH - LABEL) * at_s / longest
