"""``python -m benchmarks [--quick] [--anyway] [--results FOLDER] [section …]``: measure, and show what came of it.

Without a section, all of them. A section's samples go to ``<section>.json`` in the folder; ``table.md`` there,
and the plot that docs/ shows (in another folder: ``plot.svg``), are made anew from all sections that it holds, and so
are the figures on the pages. The exit status does not depend on the figures. It is 1 where something was not stored: on
a busy machine nothing is measured, and what was measured while it became busy is shown only. ``--anyway`` measures on
a busy machine as well, and stores nothing. ``--publish`` measures nothing, and makes anew what is made of the results.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import sys
import time
from pathlib import Path

from db.environment.commands import run
from devkit.servers.debian import FetchError

from .machine import machine, versions
from .pages import show
from .plan import FULL, QUICK
from .plot import plot
from .quiet import LOAD_LIMIT, Noise, Watch, calm, load_a_core
from .releases import CannotMeasureError
from .sections import SECTIONS
from .series import Result, load
from .table import table

RESULTS = Path(__file__).resolve().parent / "results"
PLOT = RESULTS.parents[1] / "docs" / "reference" / "benchmarks.svg"
NOT_STORED = 1


def main(arguments: list[str] | None = None) -> int:
    """Run the sections that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="section", help=f"of {', '.join(SECTIONS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="few samples, to see that all runs; nothing is stored")
    parser.add_argument("--anyway", action="store_true", help="on a busy machine as well; nothing is stored")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the results (default: %(default)s)")
    parser.add_argument("--publish", action="store_true", help="measure nothing: make table, plot and pages anew")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.sections) - SECTIONS.keys():
        parser.error(f"there is no section {', '.join(sorted(unknown))}: they are {', '.join(SECTIONS)}")
    if chosen.publish:
        publish(chosen.results)
        return 0
    stores = not (chosen.quick or chosen.anyway)
    load_before = calm() if stores else load_a_core()
    if stores and load_before > LOAD_LIMIT:
        _tell(f"the machine is busy, a load of {load_before:.2f} a core: wait until it is quiet, or show it --anyway")
        return NOT_STORED
    started = time.perf_counter()
    measured: dict[str, Result] = {}
    not_stored = []
    for name in chosen.sections or SECTIONS:
        watch = Watch(load_before)
        try:
            measured[name] = _measured(name, watch, quick=chosen.quick)
        except (CannotMeasureError, FetchError) as error:
            not_stored.append(name)
            _tell(f"{name}: it cannot be measured on this machine: {error}")
            continue
        if complaints := Noise(**measured[name].noise).complaints():
            not_stored.append(name)
            _tell(f"{name}: the machine was busy: {'; '.join(complaints)}")
        elif stores:  # now: what is measured stays, whatever happens to the next section
            measured[name].save(chosen.results)
            publish(chosen.results)
    print(f"\n{table(measured)}\n{len(measured)} sections in {time.perf_counter() - started:.0f} s")
    if stores and not_stored:
        _tell(f"not stored: once the machine is quiet and has all of it, python -m benchmarks {' '.join(not_stored)}")
        return NOT_STORED
    return 0


def publish(folder: Path) -> None:
    """Table and plot of the results in ``folder``; of those that are committed, on the pages as well."""
    results = load(folder, list(SECTIONS))
    (folder / "table.md").write_text(table(results))
    (PLOT if folder == RESULTS else folder / "plot.svg").write_text(plot(results))
    if folder == RESULTS:
        show(results)


def _measured(section: str, watch: Watch, *, quick: bool) -> Result:
    series = SECTIONS[section](QUICK if quick else FULL, _tell)
    return Result(
        section=section,
        made_on=dt.datetime.now(dt.UTC).date().isoformat(),
        machine=machine(),
        versions=versions(),
        noise=dataclasses.asdict(watch.noise()),
        series=series,
    )


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    run(main)
