"""Who calls the function: at random, in bursts, by a queue, or again and again."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from .scenario import Burst, Callers, Messages, Steady

if TYPE_CHECKING:
    from .environment import Environment
    from .platform import Platform
    from .refusals import Reason
    from .scenario import Kind, Load
    from .server import Steps
    from .world import World

# What Lambda does with an event of an asynchronous invocation that was throttled, and with one whose function failed.
# https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
_THROTTLED_FIRST_S, _THROTTLED_LONGEST_S = 1.0, 300.0
_FAILED_S = (60.0, 120.0)
# An event source mapping that is throttled asks again in a while.
_POLL_S = 1.0


def begin(world: World, platform: Platform, load: Load) -> None:
    """Let ``load`` come."""
    match load:
        case Steady():
            world.sim.process(_steady(world, platform, load))
        case Burst():
            world.sim.process(_burst(world, platform, load))
        case Messages():
            world.sim.process(_Queue(world, platform, load).filled())
        case Callers():
            for number in range(load.count):
                world.sim.process(_caller(world, platform, load, number))


def _steady(world: World, platform: Platform, load: Steady) -> Steps:
    yield world.sim.timeout(load.from_s)
    until_s = min(load.until_s, world.duration_s)
    while True:
        yield world.sim.timeout(world.random.expovariate(load.per_s))
        if world.sim.now >= until_s:
            return
        _Request(world, platform, load.kind).send()


def _burst(world: World, platform: Platform, load: Burst) -> Steps:
    yield world.sim.timeout(load.at_s)
    for _ in range(load.count):
        _Request(world, platform, load.kind).send()
        if load.over_s:
            yield world.sim.timeout(load.over_s / load.count)


class _Request:
    """One event, until it is answered or given up."""

    __slots__ = ("_failures", "_kind", "_platform", "_throttles", "_world")

    def __init__(self, world: World, platform: Platform, kind: Kind) -> None:
        self._world = world
        self._platform = platform
        self._kind = kind
        self._throttles = self._failures = 0
        world.measures.counts["requests"] += 1

    def send(self) -> None:
        if self._platform.invoke(self._done):
            return
        self._throttles += 1
        if self._throttles == 1:
            self._world.measures.counts["throttled"] += 1
        if self._kind == "async":
            delay_s = min(_THROTTLED_FIRST_S * 2 ** (self._throttles - 1), _THROTTLED_LONGEST_S)
            self._again(delay_s * (0.5 + self._world.draw()))  # not documented, but no queue's events come back as one

    def _done(self, reason: Reason | None) -> None:
        if reason is not None and self._kind == "async" and self._failures < len(_FAILED_S):
            self._failures += 1
            self._again(_FAILED_S[self._failures - 1])

    def _again(self, delay_s: float) -> None:
        self._world.later(delay_s, self.send)


class _Queue:
    """A queue and the event source mapping that polls it."""

    def __init__(self, world: World, platform: Platform, load: Messages) -> None:
        self._world = world
        self._platform = platform
        self._load = load
        self._waiting: deque[int] = deque()  # how often each was received
        self._in_flight = 0
        self._asks_later = False

    def filled(self) -> Steps:
        """Messages as they come."""
        world, load = self._world, self._load
        yield world.sim.timeout(load.at_s)
        for _ in range(load.count):
            self._put(0)
        while load.per_s:
            yield world.sim.timeout(world.random.expovariate(load.per_s))
            self._put(0)

    def _put(self, received: int) -> None:
        if received == 0:
            self._world.measures.counts["requests"] += 1
        self._waiting.append(received)
        self._pump()

    def _pump(self) -> None:
        while self._waiting and self._in_flight < self._load.concurrency:
            received = self._waiting[0] + 1
            if not self._platform.invoke(partial(self._done, received)):
                self._world.measures.counts["throttled"] += 1
                if not self._asks_later:
                    self._asks_later = True
                    self._world.later(_POLL_S, self._ask)
                return
            self._waiting.popleft()
            self._in_flight += 1

    def _ask(self) -> None:
        self._asks_later = False
        self._pump()

    def _done(self, received: int, reason: Reason | None) -> None:
        self._in_flight -= 1
        if reason is not None and received >= self._load.receives:
            self._world.measures.counts["dead"] += 1
        elif reason is not None:
            self._world.later(self._load.visibility_s, lambda: self._put(received))
        self._pump()


def _caller(world: World, platform: Platform, load: Callers, number: int) -> Steps:
    environment: Environment = platform.warm()
    if load.connected:
        yield from environment.connect()
    start_s = load.at_s + load.over_s * number / load.count
    yield world.sim.timeout(max(start_s - world.sim.now, 0.0))
    for _ in range(load.invocations):
        world.measures.counts["requests"] += 1
        yield from platform.serve(environment, _nobody)
        pause_s = world.random.uniform(*load.pause_s)
        if pause_s:
            yield world.sim.timeout(pause_s)


def _nobody(_reason: Reason | None) -> None:
    """The caller looks itself."""
