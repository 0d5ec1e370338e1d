"""One run of a scenario: the parts, put together, and what happens to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .load import begin
from .measures import Sample
from .platform import Platform
from .scenario import Deploy, Failover, Rotation, SlowQueries
from .world import World

if TYPE_CHECKING:
    from .measures import Outcome
    from .scenario import Happening, Scenario
    from .server import Steps


def simulate(scenario: Scenario, *, seed: int = 1) -> Outcome:
    """What ``scenario`` comes to. The same seed gives the same."""
    world = World(scenario, seed)
    platform = Platform(world, scenario.function)
    for load in scenario.load:
        begin(world, platform, load)
    for happening in scenario.happenings:
        world.sim.process(_happens(world, platform, happening))
    world.sim.process(platform.reap())
    world.sim.process(_watch(world, platform, scenario.every_s))
    world.sim.run(until=scenario.duration_s)
    return world.measures.outcome(
        scenario.name, seed=seed, now=world.sim.now, cpu_busy=world.server.cpu.busy(world.sim.now)
    )


def _watch(world: World, platform: Platform, every_s: float) -> Steps:
    measures = world.measures
    while True:
        world.server.settle()
        measures.samples.append(
            Sample(
                world.sim.now,
                platform.environments,
                platform.at_work,
                world.server.held,
                measures.counts["failed"],
            )
        )
        yield world.sim.timeout(every_s)


def _happens(world: World, platform: Platform, happening: Happening) -> Steps:
    yield world.sim.timeout(happening.at_s)
    match happening:
        case Deploy():
            platform.deploy(happening.linger_s)
        case Failover():
            world.server.fail_over(happening.away_s)
        case Rotation():
            world.secret.staged += 1
            world.server.password += 1
            yield world.sim.timeout(happening.window_s)
            world.secret.current = world.secret.staged
        case SlowQueries():
            world.server.slowness = happening.factor
            yield world.sim.timeout(happening.for_s)
            world.server.slowness = 1.0
