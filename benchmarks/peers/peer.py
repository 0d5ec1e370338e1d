"""What a peer is: one way to talk to the database, and the works that it can do."""

from __future__ import annotations

import abc
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.works import TRANSACTIONS, Context, Work

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

ALL = frozenset(TRANSACTIONS)
POOLED = ALL - {Work.UNPOOLED}


@dataclass
class Samples:
    """Wall-clock and CPU time (user and system, all threads) of each run, and what the last run read."""

    wall_us: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    value: int | None = None

    def __iadd__(self, later: Samples) -> Self:
        self.wall_us += later.wall_us
        self.cpu_us += later.cpu_us
        self.value = later.value
        return self


class Peer(abc.ABC):
    """One way to talk to the database, for the server behind ``url`` (a libpq URI).

    A work is done by the method of its name, ``Work.BOUND_READ`` by ``bound_read()``. One that reads returns what it
    read.
    """

    name: ClassVar[str]
    offers: ClassVar[frozenset[Work]] = POOLED
    packages: ClassVar[tuple[str, ...]]
    """Whose versions belong to the result."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.context = Context()
        self._is_open = False

    @abc.abstractmethod
    def open(self) -> None:
        """What a function does once, at import."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close every connection."""

    @abc.abstractmethod
    def write(self) -> Any:
        """The work that every peer can do: ``first`` is one on what has just been opened."""

    def known(self) -> Any:
        """A write whose statement is known before it begins. Overridden by who has a call for that."""
        return self.write()

    def first(self) -> Any:
        self._open_once()
        return self.write()

    def sample(self, work: Work, times: int) -> Samples:
        """Do ``work`` so many times, each timed on its own, in one invocation. What precedes FIRST is not timed."""
        self.context = Context()
        run = getattr(self, work.name.lower())
        if work is not Work.FIRST:
            self._open_once()
            return self.measured(run, times)
        samples = Samples()
        for _ in range(times):
            self.finish()
            samples += self.measured(run, 1)
        return samples

    def measured(self, run: Callable[[], Any], times: int) -> Samples:
        """``run`` so many times. Overridden by who needs something around the loop."""
        return measured(run, times)

    def finish(self) -> None:
        """Close what is open."""
        if self._is_open:
            self.close()
            self._is_open = False

    def _open_once(self) -> None:
        if not self._is_open:
            self.open()
            self._is_open = True


def measured(run: Callable[[], Any], times: int) -> Samples:
    """Time each of ``times`` runs."""
    samples = Samples()
    for _ in range(times):
        wall, cpu = time.perf_counter_ns(), time.process_time_ns()
        samples.value = run()
        cpu, wall = time.process_time_ns() - cpu, time.perf_counter_ns() - wall
        samples.wall_us.append(wall / 1000)
        samples.cpu_us.append(cpu / 1000)
    return samples


def peak_bytes() -> int:
    """The most memory that this process has held, file mappings included.

    Not by getrusage: across fork and exec it starts with the peak of the process that started this one.
    """
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
