"""One connection through a wire: two sockets, and a pump for each direction. What may pass is the wire's to say."""

from __future__ import annotations

import asyncio
import contextlib
from enum import Enum
from typing import TYPE_CHECKING

from .faults import go_deaf

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import Callable
    from typing import Any

CHUNK_BYTES = 64 * 1024


class Side(Enum):
    CLIENT = "client"
    SERVER = "server"


class Link:
    """A client's connection and the one to the server behind it. To be made and run in one task, which ends it.

    ``turn(link, side)`` is asked whenever ``side`` begins to speak after the other one; False ends the connection and
    drops what came. ``admits(side, size)`` is asked how many of the bytes that ``side`` has sent may pass; where it is
    not all, the connection ends behind them. ``observe(chunk)`` is called with what the client sends, just before it is
    passed on. ``reword(chunk)`` gives what the client gets in place of what the server has sent, and whether the
    connection ends behind it; ``retell(chunk)`` the same of what the client has sent.
    """

    def __init__(
        self,
        client: tuple[StreamReader, StreamWriter],
        *,
        pause_s: float,
        turn: Callable[[Link, Side], bool],
        admits: Callable[[Side, int], int],
        observe: Callable[[bytes], None],
        reword: Callable[[bytes], tuple[bytes, bool]],
        retell: Callable[[bytes], tuple[bytes, bool]],
    ) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker: a coroutine of start_server is a task
        self.task: asyncio.Task[Any] = task
        self.loses_answer = False
        """For the wire: what the server says next is not to pass."""
        self._client = client
        self._pause_s = pause_s
        self._turn = turn
        self._admits = admits
        self._observe = observe
        self._reword = reword
        self._retell = retell
        self._last = Side.SERVER
        self._silent = False
        self._writers = [client[1]]
        self._pumps: list[asyncio.Task[None]] = []

    async def run(self, host: str, port: int) -> None:
        """Connect to the server and pass bytes on until one side ends or the task is cancelled."""
        try:
            with contextlib.suppress(OSError):
                server, to_server = await asyncio.open_connection(host, port)
                self._writers.append(to_server)
                await self._relay(server, to_server)
                for writer in self._writers:
                    writer.close()
                await _closed(self._writers)
        finally:
            # For whom the above has not ended: an upstream that is down, a cut, a client that does not read its answer.
            for writer in self._writers:
                writer.transport.abort()
            await _closed(self._writers)

    def silence(self) -> None:
        """Pass nothing any more, and keep both sides open until the task is cancelled."""
        self._silent = True
        for writer in self._writers:
            with contextlib.suppress(OSError):  # a side that has just closed
                go_deaf(writer.get_extra_info("socket"))
        for pump in self._pumps:
            pump.cancel()

    async def _relay(self, server: StreamReader, to_server: StreamWriter) -> None:
        client, to_client = self._client
        self._pumps = [
            asyncio.create_task(self._pump(client, to_server, Side.CLIENT)),
            asyncio.create_task(self._pump(server, to_client, Side.SERVER)),
        ]
        try:
            if not self._silent:
                await asyncio.wait(self._pumps, return_when=asyncio.FIRST_COMPLETED)
            if self._silent:
                await asyncio.Event().wait()
        finally:
            for pump in self._pumps:
                pump.cancel()

    async def _pump(self, source: StreamReader, sink: StreamWriter, side: Side) -> None:
        # A peer that resets the connection has ended it, as one that closes it.
        with contextlib.suppress(OSError):
            while chunk := await source.read(CHUNK_BYTES):
                if self._last is not side:
                    if self._pause_s:
                        await asyncio.sleep(self._pause_s)
                    self._last = side
                    if not self._turn(self, side):
                        return
                admitted = chunk[: self._admits(side, len(chunk))]
                ends = len(admitted) < len(chunk)
                if side is Side.CLIENT:
                    self._observe(admitted)
                    admitted, is_last = self._retell(admitted)
                else:
                    admitted, is_last = self._reword(admitted)
                ends = ends or is_last
                sink.write(admitted)
                await sink.drain()
                if ends:
                    return


async def _closed(writers: list[StreamWriter]) -> None:
    for writer in writers:
        with contextlib.suppress(OSError):
            await writer.wait_closed()
