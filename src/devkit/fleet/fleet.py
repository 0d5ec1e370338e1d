"""N environments of one function, what they were asked, and the load on them."""

from __future__ import annotations

import contextlib
import random
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

from .environment import RealEnvironment
from .fork_server import LightEnvironment
from .ledger import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Self

    from .environment import Answer, Environment, Function
    from .fork_server import ForkServer

GATHER_S = 30.0  # for the callers of one moment to be there


class Fleet:
    """``size`` environments of ``function``, for the length of a ``with`` block: real ones without a ``fork_server``.

    Every invocation asks for ``work`` and is entered, with the id that it was to write.
    """

    def __init__(
        self, function: Function, *, size: int, fork_server: ForkServer | None = None, work: str = "run"
    ) -> None:
        self.function = function
        self.entries: list[Entry] = []
        self.answered: Counter[Environment] = Counter()  # invocations, of each environment
        self._size = size
        self._fork_server = fork_server
        self._work = work
        self._began_at = time.monotonic()

    def __enter__(self) -> Self:
        self.environments: list[Environment] = []
        try:
            for _ in range(self._size):
                self.environments.append(self._made())
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End every environment."""
        with ThreadPoolExecutor(max(len(self.environments), 1)) as ending:
            list(ending.map(lambda environment: environment.end(), self.environments))

    def begin_to_count(self, began_at: float) -> None:
        """Forget what was entered, and count time from ``began_at`` (monotonic)."""
        self.entries, self._began_at = [], began_at

    def invoke(self, environment: Environment, *, work: str | None = None, **event: Any) -> Answer:
        """One invocation with an id of its own; its entry."""
        name = str(uuid.uuid4())
        started = time.monotonic()
        answer = environment.invoke({"id": name, "work": work or self._work, **event})
        ended = time.monotonic()
        self.entries.append(Entry(name, ended - self._began_at, ended - started, answer))
        self.answered[environment] += 1
        return answer

    def invoke_all(self, environments: Sequence[Environment] | None = None) -> None:
        """One invocation of each environment, or of each of these, all at once."""
        asked = self.environments if environments is None else environments
        gate = threading.Barrier(len(asked))

        def ask(environment: Environment) -> None:
            gate.wait(GATHER_S)
            self.invoke(environment)

        with ThreadPoolExecutor(len(asked)) as callers:
            list(callers.map(ask, asked))

    def warm_up(self, *, connected: bool) -> None:
        """Let every environment load its function, and with ``connected`` do its first work. None of it is entered."""
        work = self._work if connected else "nothing"
        with ThreadPoolExecutor(len(self.environments)) as callers:
            list(callers.map(lambda one: one.invoke({"id": str(uuid.uuid4()), "work": work}), self.environments))

    def _made(self) -> Environment:
        if self._fork_server is None:
            return RealEnvironment(self.function)
        return LightEnvironment(self.function, self._fork_server)


class Pause:
    """What a caller does between two invocations of an environment. ``over`` ends it early."""

    def __init__(self, *, seed: int, over: threading.Event) -> None:
        self.draw = random.Random(seed)  # noqa: S311 - a scenario, drawn alike each time
        self._over = over

    def wait(self, seconds: float) -> None:
        self._over.wait(seconds)


@contextlib.contextmanager
def under_load(
    fleets: Sequence[Fleet],
    between: Callable[[Environment, Pause], None],
    *,
    invocations: int | None = None,
    active: int | None = None,
) -> Iterator[None]:
    """Invoke every environment again and again in the block, and call ``between`` after each time.

    ``invocations`` is how often each is invoked, and the block's end waits for that; without, it is the end. ``active``
    is the number of environments of each fleet that are invoked, by default all.
    """
    over = threading.Event()

    def drive(fleet: Fleet, environment: Environment, seed: int) -> None:
        pause = Pause(seed=seed, over=over)
        done = 0
        while not over.is_set() and done != invocations:
            fleet.invoke(environment)
            between(environment, pause)
            done += 1

    driven = [(fleet, environment) for fleet in fleets for environment in fleet.environments[:active]]
    with ThreadPoolExecutor(len(driven)) as drivers:
        running = [drivers.submit(drive, *pair, seed) for seed, pair in enumerate(driven)]
        try:
            yield
            if invocations is not None:
                wait(running)
        except BaseException:
            over.set()
            for fleet in fleets:  # so that nobody waits for an answer any more
                fleet.end()
            raise
        over.set()
    for one in running:
        one.result()
