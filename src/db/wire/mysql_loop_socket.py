"""What PyMySQL takes for a blocking socket: under it, the event loop goes on with its other tasks.

PyMySQL asks little of a socket: to send all of something, and to read so many bytes. Its protocol is written as plain
code, which ``db.aio`` runs in greenlets; so these two are all that has to wait otherwise. A driver of its own for
asyncio would be another set of errors, and none of what this package says in one packet.

Nothing here waits outside of a greenlet: there, what cannot be done at once is an error of the connection's.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.util import await_

from db.timing.waiting import on_loop

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")
_CHUNK_BYTES = 1 << 16


class LoopSocket:
    """A connected socket that does not block, behind the face of one that does, and of the file that reads from it.

    ``at_once``: what would have to be waited for is an error from now on.
    """

    at_once = False

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._limit_s: float | None = None
        self._received = bytearray()
        self._tls: ssl.SSLObject | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._waits = self._is_closed = False

    @classmethod
    def connected(cls, place: tuple[str, int] | str, limit_s: float) -> LoopSocket:
        """One that is connected to a host and port, or to a socket's file. Raises OSError, as of a blocking one.

        ``limit_s`` is for each of the host's addresses, so that one which does not answer leaves the next its time.
        """
        return cls(await_(_to_file(place, limit_s) if isinstance(place, str) else _to_host(*place, limit_s)))

    def over_tls(self, context: ssl.SSLContext, server_hostname: str | None) -> LoopSocket:
        """From here on, encrypted; the handshake verifies what ``context`` says."""
        self._received.clear()  # whatever came ahead of it, anybody may have said
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._take_in()
            else:
                break
        self._flush()
        return self

    # A socket's face.

    def settimeout(self, limit_s: float | None) -> None:
        self._limit_s = limit_s

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self._line.setsockopt(level, option, value)

    def getpeername(self) -> Any:
        return self._line.getpeername()

    def fileno(self) -> int:
        return self._line.fileno()

    def makefile(self, _mode: str) -> LoopSocket:
        return self

    def sendall(self, data: bytes) -> None:
        if self._tls is None:
            self._send(data)
        else:
            self._tls.write(data)
            self._flush()

    def shutdown(self, how: int) -> None:
        self._line.shutdown(how)

    def close(self) -> None:
        """At once, on whatever loop or on none."""
        self._is_closed = True
        if self._waits:
            # A task waits for it. It is to find its end there, and not another one's under its number.
            with contextlib.suppress(OSError):
                self._line.shutdown(socket.SHUT_RDWR)
        else:
            self._line.close()

    # A file's face.

    def read(self, count: int) -> bytes:
        """``count`` bytes, or fewer where the other side has ended."""
        while len(self._received) < count:
            more = self._more()
            if not more:
                break
            self._received += more
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    @property
    def has_unread(self) -> bool:
        """Whether something has come that nobody asked for."""
        return bool(self._received) or bool(self._incoming.pending)

    def _more(self) -> bytes:
        if self._tls is None:
            return self._receive()
        while True:
            try:
                return self._tls.read(_CHUNK_BYTES)
            except ssl.SSLWantReadError:
                self._flush()
                self._take_in()
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                return b""  # as a blocking one has it

    def _take_in(self) -> None:
        if more := self._receive():
            self._incoming.write(more)
        else:
            self._incoming.write_eof()

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._send(data)

    def _send(self, data: bytes) -> None:
        try:
            sent = self._line.send(data)  # most often all of it, and then there is nothing to wait for
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            loop = asyncio.get_running_loop() if on_loop() else None
            self._wait_for(loop.sock_sendall(self._line, memoryview(data)[sent:]) if loop else None)

    def _receive(self) -> bytes:
        loop = asyncio.get_running_loop() if on_loop() else None
        return self._wait_for(loop.sock_recv(self._line, _CHUNK_BYTES) if loop else None)

    def _wait_for(self, work: Coroutine[Any, Any, T] | None) -> T:
        if work is None:
            raise BlockingIOError("nobody can wait for it here, outside of what db.aio runs")
        if self.at_once:
            work.close()
            raise BlockingIOError("the connection is being closed")
        self._waits = True
        try:
            return await_(_within(self._limit_s, work))
        finally:
            self._waits = False
            if self._is_closed:
                self._line.close()


async def _within(limit_s: float | None, work: Coroutine[Any, Any, T]) -> T:
    async with asyncio.timeout(limit_s):
        return await work


async def _to_host(host: str, port: int, limit_s: float) -> socket.socket:
    loop = asyncio.get_running_loop()
    refusal: OSError | None = None
    found = await _within(limit_s, loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    for family, kind, protocol, _, address in found:
        line = socket.socket(family, kind, protocol)
        try:
            await _within(limit_s, _connect(line, address))
        except OSError as error:
            refusal = error
        else:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return line
    raise refusal or OSError(f"{host} has no address")


async def _to_file(path: str, limit_s: float) -> socket.socket:
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    await _within(limit_s, _connect(line, path))
    return line


async def _connect(line: socket.socket, address: Any) -> None:
    line.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(line, address)
    except BaseException:
        line.close()
        raise
