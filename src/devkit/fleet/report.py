"""What the scenarios came to: as a table for the terminal, as JSON, and on which machine."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
from importlib.metadata import version
from typing import TYPE_CHECKING

from .finding import OURS, PLAIN
from .plot import plot

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .finding import Finding

LABEL = 14
PACKAGES = ("sqlalchemy", "psycopg", "awslambdaric", "boto3")


def shown(finding: Finding) -> str:
    """The lines for one scenario, with the parts of the target that were missed."""
    width = max(LABEL, *(len(label) + 2 for label in finding.figures))
    lines = [f"{finding.name}: {finding.title}", f"  {'target':<{width}}{finding.target}"]
    lines += [f"  {label:<{width}}{figure}" for label, figure in finding.figures.items()]
    missed = [part for part, held in finding.parts.items() if not held]
    lines.append(f"  {'met' if finding.met else 'MISSED':<{width}}{'; '.join(missed)}".rstrip())
    if not finding.met:
        for label, outcome in finding.outcomes.items():
            lines += [f"    {label}: {count:,} times {error}" for error, count in outcome.errors.items()]
        lines += [f"    {line}" for line in finding.notes.get("said", ())]
    return "\n".join(lines)


def tables(findings: Sequence[Finding]) -> str:
    """All of them as the Markdown tables of docs/run/survival.md."""
    beside_plain = [finding for finding in findings if not finding.by_door]
    by_door = [finding for finding in findings if finding.by_door]
    return "\n\n".join([*([table(beside_plain)] if beside_plain else []), *([doors(by_door)] if by_door else [])])


def doors(findings: Sequence[Finding]) -> str:
    """Those by door: a column for each driver at each."""
    columns = list(dict.fromkeys(label for finding in findings for label in finding.figures))
    rows = [f"| scenario | {' | '.join(columns)} | |", f"|---|{'---|' * len(columns)}---|"]
    for finding in findings:
        cells = [finding.figures.get(column, "") for column in columns]
        rows.append(f"| {finding.title} | {' | '.join(cells)} | {'met' if finding.met else 'missed'} |")
    return "\n".join(rows)


def table(findings: Sequence[Finding]) -> str:
    """Those with a plain function beside."""
    rows = ["| scenario | target | this layer | plain SQLAlchemy | |", "|---|---|---|---|---|"]
    for finding in findings:
        figures = dict(finding.figures)
        plain = figures.pop(PLAIN, "")
        ours = "; ".join(
            [figures.pop(OURS), *(f"{label.partition(', ')[2]}: {told}" for label, told in figures.items())]
        )
        rows.append(f"| {finding.title} | {finding.target} | {ours} | {plain} | {'met' if finding.met else 'missed'} |")
    return "\n".join(rows)


def save(findings: Sequence[Finding], folder: Path) -> None:
    """``fleet.json`` and ``fleet.svg`` in ``folder``."""
    document = {
        "made_on": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": {
            "cores": os.cpu_count(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
            "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        },
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "scenarios": [finding.as_dict() for finding in findings],
    }
    (folder / "fleet.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    (folder / "fleet.svg").write_text(plot(findings))
