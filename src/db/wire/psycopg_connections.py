"""psycopg's classes with flights: connections and cursors, sync and async, of ``deferred_begin`` and ``cursors``."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors, pq

from .cursors import FlightCursorState
from .deferred_begin import FlightState
from .riders import Riders

if TYPE_CHECKING:
    from psycopg.abc import PQGen

_WAIT_INTERVAL_S = 0.1  # psycopg's: how often a wait looks for Ctrl-C


class FlightCursor(FlightCursorState, psycopg.Cursor[Any]):
    """``psycopg.Cursor`` whose first statement shares a flight with BEGIN."""

    __slots__ = ()


class FlightServerCursor(FlightCursorState, psycopg.ServerCursor[Any]):
    """``psycopg.ServerCursor``; it is declared behind an opening flight."""

    __slots__ = ()


class AsyncFlightCursor(FlightCursorState, psycopg.AsyncCursor[Any]):
    """``psycopg.AsyncCursor`` whose first statement shares a flight with BEGIN."""

    __slots__ = ()


class AsyncFlightServerCursor(FlightCursorState, psycopg.AsyncServerCursor[Any]):
    """``psycopg.AsyncServerCursor``; it is declared behind an opening flight."""

    __slots__ = ()


class FlightConnection(FlightState, psycopg.Connection[Any]):
    """``psycopg.Connection`` whose transactions open in one flight."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.riders = Riders()
        self.cursor_factory = FlightCursor
        self.server_cursor_factory = FlightServerCursor

    def commit(self) -> None:
        """psycopg's, which would wait for nothing where there is nothing to end, as most often on return to a pool."""
        if self._is_idle():
            self.riders.clear()
        else:
            super().commit()

    def rollback(self) -> None:
        """Likewise."""
        if self._is_idle():
            self.riders.clear()
        else:
            super().rollback()

    def wait(self, gen: PQGen[Any], interval: float = _WAIT_INTERVAL_S, timeout: float | None = None) -> Any:
        """psycopg's, bounded by ``patience_s``."""
        if timeout is not None or self.patience_s is None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.patience_s())
        except errors._WaitTimeout:
            raise self._gave_up() from None


class AsyncFlightConnection(FlightState, psycopg.AsyncConnection[Any]):
    """``psycopg.AsyncConnection`` whose transactions open in one flight."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.riders = Riders()
        self.cursor_factory = AsyncFlightCursor
        self.server_cursor_factory = AsyncFlightServerCursor

    async def commit(self) -> None:
        """psycopg's, which would wait for nothing where there is nothing to end, as most often on return to a pool."""
        if self._is_idle():
            self.riders.clear()
        else:
            await super().commit()

    async def rollback(self) -> None:
        """Likewise."""
        if self._is_idle():
            self.riders.clear()
        else:
            await super().rollback()

    def hang_up(self) -> None:
        """Close at once, on whatever loop or on none: psycopg's ``close()`` waits for nothing either."""
        if self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
            # A task may wait for the socket. It is to find its end there, and not another one's under its number.
            with socket.socket(fileno=os.dup(self.pgconn.socket)) as line:
                line.shutdown(socket.SHUT_RDWR)
        else:
            self._closed = True
            self.pgconn.finish()

    async def wait(self, gen: PQGen[Any], interval: float = _WAIT_INTERVAL_S, timeout: float | None = None) -> Any:
        """psycopg's, bounded by ``patience_s``."""
        if timeout is not None or self.patience_s is None:
            return await super().wait(gen, interval, timeout)
        try:
            return await super().wait(gen, interval, self.patience_s())
        except errors._WaitTimeout:
            raise self._gave_up() from None
