"""Which core the client has, and which the server: what a figure depends on that nobody fixes.

The kernel decides from moment to moment, and a client's CPU differs by half with what it decides: on one core the two
take turns and cool each other's caches, on two they wake each other. So both places are measured and both are shown.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.servers.postgres import Postgres


class Where(StrEnum):
    """Where the server runs while the client is measured."""

    OTHER = "server on the other core"
    SAME = "server on the same core"


@dataclass(frozen=True)
class Cores:
    """The client's, and the one for everything else."""

    client: int
    other: int

    def of_server(self, where: Where) -> int:
        return self.client if where is Where.SAME else self.other


def cores() -> Cores:
    """Two of those that this process may use. Raises RuntimeError where there are no two."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:  # noqa: PLR2004 - client and server
        raise RuntimeError(f"client and server need a core each, and this process may use {len(usable)}")
    return Cores(client=usable[-1], other=usable[0])


@contextlib.contextmanager
def aside() -> Iterator[Cores]:
    """This process, and what it starts from here on, keeps to the other core; a worker takes the client's by itself."""
    before, found = os.sched_getaffinity(0), cores()
    os.sched_setaffinity(0, {found.other})
    try:
        yield found
    finally:
        os.sched_setaffinity(0, before)


def move(postgres: Postgres, *to: int) -> None:
    """The server with all its backends to these cores. Backends that it starts later are there from their start."""
    with postgres.as_superuser() as connection:
        ((backend,),) = connection.execute("SELECT pg_backend_pid()").fetchall()
        postmaster = parents()[backend]
        for pid in family(postmaster):
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                os.sched_setaffinity(pid, to)


def family(pid: int) -> list[int]:
    """``pid`` and all that descend from it."""
    found, of = [pid], parents()
    for one in found:  # which grows meanwhile
        found += [child for child, parent in of.items() if parent == one]
    return found


def parents() -> dict[int, int]:
    """Of each process of this machine, its parent."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                found[int(folder.name)] = int(fields(folder)[1])
    return found


def fields(folder: Path) -> list[str]:
    """What ``/proc/<pid>/stat`` says, from the state on: before that is the name, which may hold anything."""
    return (folder / "stat").read_text().rpartition(")")[2].split()


def share_a_core(one: int, other: int) -> bool | None:
    """Whether two cores are the two threads of a single one; None where the machine does not say."""
    siblings = Path(f"/sys/devices/system/cpu/cpu{one}/topology/thread_siblings_list")
    if not siblings.is_file():
        return None
    listed = [part.partition("-") for part in siblings.read_text().strip().split(",")]
    return any(int(first) <= other <= int(last or first) for first, _, last in listed)
