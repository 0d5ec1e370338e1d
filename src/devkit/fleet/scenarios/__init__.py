"""The scenarios, in the order in which they run. Each is a function of a nursery; its defaults are the full size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .crowds import deploy, pooler, storm, warm
from .cuts import cuts
from .freezes import freezes, sleep
from .outages import failover, restart
from .rotations import rotation

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.fleet.finding import Finding
    from devkit.fleet.nursery import Nursery

SCENARIOS: dict[str, Callable[[Nursery], Finding]] = {
    "cuts": cuts,
    "freezes": lambda _: freezes(),  # in real environments
    "rotation": rotation,
    "restart": restart,
    "failover": failover,
    "storm": storm,
    "pooler": pooler,
    "deploy": deploy,
    "warm": warm,
    "sleep": sleep,
}
