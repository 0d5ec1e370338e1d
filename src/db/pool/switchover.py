"""How long a connection serves that may lead to the old side of a switchover.

Where a database is replaced behind its name (a blue/green deployment, a failover), its connections are cut first, and
the name leads to the new server some seconds later. Who connects in between is let in by the old one, which is up and
read-only: it would answer reads for as long as the connection is kept.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Dialect
    from sqlalchemy.engine.interfaces import DBAPIConnection

    from db.telemetry.connection_events import Connect, OnWait
    from db.wire.first_flight import Refused

# RDS gives its names 5 s to live; resolvers on the way, and proxies, add some. Well above that; and not longer, since
# what was read meanwhile may be that old. It costs a connect at its end, where somebody is still at work by then.
SUSPECT_S = 30.0
# How often in a row a server is doubted that is read-only by its settings alone, each time for twice as long: 30 s to
# 240 s. By then no name is late any more, and it is the role, or the server, that is meant to be so.
_DOUBTS = 4
# The longest that a connection is told to serve.
LONGEST_S = SUSPECT_S * 2 ** (_DOUBTS - 1)
# What a server that takes no writes says of itself at connect, from PostgreSQL 14 on, at no trip: a standby the one,
# and what is read-only by a setting, of its own or of the role, the other.
_IS_STANDBY = "in_hot_standby"
_IS_READ_ONLY = "default_transaction_read_only"


class Switchover:
    """Signs of one. What is opened within ``SUSPECT_S`` of the last sign serves until that is over."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._suspected_until = -math.inf
        self._doubts = 0
        self._doubted_until = -math.inf

    def suspect(self) -> None:
        """A sign: a connection was lost, or a writer refused to write."""
        self._suspected_until = self._clock() + SUSPECT_S
        self._begin_anew()

    def bound(self, connection: Any, *, writes: bool) -> None:
        """Bound how long ``connection`` serves, just opened, if it may lead to the wrong server.

        ``writes`` says that it is for a server which does.
        """
        now = self._clock()
        if now < self._suspected_until <= now + SUSPECT_S:  # a clock that is set back makes no hours of it
            serve_until(connection, self._suspected_until)
        if not writes:
            return
        if _says(connection, _IS_STANDBY):
            serve_until(connection, now + SUSPECT_S)
        elif _says(connection, _IS_READ_ONLY):
            serve_until(connection, self._doubt(now))
        else:
            self._begin_anew()

    def _doubt(self, now: float) -> float:
        """Until when a connection serves whose sessions are read-only: for ever, once that has been so for long."""
        if not now < self._doubted_until <= now + LONGEST_S:
            if self._doubts == _DOUBTS:
                return math.inf
            self._doubted_until = now + SUSPECT_S * 2**self._doubts
            self._doubts += 1
        return self._doubted_until

    def _begin_anew(self) -> None:
        """What is said from now on is news."""
        self._doubts, self._doubted_until = 0, -math.inf


class WaryConnector:
    """Opens connections by ``connect``, and bounds what may lead to the wrong server."""

    def __init__(self, connect: Connect, switchover: Switchover, *, writes: bool) -> None:
        self._connect = connect
        self._switchover = switchover
        self._writes = writes

    def __call__(
        self,
        dialect: Dialect,
        cargs: Sequence[Any],
        cparams: dict[str, Any],
        on_wait: OnWait,
        refused: Refused | None = None,
    ) -> DBAPIConnection:
        """A new connection. Raises as ``connect`` does."""
        connection = self._connect(dialect, cargs, cparams, on_wait, refused)
        self._switchover.bound(connection, writes=self._writes)
        return connection


def serve_until(connection: Any, until: float) -> None:
    """Have a pool replace ``connection`` from the wall-clock second ``until`` on, or earlier where it was told so."""
    driver = getattr(connection, "driver_connection", connection)
    driver.serves_until = min(until, serves_until(driver))


def serves_until(driver: Any) -> float:
    """The wall-clock second from which a pool replaces the driver's connection ``driver``."""
    return getattr(driver, "serves_until", math.inf)


def _says(connection: Any, name: str) -> bool:
    """Whether the server says ``name`` of itself; an older one says nothing."""
    driver = getattr(connection, "driver_connection", connection)
    if (said := getattr(driver, "takes_no_writes", None)) is not None:  # another engine's, which has asked
        return bool(said)
    if hasattr(driver, "get_settings"):  # asyncpg's
        return getattr(driver.get_settings(), name, "off") == "on"
    return bool(driver.info.parameter_status(name) == "on")
