"""What stands between environments and the server: nothing, or a pooler in transaction mode."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Protocol

from .refusals import BORROW, FULL, Failed
from .server import Connection

if TYPE_CHECKING:
    import simpy

    from .measures import Measures
    from .scenario import Pooler as Spec
    from .server import Server, Steps

# How long a pooler waits for the server to let it in: PgBouncer's server_connect_timeout.
_CONNECT_S = 15.0


class Door(Protocol):
    """Where environments come in. What it gives them is kept, rests and ends by the same calls."""

    def connect(self, *, password: int, within_s: float) -> Steps: ...
    def work(self, connection: Connection, *, cpu_s: float, waits_s: float, trips: int, within_s: float) -> Steps: ...
    def lives(self, connection: Connection) -> bool: ...
    def rest(self, connection: Connection) -> None: ...
    def wake(self, connection: Connection) -> None: ...
    def close(self, connection: Connection) -> None: ...


class Pooler:
    """It lets clients in at no cost, and lends each a connection of the server for a unit of work."""

    def __init__(self, sim: simpy.Environment, spec: Spec, server: Server, measures: Measures) -> None:
        self._sim = sim
        self._spec = spec
        self._server = server
        self._measures = measures
        self._clients = 0
        self._opened = 0
        self._idle: list[Connection] = []
        self._waiting: deque[simpy.Event] = deque()
        self._resting: deque[tuple[float, Connection, int]] = deque()

    def connect(self, *, password: int, within_s: float) -> Steps:
        """A client comes in. Its password is looked at as by the server. Raises Failed."""
        self._settle()
        trip_s = self._server.spec.trip_s
        if self._clients >= self._spec.max_clients:
            self._measures.counts["refused"] += 1
            yield self._sim.timeout(min(2 * trip_s, within_s))
            raise Failed(FULL)
        self._clients += 1
        yield self._sim.timeout(min(self._server.spec.connect_trips * trip_s, within_s))
        return Connection(self._sim.now, password)

    def work(self, connection: Connection, *, cpu_s: float, waits_s: float, trips: int, within_s: float) -> Steps:
        """A unit on a server connection. Raises Failed where there is none to be had, or it is lost."""
        began = self._sim.now
        lent = yield from self._borrow(min(self._spec.borrow_s, within_s), connection)
        connection.waited_s = self._sim.now - began
        try:
            return (
                yield from self._server.work(
                    lent, cpu_s=cpu_s, waits_s=waits_s, trips=trips, within_s=within_s - (self._sim.now - began)
                )
            )
        finally:
            self._give_back(lent)

    def lives(self, connection: Connection) -> bool:
        self._settle()
        return connection.open

    def rest(self, connection: Connection) -> None:
        connection.returned_at = self._sim.now
        if self._spec.idle_client_s != math.inf:
            connection.uses += 1
            self._resting.append((self._sim.now + self._spec.idle_client_s, connection, connection.uses))

    def wake(self, connection: Connection) -> None:
        connection.uses += 1

    def close(self, connection: Connection) -> None:
        if connection.open:
            connection.open = False
            self._clients -= 1

    def _settle(self) -> None:
        while self._resting and self._resting[0][0] <= self._sim.now:
            _, connection, uses = self._resting.popleft()
            if connection.uses == uses:
                self.close(connection)

    def _borrow(self, within_s: float, client: Connection) -> Steps:
        ends_at = self._sim.now + within_s
        while True:
            lent = yield from self._lent(ends_at, client)
            if self._server.lives(lent):
                return lent
            self._opened -= 1

    def _lent(self, ends_at: float, client: Connection) -> Steps:
        if self._idle:
            return self._idle.pop()
        if self._opened < self._spec.size:
            self._opened += 1
            try:
                return (yield from self._server.connect(password=self._server.password, within_s=_CONNECT_S))
            except Failed:
                self._opened -= 1
                self.close(client)
                raise
        turn = self._sim.event()
        self._waiting.append(turn)
        yield turn | self._sim.timeout(max(ends_at - self._sim.now, 0.0))
        if turn.triggered:
            return turn.value
        self._waiting.remove(turn)
        self._measures.counts["refused"] += 1
        self.close(client)
        raise Failed(BORROW)

    def _give_back(self, lent: Connection) -> None:
        if not self._server.lives(lent):
            self._opened -= 1
            # Whoever waits is to open another.
            lent = Connection(self._sim.now, -1)
            if self._waiting:
                self._opened += 1
                self._waiting.popleft().succeed(lent)
        elif self._waiting:
            self._waiting.popleft().succeed(lent)
        else:
            self._idle.append(lent)
