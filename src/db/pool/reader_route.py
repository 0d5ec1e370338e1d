"""Where a reader's connections go: to the reader, or for a while to the writer in its stead.

A reader that cannot be reached, or that lags too far behind, is left alone for ``AWAY_S``: its connections are opened
at the writer meanwhile, where the same reads are just as read-only, and closed when it is given another chance.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from db.errors import CapacityError, Verdict, verdict
from db.telemetry.log import warn_of_reader

from .replica_lag import ASK, ASK_AURORA, IS_AURORA
from .switchover import serve_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Dialect
    from sqlalchemy.engine.interfaces import DBAPIConnection

    from db.wire.first_flight import Refused

    from .connector import Connector, OnWait

# Long enough that a reader which swallows packets costs its connect time-out rarely; short enough to have it back soon.
AWAY_S = 30.0


class ReaderRoute:
    """Whether the reader serves; ``max_lag_s`` is how far behind it may be, None as far as it likes.

    ``database`` names it in the log.
    """

    def __init__(
        self, clock: Callable[[], float], *, max_lag_s: float | None = None, database: str | None = None
    ) -> None:
        self._clock = clock
        self._max_lag_s = max_lag_s
        self._database = database
        self._away_until = -math.inf
        self.lag_question = ASK
        """The column that asks for the lag, behind those of a prologue."""

    @property
    def away_until(self) -> float:
        """The wall-clock second until which the writer stands in for it.

        A clock that was ahead and is set back does not make hours of it.
        """
        now = self._clock()
        return self._away_until if self._away_until <= now + AWAY_S else now

    @property
    def is_away(self) -> bool:
        """Whether the writer stands in for it now."""
        return self._clock() < self.away_until

    def back(self) -> None:
        """Give it another chance now."""
        self._away_until = -math.inf

    @property
    def asks_for_lag(self) -> bool:
        """Whether a read has to ask how far behind the reader is."""
        return self._max_lag_s is not None

    def lost(self, reason: str) -> None:
        """It cannot be used: leave it alone for a while."""
        self._away_until = self._clock() + AWAY_S
        warn_of_reader(reason, away_s=AWAY_S, database=self._database)

    def is_near(self, lag_s: float) -> bool:
        """Whether a reader that is ``lag_s`` behind may answer. It counts as lost where it may not.

        Aurora's may not yet, and is asked again in its own words.
        """
        if lag_s == IS_AURORA:
            self.lag_question = ASK_AURORA
            return False
        if self._max_lag_s is None or lag_s <= self._max_lag_s:
            return True
        self.lost(f"it is {lag_s:.1f} s behind")
        return False


class ReaderConnector:
    """Opens the connections of a reader's engine, at whichever of the two serves. ``reader`` tries once."""

    def __init__(self, reader: Connector, writer: Connector, route: ReaderRoute) -> None:
        self._reader = reader
        self._writer = writer
        self._route = route

    def __call__(
        self,
        dialect: Dialect,
        cargs: Sequence[Any],
        cparams: dict[str, Any],
        on_wait: OnWait | None = None,
        refused: Refused | None = None,
    ) -> DBAPIConnection:
        """A new connection. Raises as ``Connector`` does, for the writer where the reader was out of reach."""
        if not self._route.is_away:
            try:
                return self._reader(dialect, cargs, dict(cparams), on_wait, refused)
            except (dialect.loaded_dbapi.OperationalError, CapacityError) as error:
                if verdict(error) not in {Verdict.RECONNECT, Verdict.WAIT_FOR_CAPACITY}:
                    raise
                self._route.lost(type(error).__name__)
                refused = None  # the reader's, and no word of the writer
        connection = self._writer(dialect, cargs, cparams, on_wait, refused)
        serve_until(connection, self._route.away_until)
        return connection
