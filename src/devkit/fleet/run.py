"""One run: fleets side by side on one site, watched from the first invocation on."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .environment import Function
from .finding import Curve
from .fleet import Fleet
from .held_connections import Held
from .ledger import Outcome, audited
from .site import written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from devkit.servers.ports import Endpoint

    from .fork_server import ForkServer
    from .site import Place


def function(
    name: str,
    site: Place,
    endpoint: Endpoint,
    *,
    timeout_s: int,
    variables: Mapping[str, str] | None = None,
    module: str | None = None,
) -> Function:
    """The function ``name``, entering ``site`` through ``endpoint`` unless ``variables`` say otherwise.

    ``name`` is its login, and that of its module unless ``module`` is.
    """
    environment = dict(variables or {})
    if "DB_SECRET_ID" not in environment:
        environment |= site.variables(name, endpoint)
    return Function(name, f"devkit.fleet.functions.{module or name}.handler", environment, timeout_s)


@dataclass(frozen=True)
class Run:
    """The fleets by their label in the table, and the watch on the server."""

    fleets: Mapping[str, Fleet]
    held: Held
    server: Callable[[], Any]

    def begin_anew(self) -> None:
        """Forget what there was so far."""
        began_at = self.held.begin_anew()
        for fleet in self.fleets.values():
            fleet.begin_to_count(began_at)

    def outcomes(self, *, held_since_s: float = 0.0) -> dict[str, Outcome]:
        """What came of it, held against the table. To be called when the load is over."""
        rows = written(self.server())
        return {
            label: audited(fleet.entries, rows, held_max=self.held.most(fleet.function.name, since_s=held_since_s))
            for label, fleet in self.fleets.items()
        }

    def curves(self) -> dict[str, Curve]:
        """What came of it over time."""
        return {
            label: Curve(
                held=[(at_s, held.get(fleet.function.name, 0)) for at_s, held in self.held.samples],
                answers=[(entry.at_s, entry.failed) for entry in fleet.entries],
            )
            for label, fleet in self.fleets.items()
        }


@contextlib.contextmanager
def run(
    fleets: Mapping[str, tuple[Function, str]],
    *,
    size: int,
    server: Callable[[], Any],
    fork_server: ForkServer | None,
    connected: bool = False,
    watch: type[Held] = Held,
) -> Iterator[Run]:
    """``size`` environments for each label's function and its kind of work, loaded, and ``connected`` if so asked.

    ``watch`` is who counts the connections on such a server.
    """
    with contextlib.ExitStack() as parts:
        made = {
            label: parts.enter_context(Fleet(function, size=size, fork_server=fork_server, work=work))
            for label, (function, work) in fleets.items()
        }
        for fleet in made.values():
            fleet.warm_up(connected=connected)
        held = parts.enter_context(watch(server))
        running = Run(made, held, server)
        running.begin_anew()
        yield running
