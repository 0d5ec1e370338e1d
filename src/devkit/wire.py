"""A TCP proxy that counts what PostgreSQL's protocol costs: connections and round trips.

Owns the bytes between clients and one server and passes them on unread, so it works under TLS too. It can make the
network slow (``delay_s``) and break it (``cut``).

A *round trip* is a change of direction and back: the client sent something, and then the server answered. Any number
of packets either way is still one trip. What nobody waits for is none: libpq's Terminate at close, or a notice that
comes by itself. Where the server answers while the client still sends (a pipeline larger than the buffers between
them), each such answer counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from typing import Self

HOST = "127.0.0.1"
CHUNK_BYTES = 64 * 1024
BACKLOG = 1024  # a fleet may connect within one millisecond


@dataclass(frozen=True)
class Counts:
    """What has passed so far. ``after - before`` is what passed in between."""

    connections: int = 0
    trips: int = 0

    def __sub__(self, earlier: Counts) -> Counts:
        return Counts(self.connections - earlier.connections, self.trips - earlier.trips)


class _Side(Enum):
    CLIENT = "client"
    SERVER = "server"


@dataclass
class _Flow:
    """Who spoke last on one connection."""

    last: _Side = _Side.SERVER


@dataclass(frozen=True)
class _Running:
    thread: threading.Thread
    loop: asyncio.AbstractEventLoop
    closing: asyncio.Event
    port: int


class Wire:
    """A counting proxy on 127.0.0.1 in front of ``upstream_host:upstream_port``, for the length of a ``with`` block.

    ``delay_s`` (seconds, default 0) is added to every round trip: half of it to the request, half to the answer. The
    exchanges of SCRAM and TLS are trips as well; TCP's own handshake is not delayed.

    One thread serves all connections. An upstream that cannot be reached shows as a connection that is closed at once.
    """

    host = HOST

    def __init__(self, upstream_host: str, upstream_port: int, *, delay_s: float = 0.0) -> None:
        if delay_s < 0:
            raise ValueError(f"delay_s is {delay_s}: it must be 0 or more")
        self._upstream = (upstream_host, upstream_port)
        self._pause_s = delay_s / 2
        self._counts = Counts()
        self._connections: set[asyncio.Task[None]] = set()
        self._running: _Running | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen on a free port. Returns when connections are accepted."""
        if self._running is not None:
            raise RuntimeError("the wire is open already")
        listening: Future[_Running] = Future()
        threading.Thread(target=asyncio.run, args=(self._serve(listening),), name="devkit-wire", daemon=True).start()
        self._running = listening.result()

    def stop(self) -> None:
        """Close the port and every connection. Returns when the thread has ended; on a closed wire it does nothing."""
        if self._running is None:
            return
        running, self._running = self._running, None
        running.loop.call_soon_threadsafe(running.closing.set)
        running.thread.join()

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1. Raises RuntimeError while the wire is closed."""
        return self._opened().port

    def counts(self) -> Counts:
        """Connections accepted and round trips completed since the wire was made.

        A trip is counted before its answer is passed on: a client that holds the answer finds it here.
        """
        return self._counts

    def cut(self) -> None:
        """Close all open connections at both ends, as a lost network does. New ones are accepted.

        Returns when they are closed. What was on its way is lost.
        """
        asyncio.run_coroutine_threadsafe(self._cut(), self._opened().loop).result()

    def _opened(self) -> _Running:
        if self._running is None:
            raise RuntimeError("the wire is closed: use it inside a with block")
        return self._running

    # From here on: the thread of the event loop, the only one that writes to the fields above but _running.

    async def _serve(self, listening: Future[_Running]) -> None:
        try:
            server = await asyncio.start_server(self._accept, HOST, 0, backlog=BACKLOG)
        except OSError as error:
            listening.set_exception(error)
            return
        closing = asyncio.Event()
        port: int = server.sockets[0].getsockname()[1]
        listening.set_result(_Running(threading.current_thread(), asyncio.get_running_loop(), closing, port))
        await closing.wait()
        server.close()
        await self._cut()

    async def _cut(self) -> None:
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _accept(self, client: StreamReader, to_client: StreamWriter) -> None:
        self._count(connections=1)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker: a coroutine of start_server is a task
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        writers = [to_client]
        try:
            with contextlib.suppress(OSError):
                server, to_server = await asyncio.open_connection(*self._upstream)
                writers.append(to_server)
                await self._relay((client, to_client), (server, to_server))
                for writer in writers:
                    writer.close()
                await _closed(writers)
        finally:
            # For whom the above has not ended: an upstream that is down, a cut, a client that does not read its answer.
            for writer in writers:
                writer.transport.abort()
            await _closed(writers)

    async def _relay(
        self, client: tuple[StreamReader, StreamWriter], server: tuple[StreamReader, StreamWriter]
    ) -> None:
        """Pass bytes on until one side ends."""
        flow = _Flow()
        pumps = [
            asyncio.create_task(self._pump(client[0], server[1], flow, _Side.CLIENT)),
            asyncio.create_task(self._pump(server[0], client[1], flow, _Side.SERVER)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()

    async def _pump(self, source: StreamReader, sink: StreamWriter, flow: _Flow, side: _Side) -> None:
        # A peer that resets the connection has ended it, as one that closes it.
        with contextlib.suppress(OSError):
            while chunk := await source.read(CHUNK_BYTES):
                if flow.last is not side:
                    if self._pause_s:
                        await asyncio.sleep(self._pause_s)
                    flow.last = side
                    self._count(trips=1 if side is _Side.SERVER else 0)
                sink.write(chunk)
                await sink.drain()

    def _count(self, *, connections: int = 0, trips: int = 0) -> None:
        # A new object each time: readers in other threads never see half of a change.
        self._counts = Counts(self._counts.connections + connections, self._counts.trips + trips)


async def _closed(writers: list[StreamWriter]) -> None:
    for writer in writers:
        with contextlib.suppress(OSError):
            await writer.wait_closed()
