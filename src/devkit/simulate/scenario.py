"""What is to be simulated, as values: a function, who calls it, its database, and what happens meanwhile.

Times are in seconds. What a layer does is no part of this: it follows from ``settings``, which are ``db``'s own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import make_url

from db.settings import Settings
from devkit.plan.limits import ACCOUNT, SUPERUSERS

if TYPE_CHECKING:
    from collections.abc import Sequence

# Nothing of it is opened: it only makes settings whole.
_SOMEWHERE = make_url("postgresql://app@db.example.com/app?sslmode=disable")


def settings(**values: Any) -> Settings:
    """Settings of ``db`` with their defaults, but for ``values``."""
    return Settings(url=_SOMEWHERE, **values)


@dataclass(frozen=True, kw_only=True)
class Handler:
    """What one invocation does: ``before_s``, a unit of work, ``after_s``.

    The unit takes ``cpu_s`` of the server, ``trips`` to it and back, and ``waits_s`` in which the connection is held
    and no CPU is used, as for a disk, a lock or ``pg_sleep``. With ``varies``, each is a mean of an exponential
    distribution, and else the same every time.
    """

    before_s: float = 0.0
    cpu_s: float = 0.001
    waits_s: float = 0.0
    trips: int = 2
    after_s: float = 0.0
    varies: bool = False


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function and what Lambda allows it.

    ``cold_s`` is what the first invocation of an environment takes longer. ``reserved`` is its reserved concurrency,
    ``account`` what all are limited by without. Lambda ends an environment that was idle for ``keep_s``; it documents
    no number, and minutes to an hour were seen. Of idle environments, the one that worked last is taken first.
    """

    handler: Handler = field(default_factory=Handler)
    timeout_s: float = 10.0
    cold_s: float = 1.0
    reserved: int | None = None
    account: int = ACCOUNT
    keep_s: float = 600.0

    @property
    def concurrency(self) -> int:
        """The most invocations at a time."""
        return self.account if self.reserved is None else min(self.reserved, self.account)


@dataclass(frozen=True, kw_only=True)
class Server:
    """A PostgreSQL server. Its CPU is a queue: ``cores`` take work in the order of its coming, and give none back.

    A connect costs ``connect_cpu_s`` of it, and one that is refused for want of room ``refuse_cpu_s``; either takes
    ``connect_trips`` of ``trip_s``. ``idle_session_s`` is idle_session_timeout.
    """

    max_connections: int = 100
    reserved: int = SUPERUSERS
    cores: int = 2
    connect_cpu_s: float = 0.008
    refuse_cpu_s: float = 0.002
    trip_s: float = 0.001
    connect_trips: int = 6
    idle_session_s: float = math.inf


@dataclass(frozen=True, kw_only=True)
class Pooler:
    """A pooler before the server, in transaction mode: it lends ``size`` server connections for a unit each.

    Whoever has waited for one for ``borrow_s`` is refused. It takes ``max_clients``, and ends one that idles for
    ``idle_client_s``. Its own CPU is not modelled.
    """

    size: int
    borrow_s: float = 120.0
    max_clients: int = 10_000
    idle_client_s: float = math.inf


Kind = Literal["sync", "async"]


@dataclass(frozen=True, kw_only=True)
class Steady:
    """Requests at random, ``per_s`` on average, from ``from_s`` until ``until_s``.

    A ``sync`` one that is throttled is refused. An ``async`` one is tried again as Lambda does: where it is throttled
    after about 1 s, doubled up to 300 s; where it failed after 60 s and 120 s.
    """

    per_s: float
    from_s: float = 0.0
    until_s: float = math.inf
    kind: Kind = "sync"


@dataclass(frozen=True, kw_only=True)
class Burst:
    """``count`` requests within ``over_s``, evenly."""

    at_s: float
    count: int
    over_s: float = 0.0
    kind: Kind = "sync"


@dataclass(frozen=True, kw_only=True)
class Messages:
    """An SQS queue: ``count`` messages at ``at_s`` and ``per_s`` at random, one an invocation.

    At most ``concurrency`` at a time (MaximumConcurrency). One that failed comes back after ``visibility_s``, and goes
    to the dead-letter queue after ``receives``.
    """

    concurrency: int
    per_s: float = 0.0
    at_s: float = 0.0
    count: int = 0
    visibility_s: float = 60.0
    receives: int = 5


@dataclass(frozen=True, kw_only=True)
class Callers:
    """``count`` callers, each with a warm environment of its own, which it invokes ``invocations`` times.

    In between it pauses for ``pause_s`` (from, to, at random). They begin within ``over_s``, evenly. ``connected`` are
    those whose environments have connections already.
    """

    count: int
    invocations: int
    pause_s: tuple[float, float] = (0.0, 0.0)
    at_s: float = 0.0
    over_s: float = 0.0
    connected: bool = False


Load = Steady | Burst | Messages | Callers


@dataclass(frozen=True, kw_only=True)
class Deploy:
    """A new version takes over at ``at_s``; the old one's environments stay, frozen, for ``linger_s``."""

    at_s: float
    linger_s: float = 300.0


@dataclass(frozen=True, kw_only=True)
class Failover:
    """The server goes at ``at_s``, with every connection, and takes new ones ``away_s`` later."""

    at_s: float
    away_s: float = 10.0


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """The password is another one from ``at_s`` on; AWSCURRENT is the new one ``window_s`` later."""

    at_s: float
    window_s: float = 2.0


@dataclass(frozen=True, kw_only=True)
class SlowQueries:
    """From ``at_s`` on, for ``for_s``, statements wait ``factor`` times as long."""

    at_s: float
    for_s: float
    factor: float


Happening = Deploy | Failover | Rotation | SlowQueries


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One simulation. ``every_s`` is how often what is held is noted for a plot."""

    name: str
    title: str
    duration_s: float
    load: Sequence[Load]
    function: Function = field(default_factory=Function)
    server: Server = field(default_factory=Server)
    pooler: Pooler | None = None
    happenings: Sequence[Happening] = ()
    settings: Settings = field(default_factory=settings)
    every_s: float = 1.0
