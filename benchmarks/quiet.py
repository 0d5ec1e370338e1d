"""Whether the machine had anything else to do while something was measured.

On a busy machine a ratio still looks like one. So what else ran is counted, said, and stored with the result; and where
it was more than these limits, nothing is stored.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .cores import family, fields

if TYPE_CHECKING:
    from typing import Self

# Parts of all cores' time. A machine that does nothing else spends some hundredths of a percent on its own upkeep.
STEAL_LIMIT = 0.01
OTHERS_LIMIT = 0.03
# Of the last minute, for each core: what ran before is not over at once.
LOAD_LIMIT = 0.25
CALM_S = 120.0
POLL_S = 2.0

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What else ran: the load when it began, and the parts of all cores' time that others had."""

    load: float
    """Runnable processes for each core, over the minute before."""
    steal: float
    """What the host gave to other machines."""
    others: float
    """What processes of this machine had that were not part of the run."""

    def complaints(self) -> list[str]:
        """What makes the figures worth nothing; empty on a quiet machine."""
        found = []
        if self.load > LOAD_LIMIT:
            found.append(f"a load of {self.load:.2f} a core when it began (at most {LOAD_LIMIT})")
        if self.steal > STEAL_LIMIT:
            found.append(f"{self.steal:.1%} of the time stolen by the host (at most {STEAL_LIMIT:.0%})")
        if self.others > OTHERS_LIMIT:
            found.append(f"{self.others:.1%} of the time taken by other processes (at most {OTHERS_LIMIT:.0%})")
        return found


@dataclass(frozen=True)
class _Ticks:
    """Of all cores together, since the machine started."""

    all: int
    busy: int
    stolen: int
    ours: int

    @classmethod
    def now(cls) -> Self:
        user, nice, system, idle, iowait, irq, softirq, steal = _of_all_cores()
        busy = user + nice + system + irq + softirq
        return cls(busy + idle + iowait + steal, busy, steal, _ours())


class Watch:
    """Looks from its beginning to each call of ``noise``."""

    def __init__(self, load: float | None = None) -> None:
        self._load = load_a_core() if load is None else load
        self._before = _Ticks.now()

    def noise(self) -> Noise:
        now, before = _Ticks.now(), self._before
        passed = max(now.all - before.all, 1)
        others = (now.busy - before.busy) - (now.ours - before.ours)
        return Noise(
            load=round(self._load, 3),
            steal=round((now.stolen - before.stolen) / passed, 4),
            others=round(max(others, 0) / passed, 4),
        )


def load_a_core() -> float:
    """Of the last minute."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def calm(wait_s: float = CALM_S) -> float:
    """Wait for the load of what ran before to sink, so long at most. Returns the load a core."""
    give_up_at = time.monotonic() + wait_s
    while (load := load_a_core()) > LOAD_LIMIT and time.monotonic() < give_up_at:
        time.sleep(POLL_S)
    return load


def _of_all_cores() -> list[int]:
    line = Path("/proc/stat").read_text().splitlines()[0]
    return [int(ticks) for ticks in line.split()[1:9]]  # guests are in user and nice already


def _ours() -> int:
    """This process and what descends from it, those included that have ended and whose parents have noticed."""
    total = 0
    for pid in family(os.getpid()):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += sum(int(ticks) for ticks in fields(Path(f"/proc/{pid}"))[11:15])
    return total
