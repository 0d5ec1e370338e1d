"""One execution environment: what the layer does in it with the database.

Whatever it decides, ``db``'s own functions decide, asked with the simulated clock and the scenario's draw: whether a
kept connection may serve, whether and after how long a connect or a unit is tried again, how long a statement may
take, whether the connection is given back at the end, which credentials are tried. What is here is their order.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from db.credentials.login import Login
from db.errors import DeadlineError, Verdict
from db.pool.connector import Effort
from db.pool.crowding import Crowding
from db.pool.keeping import may_serve
from db.timing.deadline import Deadline, limits, usable_s
from db.transactions.run import BACKOFF

from .refusals import AWAY, BORROW, CANCELED, CAPACITY, CONNECT_DEADLINE, DEADLINE, FULL, LATE, LOST, TIMED_OUT, Failed
from .secret import Source

if TYPE_CHECKING:
    from .refusals import Reason
    from .scenario import Function, Handler
    from .server import Connection, Steps
    from .world import World

_ASK_S = 0.05  # what a request to Secrets Manager takes
_LIBPQ_LEAST_S = 2  # it counts in whole seconds, and not below this
# In place of the first answer, each is a connect that failed.
_OF_FIRST_FLIGHT = {AWAY, BORROW, FULL, LATE}


class Environment:
    """One that Lambda has started. ``version`` is the function's, ``idle_since`` when it last finished."""

    def __init__(self, world: World, version: int = 0) -> None:
        self._world = world
        self.version = version
        self.cold = True
        self.idle_since = 0.0
        self._connection: Connection | None = None
        self._crowding = Crowding(world.clock, draw=world.draw)
        self._source = Source(world.secret)

    def invoke(self, function: Function) -> Steps:
        """One invocation, from where the handler begins; the reason where it failed."""
        world, handler = self._world, function.handler
        deadline = Deadline(at=world.sim.now + function.timeout_s, length_s=function.timeout_s)
        reason: Reason | None = None
        try:
            if handler.before_s:
                yield from self._passes(world.length_s(handler.before_s, handler), deadline)
            yield from self._run(handler, deadline)
            if handler.after_s:
                yield from self._passes(world.length_s(handler.after_s, handler), deadline)
        except Failed as failed:
            if failed.reason is TIMED_OUT:  # Lambda begins anew with it
                self.end()
                self.cold = True
            reason = failed.reason
        if self._connection is not None and self._crowding.crowded:
            self.end()
        return reason

    def connect(self) -> Steps:
        """Have a connection before the first invocation."""
        self._connection = yield from self._world.door.connect(password=self._world.secret.current, within_s=math.inf)
        self._world.door.rest(self._connection)
        self.cold = False

    def end(self) -> None:
        """Close what it keeps."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._world.door.close(connection)

    def _passes(self, seconds: float, deadline: Deadline) -> Steps:
        sim = self._world.sim
        left_s = deadline.left_s(sim.now)
        yield sim.timeout(min(seconds, left_s))
        if seconds > left_s:
            raise Failed(TIMED_OUT)

    def _run(self, handler: Handler, deadline: Deadline) -> Steps:
        """``db.run``: a unit of work, again where it failed and that is safe."""
        world = self._world
        ends_at = world.sim.now + self._left_s(deadline, math.inf)
        attempt = 1
        while True:
            try:
                yield from self._unit(handler, deadline)
            except Failed as failed:
                left_s = ends_at - world.sim.now
                delay_s = BACKOFF.delay_s(failed.reason.advice, attempt, left_s=left_s, draw=world.draw)
                if delay_s is None:
                    raise
            else:
                return
            world.measures.counts["retried"] += 1
            attempt += 1
            yield world.sim.timeout(delay_s)

    def _unit(self, handler: Handler, deadline: Deadline) -> Steps:
        """One transaction of one flight. A flight that dies is sent again, once; one that is refused waits its turn."""
        world, settings = self._world, self._world.settings
        wanted_at = world.sim.now
        connecting = _Connecting(self, deadline)
        replayed = False
        connection = self._kept()
        while True:
            if connection is None:
                connection = yield from connecting.connection()
            else:
                world.door.wake(connection)
            has_it_at = world.sim.now
            try:
                done = yield from world.door.work(
                    connection,
                    cpu_s=world.length_s(handler.cpu_s, handler),
                    waits_s=world.length_s(handler.waits_s, handler),
                    trips=handler.trips,
                    within_s=self._statement_s(deadline),
                )
            except Failed as failed:
                world.door.close(connection)
                connection = None
                if failed.reason in _OF_FIRST_FLIGHT:
                    yield from connecting.refused(failed.reason)
                elif failed.reason is LOST and not replayed:
                    replayed = True
                else:
                    raise
            else:
                break
        world.measures.waits.append(has_it_at - wanted_at + connection.waited_s)
        if settings.pool == "null":
            world.door.close(connection)
        else:
            self._connection = connection
            world.door.rest(connection)
        if not done:
            raise Failed(CANCELED)

    def _kept(self) -> Connection | None:
        """What was kept, if it may serve, and lives."""
        connection, self._connection = self._connection, None
        if connection is None:
            return None
        settings, door = self._world.settings, self._world.door
        if door.lives(connection) and may_serve(
            now=self._world.sim.now,
            connected_at=connection.connected_at,
            returned_at=connection.returned_at,
            idle_s=settings.pool_idle_s,
            recycle_s=settings.pool_recycle_s,
        ):
            return connection
        door.close(connection)
        return None

    def _statement_s(self, deadline: Deadline) -> float:
        settings = self._world.settings
        try:
            return limits(
                deadline,
                now=self._world.sim.now,
                reserve_s=settings.deadline_reserve_s,
                statement_s=settings.statement_timeout_s,
                lock_s=settings.lock_timeout_s,
                bounds_transaction=False,
            ).statement_s
        except DeadlineError:
            raise Failed(DEADLINE) from None

    def _left_s(self, deadline: Deadline, at_most_s: float) -> float:
        reserve_s = self._world.settings.deadline_reserve_s
        try:
            return usable_s(deadline, now=self._world.sim.now, reserve_s=reserve_s, at_most_s=at_most_s)
        except DeadlineError:
            raise Failed(DEADLINE) from None


class _Connecting:
    """What the connector does for one unit of work: attempts, with waits in between, while there is time."""

    def __init__(self, environment: Environment, deadline: Deadline) -> None:
        self._environment = environment
        self._world = environment._world  # noqa: SLF001 - a part of it
        self._deadline = deadline
        self._effort: Effort | None = None
        self._login = Login(environment._source)  # noqa: SLF001 - likewise
        self._refusal: Reason | None = None

    def connection(self) -> Steps:
        """A new one. Raises Failed where there is none."""
        world = self._world
        self._begin()
        while True:
            credentials = self._login.credentials()
            assert credentials is not None  # noqa: S101 - there is a source
            left_s = self._environment._left_s(self._deadline, math.inf)  # noqa: SLF001 - likewise
            driver_s = max(int(min(left_s, world.settings.connect_timeout_s)), _LIBPQ_LEAST_S)
            try:
                return (
                    yield from world.door.connect(
                        password=int(credentials.password), within_s=min(left_s, float(driver_s))
                    )
                )
            except Failed as failed:
                if failed.reason is LATE and left_s <= driver_s:
                    raise Failed(_given_up(self._refusal) if self._refusal else CONNECT_DEADLINE) from None
                yield from self.refused(failed.reason)

    def refused(self, reason: Reason) -> Steps:
        """Wait until there may be another attempt. Raises Failed where there is to be none."""
        world, effort = self._world, self._begin()
        self._refusal = reason
        if reason.advice is Verdict.WAIT_FOR_CAPACITY:
            self._environment._crowding.refused()  # noqa: SLF001 - likewise
        if reason.advice is Verdict.REFETCH_CREDENTIALS:
            renewed = self._login.renew()
            yield world.sim.timeout(_ASK_S)
            if renewed:
                self._refusal = None
                return
        delay_s = effort.delay_s(reason.advice, draw=world.draw)
        if delay_s is None:
            raise Failed(_given_up(reason))
        world.measures.counts["waited"] += 1
        yield world.sim.timeout(delay_s)
        self._login.waited()
        effort.attempts += 1

    def _begin(self) -> Effort:
        if self._effort is None:
            now = self._world.sim.now
            wait_s = self._environment._left_s(self._deadline, self._world.settings.connect_wait_s)  # noqa: SLF001
            self._effort = Effort(began=now, ends_at=now + wait_s, clock=self._world.clock)
        return self._effort


def _given_up(reason: Reason) -> Reason:
    return CAPACITY if reason.advice is Verdict.WAIT_FOR_CAPACITY else reason
