"""The fleet of real processes and the simulation, side by side, small."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devkit.simulate.validate import cases, compared, measured, shown, simulated

if TYPE_CHECKING:
    from devkit.fleet.fork_server import ForkServer

pytestmark = pytest.mark.slow

# What is counted and what is timed by declared times alone; the range is that of few environments on a busy machine.
LEAST, MOST = 0.75, 1.33


@pytest.mark.parametrize("name", ["warm", "crowd"])
def test_the_simulation_comes_to_what_the_fleet_comes_to(fork_server: ForkServer, name: str) -> None:
    """Connections held, and those that wait for one; the whole comparison is `simulate --validate`."""
    (case,) = (one for one in cases(10) if one.name == name)
    real, costs = measured(case, fork_server)
    told = compared(case, costs, real, simulated(case, costs, seed=1))
    assert real.held_max == told["simulated"]["held_max"], shown(told)
    for what in ("held_mean", "waits"):
        ratio = told["ratios"][what]
        assert ratio is None or LEAST < ratio < MOST, shown(told)
    assert (real.waits > 0) is (name == "crowd")
