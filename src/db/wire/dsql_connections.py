"""A connection to Aurora DSQL: psycopg's with flights, less all that is said to a session by SET.

DSQL takes no parameter that limits a statement, or that makes what follows it read-only. So a unit of work has no
prologue: BEGIN says what it can, and time limits are kept here, by closing the connection.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

from psycopg import errors
from psycopg.rows import Row

from db.errors import DeadlineError

from .psycopg_connections import AsyncFlightConnection, FlightConnection
from .transaction_end import FlightState

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from .commit_outcome import Unit
    from .riders import Command
    from .serving import Prologue

    ConnectionMixin = FlightState
else:
    # Mixed into the sync class and its async twin, which is why it stands on neither here.
    ConnectionMixin = object


class UntoldState(ConnectionMixin):
    """What both classes have in common: nothing is said, and the wait for an answer is the limit of a statement."""

    def serve(
        self,
        prologue: Prologue,
        patience_s: Callable[[], float | None],
        unit: Unit,
        *,
        isolation: str | None,
        read_only: bool,
        pooled: bool,
    ) -> None:
        """Work for ``unit`` until ``leave()``, with the limits that the prologue would have said."""
        bounded = functools.partial(_shorter, prologue, patience_s)
        super().serve(prologue, bounded, unit, isolation=isolation, read_only=read_only, pooled=pooled)

    # Nothing but BEGIN makes a transaction read-only, so that there are no reads without one.

    @property
    def single_reads(self) -> bool:
        return False

    @single_reads.setter
    def single_reads(self, asked: bool) -> None:
        pass

    def _said_by(self, prologue: Prologue, *, alone: bool) -> list[Command]:  # noqa: ARG002 - the class's below
        return []

    def _gave_up(self) -> psycopg.OperationalError:
        self.pgconn.finish()
        return errors.QueryCanceled(
            "no answer from the server within the time limit of the statement: connection closed"
        )

    # What migrations ask for, who have no unit of work.

    def hold(self, statement_s: float, _lock_s: float) -> None:
        """Let no statement take longer than this, until ``let_go()``: nobody waits for a lock."""
        self.patience_s = None if statement_s == math.inf else lambda: statement_s

    def let_go(self) -> None:
        """There is no limit any more."""
        self.patience_s = None


def _shorter(prologue: Prologue, patience_s: Callable[[], float | None]) -> float | None:
    """The limit of a statement, or what is left for a peer that has gone silent where the statement's time is over."""
    left_s = patience_s()
    try:
        limit_s = prologue.limits_now().statement_s
    except DeadlineError:
        return left_s
    return limit_s if left_s is None else min(limit_s, left_s)


class DsqlConnection(UntoldState, FlightConnection[Row]):
    """``FlightConnection`` to a cluster."""


class AsyncDsqlConnection(UntoldState, AsyncFlightConnection[Row]):
    """``AsyncFlightConnection`` to a cluster."""
