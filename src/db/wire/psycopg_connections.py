"""psycopg's classes with flights: connections and cursors, sync and async, of ``transaction_end`` and ``cursors``."""

from __future__ import annotations

import os
import socket
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, cast

import psycopg
from psycopg import errors, pq
from psycopg.rows import Row

from .cursors import FlightCursorState
from .deferred_begin import CANCEL_S
from .server_cursors import FlightServerCursorState
from .transaction_end import FlightState

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

    from psycopg import (
        AsyncCopy,
        AsyncPipeline,
        AsyncTransaction,
        Copy,
        Pipeline,
        Transaction,
    )
    from psycopg.abc import Params, PQGen, Query
    from psycopg.copy import AsyncWriter, Writer

_WAIT_INTERVAL_S = 0.1  # psycopg's: how often a wait looks for Ctrl-C


class FlightInfo(psycopg.ConnectionInfo):
    """``psycopg.ConnectionInfo`` of a connection on which commands may be due."""

    def __init__(self, connection: FlightState) -> None:
        super().__init__(connection.pgconn)
        self._connection = connection

    @property
    def transaction_status(self) -> pq.TransactionStatus:
        """As it would be, had all been sent that is due."""
        return self._connection.transaction_status

    @property
    def error_message(self) -> str:
        """The server's last error, which libpq forgets when a flight has landed."""
        message = super().error_message
        if message or self._connection.last_error is None:
            return message
        return self._connection.last_error.decode(self.encoding, "replace")


class FlightCursor(FlightCursorState, psycopg.Cursor[Row]):
    """``psycopg.Cursor`` whose first statement shares a flight with BEGIN."""

    __slots__ = ()

    @contextmanager
    def copy(self, statement: Query, params: Params | None = None, *, writer: Writer | None = None) -> Iterator[Copy]:
        """psycopg's. What it cannot bring to an end after an exception, is ended with the connection."""
        with self._conn.streaming(), super().copy(statement, params, writer=writer) as copy:
            yield copy

    def stream(
        self, query: Query, params: Params | None = None, *, binary: bool | None = None, size: int = 1
    ) -> Iterator[Any]:
        """Likewise."""
        with self._conn.streaming():
            yield from super().stream(query, params, binary=binary, size=size)


class FlightServerCursor(FlightServerCursorState, psycopg.ServerCursor[Row]):
    """``psycopg.ServerCursor``, which is declared in a flight."""

    __slots__ = ("_ahead", "_has_ended", "_next", "rows_ahead")


class AsyncFlightCursor(FlightCursorState, psycopg.AsyncCursor[Row]):
    """``psycopg.AsyncCursor`` whose first statement shares a flight with BEGIN."""

    __slots__ = ()

    @asynccontextmanager
    async def copy(
        self, statement: Query, params: Params | None = None, *, writer: AsyncWriter | None = None
    ) -> AsyncIterator[AsyncCopy]:
        """psycopg's. What it cannot bring to an end after an exception, is ended with the connection."""
        async with self._conn.streaming(), super().copy(statement, params, writer=writer) as copy:
            yield copy

    async def stream(
        self, query: Query, params: Params | None = None, *, binary: bool | None = None, size: int = 1
    ) -> AsyncIterator[Any]:
        """Likewise."""
        stream = cast("AsyncGenerator[Row]", super().stream(query, params, binary=binary, size=size))
        # Closed here and now: left to the event loop, it would come to a connection that may be closed by then.
        async with self._conn.streaming(), aclosing(stream) as rows:
            async for row in rows:
                yield row


class AsyncFlightServerCursor(FlightServerCursorState, psycopg.AsyncServerCursor[Row]):
    """``psycopg.AsyncServerCursor``, which is declared in a flight."""

    __slots__ = ("_ahead", "_has_ended", "_next", "rows_ahead")


class FlightConnection(FlightState, psycopg.Connection[Row]):
    """``psycopg.Connection`` whose transactions open in one flight."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cursor_factory = FlightCursor
        self.server_cursor_factory = FlightServerCursor

    def commit(self) -> None:
        """psycopg's, which would wait for nothing where there is nothing to end, as most often on return to a pool."""
        if self._is_idle():
            self.drop_due()
            return
        try:
            super().commit()
        except BaseException as error:
            self.commit_interrupted(error)
            raise
        if self.riders.begun:
            self.riders.clear()

    def rollback(self) -> None:
        """Likewise."""
        if self._is_idle():
            self.drop_due()
        else:
            super().rollback()

    @property
    def info(self) -> FlightInfo:
        """psycopg's, which knows what is due."""
        return FlightInfo(self)

    @contextmanager
    def transaction(self, savepoint_name: str | None = None, force_rollback: bool = False) -> Iterator[Transaction]:
        """psycopg's, within the transaction that is due; within a unit of work always."""
        if self.is_waiting() or self.has_unit_to_open():
            with self.lock:
                self.wait(self._send_due())
        with self._in_step(transactions=True), super().transaction(savepoint_name, force_rollback) as transaction:
            yield transaction

    @contextmanager
    def pipeline(self) -> Iterator[Pipeline]:
        """psycopg's, once what was due before it has been sent."""
        if self.is_waiting():
            with self.lock:
                self.wait(self.fly())
        with self._in_step(transactions=False), super().pipeline() as pipeline:
            yield pipeline

    @contextmanager
    def _pipeline_nolock(self) -> Iterator[Pipeline]:
        with self._in_step(transactions=False), super()._pipeline_nolock() as pipeline:
            self._in_executemany = True
            try:
                yield pipeline
            finally:
                self._in_executemany = False

    @contextmanager
    def _in_step(self, *, transactions: bool) -> Iterator[None]:
        """A block of psycopg's own. Where an exception came in the way of its end, that is the connection's."""
        open_before = self.blocks(transactions=transactions)
        try:
            yield
        except BaseException as error:
            if not isinstance(error, psycopg.Error) and self.blocks(transactions=transactions) != open_before:
                self._cancel_and_abandon()
            raise

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """A block whose exceptions psycopg deals with; what still runs at its end is of use to nobody."""
        self._streams = True
        try:
            yield
        except BaseException as error:
            self._streams = False
            if self.is_half_way(error):
                self._cancel_and_abandon()
            raise
        finally:
            self._streams = False

    def wait(self, gen: PQGen[Any], interval: float = _WAIT_INTERVAL_S, timeout: float | None = None) -> Any:
        """psycopg's, bounded by ``patience_s``. An exception amid an answer ends statement and connection."""
        try:
            if timeout is not None or self.patience_s is None:
                return super().wait(gen, interval, timeout)
            try:
                return super().wait(gen, interval, self.patience_s())
            except errors._WaitTimeout:
                raise self._gave_up() from None
        except BaseException as error:
            if self.is_half_way(error):
                self._cancel_and_abandon()
            raise

    def _cancel_and_abandon(self) -> None:
        try:
            self._try_cancel(timeout=CANCEL_S)
        finally:
            self.abandon()


class AsyncFlightConnection(FlightState, psycopg.AsyncConnection[Row]):
    """``psycopg.AsyncConnection`` whose transactions open in one flight."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cursor_factory = AsyncFlightCursor
        self.server_cursor_factory = AsyncFlightServerCursor

    async def commit(self) -> None:
        """psycopg's, which would wait for nothing where there is nothing to end, as most often on return to a pool."""
        if self._is_idle():
            self.drop_due()
            return
        try:
            await super().commit()
        except BaseException as error:
            self.commit_interrupted(error)
            raise
        if self.riders.begun:
            self.riders.clear()

    async def rollback(self) -> None:
        """Likewise."""
        if self._is_idle():
            self.drop_due()
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

    @property
    def info(self) -> FlightInfo:
        """psycopg's, which knows what is due."""
        return FlightInfo(self)

    @asynccontextmanager
    async def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> AsyncIterator[AsyncTransaction]:
        """psycopg's, within the transaction that is due; within a unit of work always."""
        if self.is_waiting() or self.has_unit_to_open():
            async with self.lock:
                await self.wait(self._send_due())
        async with self._in_step(transactions=True), super().transaction(savepoint_name, force_rollback) as transaction:
            yield transaction

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[AsyncPipeline]:
        """psycopg's, once what was due before it has been sent."""
        if self.is_waiting():
            async with self.lock:
                await self.wait(self.fly())
        async with self._in_step(transactions=False), super().pipeline() as pipeline:
            yield pipeline

    @asynccontextmanager
    async def _pipeline_nolock(self) -> AsyncIterator[AsyncPipeline]:
        async with self._in_step(transactions=False), super()._pipeline_nolock() as pipeline:
            self._in_executemany = True
            try:
                yield pipeline
            finally:
                self._in_executemany = False

    @asynccontextmanager
    async def _in_step(self, *, transactions: bool) -> AsyncIterator[None]:
        """A block of psycopg's own. Where an exception came in the way of its end, that is the connection's."""
        open_before = self.blocks(transactions=transactions)
        try:
            yield
        except BaseException as error:
            if not isinstance(error, psycopg.Error) and self.blocks(transactions=transactions) != open_before:
                await self._cancel_and_abandon()
            raise

    @asynccontextmanager
    async def streaming(self) -> AsyncIterator[None]:
        """A block whose exceptions psycopg deals with; what still runs at its end is of use to nobody."""
        self._streams = True
        try:
            yield
        except BaseException as error:
            self._streams = False
            if self.is_half_way(error):
                await self._cancel_and_abandon()
            raise
        finally:
            self._streams = False

    async def wait(self, gen: PQGen[Any], interval: float = _WAIT_INTERVAL_S, timeout: float | None = None) -> Any:
        """psycopg's, bounded by ``patience_s``. An exception amid an answer ends statement and connection."""
        try:
            if timeout is not None or self.patience_s is None:
                return await super().wait(gen, interval, timeout)
            try:
                return await super().wait(gen, interval, self.patience_s())
            except errors._WaitTimeout:
                raise self._gave_up() from None
        except BaseException as error:
            if self.is_half_way(error):
                await self._cancel_and_abandon()
            raise

    async def _cancel_and_abandon(self) -> None:
        try:
            await self._try_cancel(timeout=CANCEL_S)
        finally:
            self.abandon()
