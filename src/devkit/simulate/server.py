"""The simulated server: a number of connections, and cores that connects and statements queue for."""

from __future__ import annotations

import math
from collections import deque
from heapq import heapreplace
from typing import TYPE_CHECKING

import simpy

from .refusals import AWAY, FULL, LATE, LOST, PASSWORD, Failed

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from .measures import Measures
    from .scenario import Server as Spec

    Steps = Generator[simpy.Event, Any, Any]


class Cpu:
    """``cores`` servers and one queue, first come, first served. What is begun is done, whoever still waits for it."""

    def __init__(self, cores: int) -> None:
        self._free_at = [0.0] * cores
        self._busy_s = 0.0

    def done_at(self, now: float, work_s: float) -> float:
        """When ``work_s`` that comes ``now`` is done."""
        ends_at = max(now, self._free_at[0]) + work_s
        heapreplace(self._free_at, ends_at)
        self._busy_s += work_s
        return ends_at

    def busy(self, now: float) -> float:
        """The share of the cores that was at work until ``now``."""
        return min(self._busy_s / (now * len(self._free_at)), 1.0) if now else 0.0


class Connection:
    """A session of the server, or a client's with a pooler."""

    __slots__ = ("connected_at", "generation", "open", "returned_at", "uses", "waited_s")

    def __init__(self, now: float, generation: int) -> None:
        self.connected_at = self.returned_at = now
        self.generation = generation
        self.open = True
        self.uses = 0
        self.waited_s = 0.0  # the last time, at a pooler


class Server:
    """What connects to it, and runs there."""

    def __init__(self, sim: simpy.Environment, spec: Spec, measures: Measures) -> None:
        self.spec = spec
        self.cpu = Cpu(spec.cores)
        self.password = 0  # its version
        self.slowness = 1.0
        self.held = 0
        self._sim = sim
        self._measures = measures
        self._room = spec.max_connections - spec.reserved
        self._generation = 0
        self._back_at = 0.0
        self._idle: deque[tuple[float, Connection, int]] = deque()
        self._at_work: dict[Connection, simpy.Process] = {}

    def connect(self, *, password: int, within_s: float) -> Steps:
        """A new connection. Raises Failed, after ``within_s`` at the latest."""
        sim, spec = self._sim, self.spec
        if sim.now < self._back_at:
            yield sim.timeout(min(spec.trip_s, within_s))
            raise Failed(AWAY)
        self.settle()
        trips_s = spec.connect_trips * spec.trip_s
        if self.held >= self._room:
            self._measures.counts["refused"] += 1
            takes_s = self.cpu.done_at(sim.now, spec.refuse_cpu_s) - sim.now + 2 * spec.trip_s
            yield sim.timeout(min(takes_s, within_s))
            raise Failed(FULL if takes_s <= within_s else LATE)
        # A backend has its place before it looks at the password.
        generation = self._generation
        self._now_held(self.held + 1)
        takes_s = self.cpu.done_at(sim.now, spec.connect_cpu_s) - sim.now + trips_s
        if takes_s > within_s:  # the client has gone by then, and the server finds out when it has done its part
            sim.timeout(takes_s).callbacks.append(lambda _: self._left(generation))
            yield sim.timeout(within_s)
            raise Failed(LATE)
        yield sim.timeout(takes_s)
        if generation != self._generation:
            raise Failed(AWAY)
        if password != self.password:
            self._left(generation)
            raise Failed(PASSWORD)
        self._measures.counts["connects"] += 1
        return Connection(sim.now, generation)

    def work(self, connection: Connection, *, cpu_s: float, waits_s: float, trips: int, within_s: float) -> Steps:
        """A unit of work on ``connection``. Raises Failed where the connection is lost meanwhile.

        Gives whether it came to its end ``within_s``; the server cancels it then.
        """
        sim = self._sim
        takes_s = self.cpu.done_at(sim.now, cpu_s) - sim.now + waits_s * self.slowness + trips * self.spec.trip_s
        process = sim.active_process
        assert process is not None  # noqa: S101 - whoever works is one
        self._at_work[connection] = process
        try:
            yield sim.timeout(min(takes_s, within_s))
        except simpy.Interrupt:
            raise Failed(LOST) from None
        finally:
            self._at_work.pop(connection, None)
        return takes_s <= within_s

    def lives(self, connection: Connection) -> bool:
        """Whether it does; a client knows without asking, as its socket would be readable."""
        self.settle()
        return connection.open and connection.generation == self._generation

    def rest(self, connection: Connection) -> None:
        """Nobody uses it from now on; idle_session_timeout counts."""
        connection.returned_at = self._sim.now
        if self.spec.idle_session_s != math.inf:
            connection.uses += 1
            self._idle.append((self._sim.now + self.spec.idle_session_s, connection, connection.uses))

    def wake(self, connection: Connection) -> None:
        """It is in use again."""
        connection.uses += 1

    def close(self, connection: Connection) -> None:
        if connection.open:
            connection.open = False
            self._left(connection.generation)

    def settle(self) -> None:
        """End the sessions that have idled for too long by now."""
        while self._idle and self._idle[0][0] <= self._sim.now:
            due_s, connection, uses = self._idle.popleft()
            if connection.open and connection.uses == uses:
                connection.open = False
                self._left(connection.generation, at_s=due_s)

    def fail_over(self, away_s: float) -> None:
        """Every connection is lost, and none is let in for ``away_s``."""
        self._generation += 1
        self._back_at = self._sim.now + away_s
        self._idle.clear()
        self._now_held(0)
        for process in list(self._at_work.values()):
            process.interrupt()

    def _left(self, generation: int, at_s: float | None = None) -> None:
        if generation == self._generation:
            self._now_held(self.held - 1, at_s)

    def _now_held(self, count: int, at_s: float | None = None) -> None:
        self.held = count
        self._measures.held(self._sim.now if at_s is None else at_s, count)
