"""What is measured: each section is a module with ``measure(plan, tell)``, which gives its series.

``tell`` takes a line about what happens now. A section that cannot be measured on this machine raises
``releases.CannotMeasureError`` or the kit's ``FetchError``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import batch, cold, copy, cpu, instructions, once, releases, secured, throughput, wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.plan import Plan
    from benchmarks.series import Series

SECTIONS: dict[str, Callable[[Plan, Callable[[str], None]], list[Series]]] = {
    "wire": wire.measure,
    "cpu": cpu.measure,
    "instructions": instructions.measure,
    "cold": cold.measure,
    "batch": batch.measure,
    "copy": copy.measure,
    "once": once.measure,
    "throughput": throughput.measure,
    "secured": secured.measure,
    "releases": releases.measure,
}
