"""What a warm unit of work costs in memory: what it holds at its peak, and what it leaves behind.

Neither depends on the machine, and both repeat. When something is saved, say the new numbers here. What SQLAlchemy and
psycopg allocate is among them, of the versions that the lock file names.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from .conftest import Use
from .warm_units import nothing, read, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WARM_UP = 30  # caches have their size, and psycopg has prepared the statement
RUNS = 8
MANY = 200
# Of 3.13. Objects have other sizes in another version of Python; a change of 3 % is seen in this one.
MARGIN = 1.03 if sys.version_info[:2] == (3, 13) else 1.25


@pytest.fixture
def warm(use: Use) -> Callable[[Callable[[], None]], None]:
    """Does a unit until nothing about it is new."""
    use()

    def warmed(unit: Callable[[], None]) -> None:
        for _ in range(WARM_UP):
            unit()

    return warmed


@pytest.mark.parametrize(("unit", "peak"), [(write, 6_280), (read, 6_280), (nothing, 2_620)])
def test_a_unit_holds_no_more_at_its_peak_than_it_did(
    warm: Callable[[Callable[[], None]], None], unit: Callable[[], None], peak: int
) -> None:
    """In bytes, beyond what was there before it: the least of some runs, as a cache may grow in one of them."""
    warm(unit)
    with _without_collections():
        assert min(_peak_bytes(unit) for _ in range(RUNS)) <= peak * MARGIN


@pytest.mark.parametrize("unit", [write, read, nothing])
def test_a_unit_leaves_nothing_behind(warm: Callable[[Callable[[], None]], None], unit: Callable[[], None]) -> None:
    """Not a block for each, and no cycle that would wait for the collector."""
    warm(unit)
    with _without_collections():
        before = sys.getallocatedblocks()
        for _ in range(MANY):
            unit()
        assert sys.getallocatedblocks() - before < MANY


def _peak_bytes(unit: Callable[[], None]) -> int:
    tracemalloc.start()
    try:
        unit()  # what tracing itself keeps is there
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        unit()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
