"""What functions and services hold at most, added up against what a server takes: numbers in, numbers out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

Route = Literal["server", "rds-proxy", "pgbouncer"]
ROUTES = ("server", "rds-proxy", "pgbouncer")


@dataclass(frozen=True, kw_only=True)
class Use:
    """One function that uses the database.

    ``environments`` may be at work at once; None where only what the account has bounds them, for all such functions
    together. For each that may be at work there are ``kept_for_one``, with those that wait for their tenant. One of
    ``processes`` in an environment keeps ``kept`` connections from one event to the next, and has ``passing`` more
    while it works. With ``reader`` it has as many to the reader. ``why`` and ``each`` say where the numbers are from.
    """

    name: str
    environments: int | None
    why: str
    kept: int = 1
    passing: int = 0
    each: str = ""
    kept_for_one: float = 1.0
    processes: int = 1
    reader: bool = False
    route: Route = "server"
    evidence: str = ""
    ours: bool = False
    asynchronous: int = 0

    def at_work(self, environments: int) -> int:
        """The connections of the version that runs, those of environments that only wait among them."""
        waiting = self._there(environments) - environments
        return self.processes * (environments * (self.kept + self.passing) + waiting * self.kept)

    def left(self, environments: int) -> int:
        """The connections that the version before still holds in the middle of a deploy: what it had kept."""
        return self.processes * self._there(environments) * self.kept

    def _there(self, environments: int) -> int:
        return math.ceil(environments * self.kept_for_one)


@dataclass(frozen=True)
class Line:
    """What some of the demand comes to: at work, and what a deploy adds to it for a while."""

    name: str
    at_work: int
    deploy: int = 0

    @property
    def most(self) -> int:
        """In the middle of a deploy."""
        return self.at_work + self.deploy


@dataclass(frozen=True, kw_only=True)
class Server:
    """What takes connections: ``most`` of them, ``reserved`` of those for superusers.

    ``people`` are to stay free. ``what`` names it in a sentence, ``source`` says where the number is from, and
    ``remedy`` how to have as many as are given to it; None where nobody can.
    """

    what: str
    most: int
    source: str
    reserved: int = 0
    people: int = 0
    remedy: Callable[[int], str] | None = None

    @property
    def usable(self) -> int:
        """What an application may have of it."""
        return self.most - self.reserved

    def least(self, demand: int) -> int:
        """How many it would have to take for ``demand`` to fit."""
        return demand + self.people + self.reserved


@dataclass(frozen=True)
class Side:
    """A server, and all that connects to it."""

    server: Server
    lines: tuple[Line, ...]

    @property
    def at_work(self) -> int:
        """The connections without a deploy."""
        return sum(line.at_work for line in self.lines)

    @property
    def most(self) -> int:
        """The connections in the middle of a deploy."""
        return sum(line.most for line in self.lines)

    @property
    def least(self) -> int:
        """The smallest number of connections of the server with which it fits."""
        return self.server.least(self.most)

    @property
    def fits(self) -> bool:
        """Also in the middle of a deploy, and with those for people."""
        return self.least <= self.server.most


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that is known: uses, services beside them, servers, poolers, and what the account leaves.

    ``unreserved`` is how many environments the account has for the functions that reserve none. ``reader`` is None
    where nothing says that the reader is a server of its own: then what goes there counts as the writer's.
    ``percent`` is what an RDS Proxy may have of the writer's connections; ``pool`` are those of a PgBouncer, and
    ``clients`` is what it lets in.
    """

    uses: tuple[Use, ...]
    writer: Server
    unreserved: int
    beside: tuple[Line, ...] = ()
    reader: Server | None = None
    percent: int | None = None
    pool: int | None = None
    clients: Server | None = None

    @property
    def sides(self) -> tuple[Side, ...]:
        """Each server with its sum."""
        lines = [*self._lines("server"), *self.beside]
        for name, route, most in (("RDS Proxy", "rds-proxy", self.of_proxy), ("PgBouncer", "pgbouncer", self.pool)):
            if clients := self._lines(route):
                lines.append(_pooled(name, clients, most))
        readers = self._lines(*ROUTES, readers=True)
        if self.reader is None:
            lines += [replace(line, name=f"{line.name}, to the reader") for line in readers]
        sides = [Side(self.writer, tuple(lines))]
        if self.reader is not None and readers:
            sides.append(Side(self.reader, tuple(readers)))
        if self.clients is not None and (clients := self._lines("pgbouncer")):
            sides.append(Side(self.clients, tuple(clients)))
        return tuple(sides)

    @property
    def of_proxy(self) -> int | None:
        """The most that an RDS Proxy opens."""
        return None if self.percent is None else self.writer.most * self.percent // 100

    @property
    def fits(self) -> bool:
        """Whether every server takes what may come."""
        return all(side.fits for side in self.sides)

    def environments(self, use: Use) -> int:
        """How many of ``use`` may be at work; of those that share, all of them."""
        return self.unreserved if use.environments is None else use.environments

    def _lines(self, *routes: str, readers: bool = False) -> list[Line]:
        uses = [use for use in self.uses if use.route in routes and (use.reader or not readers)]
        lines = [
            Line(use.name, use.at_work(use.environments), use.left(use.environments))
            for use in uses
            if use.environments is not None
        ]
        if sharing := [use for use in uses if use.environments is None]:
            # Each of them might have all that the account leaves, so the greediest is what it can come to.
            at_work = max(use.at_work(self.unreserved) for use in sharing)
            deploy = max(use.left(self.unreserved) for use in sharing)
            lines.append(Line(", ".join(use.name for use in sharing), at_work, deploy))
        return lines


def _pooled(name: str, clients: list[Line], most: int | None) -> Line:
    """A pooler opens no more than it may, and no more than it has clients."""
    at_work, deploy = sum(line.at_work for line in clients), sum(line.most for line in clients)
    if most is None:
        return Line(name, at_work, deploy - at_work)
    return Line(name, min(at_work, most), min(deploy, most) - min(at_work, most))
