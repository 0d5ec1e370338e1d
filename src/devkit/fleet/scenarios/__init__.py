"""The scenarios, in the order in which they run. Each is a function of a fork server, in full size by default.

``alarms`` has exceptions out of signal handlers, ``crowds`` too many at once, ``cuts`` a network that breaks at each
flight, ``freezes`` what sleeps, ``kills`` backends that are terminated, ``outages`` a server that goes away,
``rotations`` passwords that change, ``fuzz`` events that nobody would send.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .alarms import alarms
from .crowds import deploy, pooler, storm, warm
from .cuts import cuts
from .freezes import freezes, sleep
from .kills import kills
from .outages import failover, restart
from .rotations import rotation

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.fleet.finding import Finding
    from devkit.fleet.fork_server import ForkServer

SCENARIOS: dict[str, Callable[[ForkServer], Finding]] = {
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
    "alarms": alarms,
    "kills": kills,
}
