"""``python -m devkit fleet [scenario …]``: the scenarios in full size, and whether each reached its target."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from typing import TYPE_CHECKING

from .fork_server import ForkServer
from .report import save, shown, tables
from .scenarios import SCENARIOS
from .scenarios.fuzz import fuzz

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from .finding import Finding

FUZZ = "fuzz"


def known(fuzzed_by: Path | None) -> dict[str, Callable[[ForkServer], Finding]]:
    """The scenarios by name, in the order in which they run; with the test ``fuzzed_by``, ``fuzz`` too."""
    return SCENARIOS if fuzzed_by is None else {**SCENARIOS, FUZZ: lambda _: fuzz(fuzzed_by)}


def run(names: Sequence[str], *, results: Path | None = None, fuzzed_by: Path | None = None) -> int:
    """Run the scenarios ``names``, by default all; 0 where each target was met.

    What they came to is kept in the folder ``results``. Raises KeyError for a name that is none.
    """
    scenarios = known(fuzzed_by)
    chosen = {name: scenarios[name] for name in names} or scenarios
    started = time.perf_counter()
    findings = []
    with _ended_by_sigterm(), ForkServer() as fork_server:
        for name, scenario in chosen.items():
            began = time.perf_counter()
            findings.append(scenario(fork_server))
            print(f"{shown(findings[-1])}\n  {name} took {time.perf_counter() - began:.0f} s\n", flush=True)
    missed = [finding.name for finding in findings if not finding.met]
    if results is not None:
        save(findings, results)
    print(tables(findings))
    print(f"\n{len(findings) - len(missed)} of {len(findings)} targets met in {time.perf_counter() - started:.0f} s")
    if missed:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM does what Ctrl-C does, so that every `with` ends what it started."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
