"""``python -m benchmarks [--quick] [--results FOLDER] [section …]``: measure, and show what came of it.

Without a section, all of them. A section's samples go to ``<section>.json`` in the folder; ``table.md`` there,
and the plot that docs/ shows (in another folder: ``plot.svg``), are made anew from all sections that it holds. The exit
status does not depend on the figures.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import time
from pathlib import Path

from .machine import machine, versions
from .plan import FULL, QUICK
from .plot import plot
from .sections import SECTIONS
from .series import Result, load
from .table import table

RESULTS = Path(__file__).resolve().parent / "results"
PLOT = RESULTS.parents[1] / "docs" / "reference" / "benchmarks.svg"


def main(arguments: list[str] | None = None) -> int:
    """Run the sections that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="section", help=f"of {', '.join(SECTIONS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="few samples, to see that all runs; nothing is stored")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the results (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.sections) - SECTIONS.keys():
        parser.error(f"there is no section {', '.join(sorted(unknown))}: they are {', '.join(SECTIONS)}")
    started = time.perf_counter()
    measured = {}
    for name in chosen.sections or SECTIONS:
        measured[name] = _measured(name, quick=chosen.quick)
        if not chosen.quick:  # now: what is measured stays, whatever happens to the next section
            measured[name].save(chosen.results)
            publish(chosen.results)
    print(f"\n{table(measured)}\n{len(measured)} sections in {time.perf_counter() - started:.0f} s")
    return 0


def publish(folder: Path) -> None:
    """Table and plot of the results in ``folder``."""
    results = load(folder, list(SECTIONS))
    (folder / "table.md").write_text(table(results))
    (PLOT if folder == RESULTS else folder / "plot.svg").write_text(plot(results))


def _measured(section: str, *, quick: bool) -> Result:
    return Result(
        section=section,
        made_on=dt.datetime.now(dt.UTC).date().isoformat(),
        machine=machine(),
        versions=versions(),
        series=SECTIONS[section](QUICK if quick else FULL, _tell),
    )


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
