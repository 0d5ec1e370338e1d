"""The scenarios, in the order in which they run. Each is a function of a fork server, in full size by default.

``alarms`` has exceptions out of signal handlers, ``crowds`` too many at once, ``cuts`` a network that breaks at each
flight, ``freezes`` what sleeps, ``kills`` backends that are terminated, ``outages`` a server that goes away, ``pauses``
one that sleeps while nobody is there, ``rotations`` passwords that change, ``switchovers`` a server in the place of one
that is up, ``fuzz`` events that nobody would send. ``by_door`` has some of them once more,
through proxies and with either driver; ``mariadb`` on MariaDB, which takes the extra of that name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .alarms import alarms
from .by_door import kills_by_door, restart_by_door, rotation_by_door, storm_by_door
from .crowds import deploy, pooler, storm, warm
from .cuts import cuts
from .freezes import freezes, sleep
from .kills import kills
from .outages import failover, restart
from .pauses import resume
from .rotations import rotation
from .switchovers import blue_green, reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.fleet.finding import Finding
    from devkit.fleet.fork_server import ForkServer


def _on_mariadb(name: str) -> Callable[[ForkServer | None], Finding]:
    def scenario(fork_server: ForkServer | None) -> Finding:
        from . import mariadb  # which is refused where the extra is missing

        found: Finding = getattr(mariadb, f"mariadb_{name}")(fork_server)
        return found

    return scenario


SCENARIOS: dict[str, Callable[[ForkServer], Finding]] = {
    "cuts": cuts,
    "freezes": lambda _: freezes(),  # in real environments
    "rotation": rotation,
    "restart": restart,
    "failover": failover,
    "resume": resume,
    "blue-green": blue_green,
    "reader": reader,
    "storm": storm,
    "pooler": pooler,
    "deploy": deploy,
    "warm": warm,
    "sleep": sleep,
    "alarms": alarms,
    "kills": kills,
    "rotation-by-door": rotation_by_door,
    "restart-by-door": restart_by_door,
    "storm-by-door": storm_by_door,
    "kills-by-door": kills_by_door,
    "mariadb-freezes": lambda _: _on_mariadb("freezes")(None),  # in real environments, too
    "mariadb-rotation": _on_mariadb("rotation"),
    "mariadb-restart": _on_mariadb("restart"),
}
