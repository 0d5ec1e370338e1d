"""``MySqlConnection`` for ``db.aio``: the same, where it waits for the server, the event loop goes on.

It is PyMySQL's code, and this package's, in greenlets over ``mysql_loop_socket``. So trips, limits, replay and errors
are those of the plain one, and nothing of them is written twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import traceback
from typing import TYPE_CHECKING, Any

from pymysql import connections, cursors, err
from sqlalchemy.util import await_

from .mysql_connections import MySqlConnection
from .mysql_loop_socket import LoopSocket

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

_NO_HOST = 2003  # CR_CONN_HOST_ERROR


class AsyncMySqlConnection(MySqlConnection):
    """``MySqlConnection`` that waits on an event loop, for whoever calls it in a greenlet."""

    ctx: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """``Session``'s."""
        super().__init__(*args, **kwargs, cursorclass=AsyncCursor)

    def connect(self, sock: Any = None) -> None:
        """PyMySQL's, over a socket that does not block."""
        if sock is None:
            try:
                sock = LoopSocket.connected(self.unix_socket or (self.host, self.port), self.connect_timeout)
            except OSError as error:
                raise self._unreachable(error) from error
            if self.unix_socket:
                self._secure = True  # as PyMySQL has it of one that it opens
        super().connect(sock)

    def close(self) -> None:
        """PyMySQL's, which says goodbye; that is not waited for, so that a pool is disposed of from anywhere."""
        if self._sock is not None:
            self._sock.at_once = True
        super().close()

    def _unreachable(self, error: OSError) -> err.OperationalError:
        """As PyMySQL says it."""
        said = err.OperationalError(_NO_HOST, f"Can't connect to MySQL server on {self.host!r} ({error})")
        said.original_exception, said.traceback = error, traceback.format_exc()
        return said

    def _request_authentication(self) -> None:
        if not self.ssl:
            super()._request_authentication()
            return
        context, self.ctx = self.ctx, _OverTheLoop(self.ctx)
        try:
            super()._request_authentication()
        finally:
            self.ctx = context

    @property
    def is_fit(self) -> bool:
        """``Session``'s, of which this one may have read more than was asked for."""
        return super().is_fit and not self._sock.has_unread

    @contextlib.contextmanager
    def _in_time(self) -> Iterator[None]:
        """``Limited``'s, without a thread for each statement."""
        if self._statement_s == math.inf:
            yield
            return
        strikes: list[asyncio.Future[None]] = []

        def strike() -> None:
            strikes.append(asyncio.ensure_future(asyncio.to_thread(self._kill)))

        killer = asyncio.get_running_loop().call_later(self._statement_s, strike)
        try:
            yield
        finally:
            killer.cancel()
            if strikes:
                await_(asyncio.wait(strikes))  # or it would strike at what comes next

    def _read_query_result(self, unbuffered: bool = False) -> Any:
        affected = super()._read_query_result(unbuffered=unbuffered)
        if unbuffered and self._result.unbuffered_active:
            self._result.__class__ = _Streamed
        return affected


class AsyncCursor(cursors.Cursor):  # type: ignore[misc]  # PyMySQL is not typed
    """``Cursor``, as SQLAlchemy has those of asyncio."""

    async def _async_soft_close(self) -> None:
        """It has all of its rows, so there is nothing to close."""


class AsyncStreamingCursor(cursors.SSCursor):  # type: ignore[misc]  # likewise
    """``SSCursor`` which, forgotten, reads nothing more: there is nobody who could wait for it."""

    def __del__(self) -> None:
        self.connection = None


class _Streamed(connections.MySQLResult):  # type: ignore[misc]  # likewise
    """Rows that are on their way. Where nobody wants them any more, their connection goes with them."""

    def __del__(self) -> None:
        if self.unbuffered_active and self.connection is not None:
            self.connection.hang_up()


class _OverTheLoop:
    """``context`` for PyMySQL, which would have it wrap a socket that blocks."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context

    def wrap_socket(self, sock: LoopSocket, server_hostname: str | None = None) -> LoopSocket:
        return sock.over_tls(self._context, server_hostname)
