"""What is measured: each section is a module with ``measure(plan, tell)``, which gives its series.

``tell`` takes a line about what happens now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import batch, cold, copy, cpu, once, wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.plan import Plan
    from benchmarks.series import Series

SECTIONS: dict[str, Callable[[Plan, Callable[[str], None]], list[Series]]] = {
    "wire": wire.measure,
    "cpu": cpu.measure,
    "cold": cold.measure,
    "batch": batch.measure,
    "copy": copy.measure,
    "once": once.measure,
}
