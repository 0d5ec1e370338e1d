"""A pooler as strict as the protocol lets one be: who is lent a connection to the server loses it at once.

It takes the connection back at each ReadyForQuery outside of a transaction, and lends the client another one next,
wherever there is one. It resets nothing: what a client sets for its session, another client meets. PgBouncer keeps a
client at its last connection where nobody else wants that, so what leans on a session may seem to work there for long;
here it fails at once, as it would some day behind any of them.

Owns who has which connection. It is no model of one product's settings, log-ins or texts, and no pooler to run with.
https://www.postgresql.org/docs/18/protocol-flow.html
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import struct
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from .rds_proxy import error
from .statements import CANCEL, GSS, PROTOCOL, TLS

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import AsyncIterator
    from typing import Self

HOST = "127.0.0.1"
BACKLOG = 1024
CHUNK_BYTES = 64 * 1024
HEAD_BYTES = 5

TERMINATE, PASSWORD = b"X", b"p"
ASKS = (b"Q", b"S", b"F")  # Query, Sync, FunctionCall: the server answers each with a ReadyForQuery
READY, COPY_IN, COPY_BOTH = b"Z", b"G", b"W"
COPY_DATA = (b"d", b"c", b"f")
IDLE = b"I"
IN_THE_CLEAR = b"R" + struct.pack("!ii", 8, 3)
WELCOME = b"R" + struct.pack("!ii", 8, 0)
IS_READY = READY + struct.pack("!i", 5) + IDLE
# What clients are told of the server: what PgBouncer tells them.
TOLD = (
    *("server_version", "server_encoding", "client_encoding", "DateStyle", "TimeZone", "IntervalStyle"),
    *("integer_datetimes", "standard_conforming_strings"),
)


@dataclass(frozen=True)
class Login:
    """Whose connections they are: clients that log in alike share them."""

    database: str
    user: str
    password: str


class StrictPooler:
    """A strict pooler on 127.0.0.1 in front of ``upstream_host:upstream_port``, for the length of a ``with`` block.

    ``backends`` (20) is the most connections that it opens for one login. It opens the second as soon as a client comes
    for the second time, so that there is another one to lend, and more of them when all are lent.

    Clients are asked for their password in the clear, to log in to the server with it; what the server says against
    that, they get as ``FATAL`` with SQLSTATE 08P01. Of their startup parameters, ``options`` are refused and others
    without effect. It speaks neither TLS nor protocols above 3.0.
    """

    host = HOST

    def __init__(self, upstream_host: str, upstream_port: int, *, backends: int = 20) -> None:
        self._upstream = {"host": upstream_host, "port": upstream_port}
        self._size = backends
        self._pools: dict[Login, Pool] = {}
        self._clients: dict[bytes, Client] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._running: tuple[threading.Thread, asyncio.AbstractEventLoop, asyncio.Event, int] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen on a free port. Returns when connections are accepted."""
        if self._running is not None:
            raise RuntimeError("the pooler runs already")
        listening: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = Future()
        thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(listening)), name="devkit-strict-pooler", daemon=True
        )
        thread.start()
        self._running = (thread, *listening.result())

    def stop(self) -> None:
        """Close the port and every connection, on both sides. On a stopped pooler it does nothing."""
        if self._running is None:
            return
        (thread, loop, closing, _), self._running = self._running, None
        loop.call_soon_threadsafe(closing.set)
        thread.join()

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1. Raises RuntimeError while it is stopped."""
        if self._running is None:
            raise RuntimeError("the pooler is stopped: use it inside a with block")
        return self._running[-1]

    @property
    def moves(self) -> int:
        """How often a client was lent another connection than the one that it had before."""
        return sum(pool.moves for pool in list(self._pools.values()))

    # From here on: the thread of the event loop.

    async def _serve(self, listening: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]]) -> None:
        closing = asyncio.Event()
        try:
            listener = await asyncio.start_server(self._accept, HOST, 0, backlog=BACKLOG)
        except OSError as refusal:
            listening.set_exception(refusal)
            return
        listening.set_result((asyncio.get_running_loop(), closing, listener.sockets[0].getsockname()[1]))
        await closing.wait()
        listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pool in self._pools.values():
            await pool.close()

    async def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker: a coroutine of start_server is a task
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._talk(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _talk(self, reader: StreamReader, writer: StreamWriter) -> None:
        startup = await self._startup(reader, writer)
        if startup is None:
            return
        if "options" in startup:
            writer.write(error(b"unsupported startup parameter: options"))
            return
        writer.write(IN_THE_CLEAR)
        kind, body = await message(reader)
        if kind != PASSWORD:
            return
        user = startup["user"]
        login = Login(startup.get("database", user), user, body.rstrip(b"\0").decode())
        pool = self._pools.setdefault(login, Pool(login, self._upstream, self._size))
        client = Client(reader, writer, pool)
        try:
            writer.write(WELCOME + await pool.told() + client.key_data() + IS_READY)
            self._clients[client.key] = client
            await client.serve()
        except psycopg.OperationalError as refusal:
            writer.write(error(str(refusal).rpartition("FATAL:  ")[2].encode()))
        finally:
            self._clients.pop(client.key, None)
            client.leave()

    async def _startup(self, reader: StreamReader, writer: StreamWriter) -> dict[str, str] | None:
        """What the client says of itself. None where it says nothing further: it has had another one cancelled."""
        while True:
            length, code = struct.unpack("!ii", await reader.readexactly(8))
            body = await reader.readexactly(length - 8)
            if code in {TLS, GSS}:
                writer.write(b"N")
            elif code == CANCEL:
                meant = self._clients.get(body)
                if meant is not None and meant.backend is not None:
                    await meant.backend.connection.cancel_safe()
                return None
            elif code == PROTOCOL << 16:
                words = [word.decode() for word in body.rstrip(b"\0").split(b"\0")]
                return dict(zip(words[::2], words[1::2], strict=False))
            else:
                writer.write(error(b"unsupported frontend protocol"))
                return None


class Client:
    """One client: what it sends goes to the connection that it has, and it is lent one when it has none."""

    def __init__(self, reader: StreamReader, writer: StreamWriter, pool: Pool) -> None:
        self.writer = writer
        self.backend: Backend | None = None
        self.last: Backend | None = None
        self.key = secrets.token_bytes(8)
        self._reader = reader
        self._pool = pool
        self._copies = False
        self._unsent: list[bytes] = []
        self._is_answered = asyncio.Event()
        self._is_answered.set()

    def key_data(self) -> bytes:
        """What the client would have a statement cancelled by."""
        return b"K" + struct.pack("!i", 4 + len(self.key)) + self.key

    async def serve(self) -> None:
        """Pass on what it sends, until it leaves. What follows a question waits for the answer to that."""
        async for batch in batches(self._reader):
            for frame in batch:
                if frame[:1] == TERMINATE:
                    await self._flush()
                    return
                if not await self._pass_on(frame):
                    return
            await self._flush()

    async def _pass_on(self, frame: bytes) -> bool:
        """False where the connection that it was meant for is lost."""
        kind = frame[:1]
        # In the middle of COPY the server takes what comes, and ignores the Sync that came with the statement.
        if not (self._copies and kind in (*COPY_DATA, *ASKS)):
            if not self._is_answered.is_set():
                await self._flush()
                await self._is_answered.wait()
            if kind in COPY_DATA:
                return True  # of a COPY that has failed
            if self.backend is None:
                await self._pool.lend(self)
        if kind in ASKS:
            self._is_answered.clear()
        self._unsent.append(frame)
        return self.backend is not None

    async def _flush(self) -> None:
        if self._unsent and self.backend is not None:
            await self.backend.send(b"".join(self._unsent))
        self._unsent.clear()

    def hear(self, frame: bytes) -> None:
        """Take note of what the server says. A ReadyForQuery outside of a transaction takes the connection away."""
        kind = frame[:1]
        if kind in (COPY_IN, COPY_BOTH):
            self._copies = True
        if kind == READY:
            self._copies = False
            if frame[-1:] == IDLE and self.backend is not None:
                self._pool.take_back(self.backend)
                self.backend = None
            self._is_answered.set()

    def leave(self) -> None:
        """Give nothing back that is in the middle of something: the server rolls that back."""
        if self.backend is not None:
            self._pool.lose(self.backend)
            self.backend = None


class Pool:
    """The connections of one login, and who waits for one."""

    def __init__(self, login: Login, upstream: dict[str, Any], size: int) -> None:
        self.moves = 0
        self._arguments = {
            **upstream,
            "dbname": login.database,
            "user": login.user,
            "password": login.password,
            "sslmode": "disable",
            "client_encoding": "utf8",
        }
        self._size = size
        self._all: list[Backend] = []
        self._idle: list[Backend] = []
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._opening = asyncio.Lock()

    async def told(self) -> bytes:
        """What the server has said of itself, for a client. Opens the first connection."""
        async with self._opening:
            if not self._all:
                self._idle.append(await self._open())
        return b"".join(self._all[0].parameters())

    async def lend(self, client: Client) -> None:
        """Give the client a connection, and another one than its last where that can be."""
        while (backend := await self._chosen(client)) is None:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        self.moves += client.last is not None and client.last is not backend
        backend.client = client
        client.backend = client.last = backend

    async def _chosen(self, client: Client) -> Backend | None:
        async with self._opening:
            other = next((backend for backend in self._idle if backend is not client.last), None)
            if other is None and len(self._all) < self._size:
                return await self._open()
            chosen = other or next(iter(self._idle), None)
            if chosen is not None:
                self._idle.remove(chosen)
            return chosen

    async def _open(self) -> Backend:
        backend = Backend(await psycopg.AsyncConnection.connect(**self._arguments))
        self._all.append(backend)
        await backend.listen(self)
        return backend

    def take_back(self, backend: Backend) -> None:
        """It is anybody's again; the one that was idle for longest is lent first."""
        backend.client = None
        self._idle.append(backend)
        self._next_turn()

    def lose(self, backend: Backend) -> None:
        """It has ended, or is to end."""
        if backend in self._all:
            self._all.remove(backend)
            if backend in self._idle:
                self._idle.remove(backend)
            backend.hang_up()
            self._next_turn()

    def _next_turn(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    async def close(self) -> None:
        for backend in list(self._all):
            self.lose(backend)
            await backend.ended()


class Backend:
    """One connection to the server. libpq has logged in; from then on its socket is read and written here."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self.connection = connection
        self.client: Client | None = None
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))

    def parameters(self) -> list[bytes]:
        """As the server says them."""
        said = [(name, self.connection.info.parameter_status(name)) for name in TOLD]
        bodies = [f"{name}\0{value}\0".encode() for name, value in said if value is not None]
        return [b"S" + struct.pack("!i", 4 + len(body)) + body for body in bodies]

    async def listen(self, pool: Pool) -> None:
        """Hear what the server says, from now on."""
        reader, self._writer = await asyncio.open_connection(sock=self._socket)
        self._hearing = asyncio.create_task(self._hear(reader, pool))

    async def send(self, frames: bytes) -> None:
        self._writer.write(frames)
        await self._writer.drain()

    async def _hear(self, reader: StreamReader, pool: Pool) -> None:
        with contextlib.suppress(OSError):
            async for batch in batches(reader):
                client = self.client
                if client is not None:  # else it is a notice, or a goodbye, that nobody waits for
                    for frame in batch:
                        client.hear(frame)
                    client.writer.write(b"".join(batch))
        client, self.client = self.client, None
        if client is not None:
            client.backend = None
            client.writer.close()
        pool.lose(self)

    def hang_up(self) -> None:
        """Close it. What was sent is still carried out, as far as the server does so without its client."""
        self.client = None
        self._writer.close()
        self.connection.pgconn.finish()

    async def ended(self) -> None:
        self._hearing.cancel()
        await asyncio.gather(self._hearing, return_exceptions=True)


async def batches(reader: StreamReader) -> AsyncIterator[list[bytes]]:
    """The messages that come, whole ones, by as many as come together, until the end of the stream."""
    buffer = bytearray()
    while chunk := await reader.read(CHUNK_BYTES):
        buffer += chunk
        whole, place = [], 0
        while place + HEAD_BYTES <= len(buffer):
            end = place + 1 + int.from_bytes(buffer[place + 1 : place + HEAD_BYTES])
            if end > len(buffer):
                break
            whole.append(bytes(buffer[place:end]))
            place = end
        del buffer[:place]
        yield whole


async def message(reader: StreamReader) -> tuple[bytes, bytes]:
    """The type of the next message, and its body. Raises IncompleteReadError at the end of the stream."""
    head = await reader.readexactly(HEAD_BYTES)
    return head[:1], await reader.readexactly(int.from_bytes(head[1:]) - 4)
