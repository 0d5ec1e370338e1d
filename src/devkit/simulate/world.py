"""What the parts of one simulation share: the clock, the draws, the settings, the database and its secret."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import simpy

from .measures import Measures
from .pooler import Pooler
from .secret import Secret
from .server import Server

if TYPE_CHECKING:
    from collections.abc import Callable

    from .pooler import Door
    from .scenario import Handler, Scenario


class World:
    """Its one source of chance is ``random``, by the seed."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.sim = simpy.Environment()
        self.random = random.Random(seed)  # noqa: S311 - a simulation, drawn alike each time
        self.draw = self.random.random
        self.settings = scenario.settings
        self.duration_s = scenario.duration_s
        self.measures = Measures()
        self.secret = Secret()
        self.server = Server(self.sim, scenario.server, self.measures)
        self.door: Door = self.server
        if scenario.pooler is not None:
            self.door = Pooler(self.sim, scenario.pooler, self.server, self.measures)

    def clock(self) -> float:
        """Seconds since the start: what the layer's deciders are given for the wall clock."""
        return self.sim.now

    def length_s(self, mean_s: float, handler: Handler) -> float:
        """How long something of ``handler`` takes this time."""
        return self.random.expovariate(1 / mean_s) if handler.varies and mean_s else mean_s

    def later(self, delay_s: float, do: Callable[[], None]) -> None:
        """Call ``do`` in ``delay_s``."""
        callbacks = self.sim.timeout(delay_s).callbacks
        assert callbacks is not None  # noqa: S101 - it has not come to pass yet
        callbacks.append(lambda _: do())
