"""Lambda: which environment an invocation gets, how many there may be, and when one ends."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from .environment import Environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from .refusals import Reason
    from .scenario import Function
    from .server import Steps
    from .world import World

    # Told when an invocation is over; None where it succeeded.
    Done = Callable[[Reason | None], None]

# https://docs.aws.amazon.com/lambda/latest/dg/scaling-behavior.html: for each function, and what is not used of it is
# not there later.
STARTED_MOST, STARTED_WITHIN_S = 1000, 10.0
_REAP_S = 5.0


class Platform:
    """The environments of one function."""

    def __init__(self, world: World, function: Function) -> None:
        self._world = world
        self._function = function
        self._version = 0
        self._idle: deque[Environment] = deque()  # who worked last is at the right
        self._old: deque[tuple[float, Environment]] = deque()
        self._linger_s = 0.0
        self._started: deque[float] = deque()
        self.at_work = 0
        self.environments = 0

    def invoke(self, done: Done) -> bool:
        """Begin an invocation; False where Lambda refuses it, and nothing comes of it."""
        environment = self._taken()
        if environment is None:
            return False
        self.at_work += 1
        self._world.sim.process(self._serve(environment, done))
        return True

    def deploy(self, linger_s: float) -> None:
        """From now on it is another version, whose environments are all new."""
        self._version += 1
        self._linger_s = linger_s
        while self._idle:
            self._put_aside(self._idle.popleft())

    def warm(self) -> Environment:
        """One that is there, beside what the platform deals out."""
        self._note(self.environments + 1)
        environment = Environment(self._world)
        environment.cold = False
        return environment

    def serve(self, environment: Environment, done: Done) -> Steps:
        """An invocation of this very environment."""
        self.at_work += 1
        yield from self._serve(environment, done, kept=False)

    def reap(self) -> Steps:
        """End what was idle for long, again and again."""
        world = self._world
        while True:
            yield world.sim.timeout(_REAP_S)
            while self._idle and self._idle[0].idle_since + self._function.keep_s <= world.sim.now:
                self._end(self._idle.popleft())
            while self._old and self._old[0][0] <= world.sim.now:
                self._end(self._old.popleft()[1])

    def _taken(self) -> Environment | None:
        if self.at_work >= self._function.concurrency:
            return None
        if self._idle:
            return self._idle.pop()
        now = self._world.sim.now
        started = self._started
        while started and started[0] <= now - STARTED_WITHIN_S:
            started.popleft()
        if len(started) >= STARTED_MOST:
            return None
        started.append(now)
        measures = self._world.measures
        measures.started_most = max(measures.started_most, len(started))
        self._note(self.environments + 1)
        return Environment(self._world, self._version)

    def _serve(self, environment: Environment, done: Done, *, kept: bool = True) -> Steps:
        world, measures = self._world, self._world.measures
        if environment.cold:
            measures.counts["cold"] += 1
            environment.cold = False
            yield world.sim.timeout(self._function.cold_s)
        began = world.sim.now
        reason: Reason | None = yield from environment.invoke(self._function)
        self.at_work -= 1
        measures.counts["invoked"] += 1
        measures.answers.append(world.sim.now - began)
        measures.last_answer_s = world.sim.now
        if reason is None:
            measures.counts["answered"] += 1
        else:
            measures.failed(reason.name)
        if kept:
            environment.idle_since = world.sim.now
            if environment.version == self._version:
                self._idle.append(environment)
            else:
                self._put_aside(environment)
        done(reason)

    def _put_aside(self, environment: Environment) -> None:
        self._old.append((self._world.sim.now + self._linger_s, environment))

    def _end(self, environment: Environment) -> None:
        self._note(self.environments - 1)
        if self._world.settings.shutdown_hook:
            environment.end()
        # Else nobody tells the server, which keeps the session until it ends what idles.

    def _note(self, environments: int) -> None:
        self.environments = environments
        measures = self._world.measures
        measures.environments_max = max(measures.environments_max, environments)
