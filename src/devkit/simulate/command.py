"""``python -m devkit simulate``: scenarios by name, the validation, or the questions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .options import ENVIRONMENTS, REAL_ENVIRONMENTS
from .run import simulate
from .scenarios import SCENARIOS

if TYPE_CHECKING:
    import argparse

    from .measures import Outcome

LONG = "hour"  # half a minute with 10,000 environments, so it is asked for by name


def run(given: argparse.Namespace) -> int:
    """0 where it was done; with ``--validate``, 1 where a ratio missed its range. Raises KeyError for no scenario."""
    if given.validate:
        from . import validate

        return validate.run(given.environments or REAL_ENVIRONMENTS, seed=given.seed, results=given.results)
    if given.questions:
        from . import questions

        return questions.run(seed=given.seed, results=given.results)
    names = given.scenario or [name for name in SCENARIOS if name != LONG]
    outcomes = []
    for name in names:
        scenario = SCENARIOS[name](given.environments or ENVIRONMENTS)
        outcomes.append(simulate(scenario, seed=given.seed))
        if not given.json:
            print(f"{name}: {scenario.title}\n{shown(outcomes[-1])}\n", flush=True)
    if given.json:
        print(json.dumps([outcome.as_dict() for outcome in outcomes], indent=1))
    return 0


def shown(outcome: Outcome) -> str:
    """For a terminal."""
    errors = "".join(f", {count:,} times {name}" for name, count in outcome.errors.items())
    lines = [
        [
            f"{outcome.requests:,} requests: {outcome.answered:,} answered, {outcome.failed:,} failed{errors}",
            f"{outcome.throttled:,} throttled, {outcome.dead:,} to the dead-letter queue",
        ],
        [
            f"answered in {_ms(outcome.answer_p50_s)} (p50), {_ms(outcome.answer_p99_s)} (p99)",
            f"{_ms(outcome.answer_max_s)} at most; waited for a connection {_ms(outcome.wait_p99_s)} (p99)",
        ],
        [
            f"{outcome.environments_max:,} environments, {outcome.cold:,} cold starts",
            f"{outcome.held_max:,} connections at most, {outcome.held_mean:,.1f} on average",
        ],
        [
            f"{outcome.connects:,} connects, {outcome.refused:,} refused for want of room, {outcome.waited:,} waits",
            f"{outcome.retried:,} units again; the server's cores at work for {outcome.cpu_busy:.0%} of the time",
        ],
    ]
    return "\n".join("  " + "; ".join(line) for line in lines)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"
