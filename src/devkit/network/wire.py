"""A TCP proxy that counts what PostgreSQL's protocol costs, connections and round trips, and breaks the network.

Owns the bytes between clients and one server and passes them on unread, so it works under TLS too. It can make the
network slow (``delay_s``), cut it (``cut``, ``cut_at``, ``cut_before``), silence it (``blackhole``), refuse connections
(``refuse``) and lead them to another server (``retarget``).

A *round trip* is a change of direction and back: the client sent something, and then the server answered. Any number
of packets either way is still one trip. What nobody waits for is none: libpq's Terminate at close, or a notice that
comes by itself. Where the server answers while the client still sends (a pipeline larger than the buffers between
them), each such answer counts.

A *request*, or *flight*, is what the client sends before the server answers: the first half of a trip. Terminate is one
too, though without an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .faults import ByteCut, Cut, Lost, Speaker
from .link import Link, Side

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import Callable, Coroutine
    from ssl import SSLContext
    from typing import Any, Self

    Alter = Callable[[bytes], tuple[bytes, bool]]

HOST = "127.0.0.1"
BACKLOG = 1024  # a fleet may connect within one millisecond


@dataclass(frozen=True)
class Counts:
    """What has passed so far. ``after - before`` is what passed in between."""

    connections: int = 0
    trips: int = 0

    def __sub__(self, earlier: Counts) -> Counts:
        return Counts(self.connections - earlier.connections, self.trips - earlier.trips)


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

    ``observer`` (default: none) is called for each connection and returns a function, which is called with the bytes
    that its client sends, just before they are passed on. Both run in the wire's thread: they must neither raise
    nor call the wire.

    One thread serves all connections. An upstream that cannot be reached shows as a connection that is closed at once.
    """

    host = HOST

    def __init__(
        self,
        upstream_host: str,
        upstream_port: int,
        *,
        delay_s: float = 0.0,
        observer: Callable[[], Callable[[bytes], None]] | None = None,
    ) -> None:
        if delay_s < 0:
            raise ValueError(f"delay_s is {delay_s}: it must be 0 or more")
        self._upstream = (upstream_host, upstream_port)
        self._pause_s = delay_s / 2
        self._observer = observer or (lambda: _unread)
        # For each connection, what alters the words of the server, and of the client.
        self._rewording: Callable[[], Alter] = lambda: _as_it_is
        self._altering: Callable[[], tuple[Alter, Alter]] = lambda: (self._rewording(), _as_it_is)
        self._tls: SSLContext | None = None  # what clients have to speak
        self._counts = Counts()
        self._armed: Cut | None = None
        self._armed_for_a_byte: ByteCut | None = None
        self._links: set[Link] = set()
        self._listener: asyncio.Server | None = None
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
        threading.Thread(target=self._run, args=(listening,), name="devkit-wire", daemon=True).start()
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
        self._do(self._cut)

    def cut_at(self, flight: int, *, lost: Lost) -> Cut:
        """Cut one connection, once: at the ``flight``-th request (from 1) from now on. Replaces an earlier ``cut_at``.

        ``lost="request"``: nothing of the request reaches the server. ``lost="answer"``: the server has the request and
        answers it, and the client sees nothing of that. Other connections stay, and new ones are accepted.

        The ``fired`` of what it returns tells whether the request came: to try every flight of a workload, count up
        until it is false. A backend acts on what it has received even so; ``Postgres.all_left`` waits for its end.
        """
        cut = Cut(flight, lost)
        self._do(self._arm, cut)
        return cut

    def cut_before(self, byte: int, *, of: Speaker) -> ByteCut:
        """Cut one connection, once: before the ``byte``-th (from 1) that ``of`` sends from now on.

        What it sent before that passes, so the other side is left in the middle of a message. Replaces an earlier
        ``cut_before``. Other connections stay, and new ones are accepted.

        The ``fired`` of what it returns tells whether that byte came, and ``passed`` how many did before it.
        """
        cut = ByteCut(byte, of)
        self._do(self._arm_for_a_byte, cut)
        return cut

    def blackhole(self) -> None:
        """Silence all open connections: they stay open at both ends, and nothing passes any more. New ones work.

        As where a NAT has forgotten a flow: nobody says goodbye. On Linux the peers' packets are not even acknowledged,
        so ``tcp_user_timeout`` and keepalives run out; elsewhere, TCP looks alive. The end of the wire resets them.
        """
        self._do(self._blackhole)

    def refuse(self) -> None:
        """Refuse new connections until ``accept()``, as a host without a server does. Open ones stay."""
        self._do(self._refuse)

    def accept(self) -> None:
        """Accept new connections again, on the same port. On a wire that does, it does nothing."""
        self._do(self._listen)

    def retarget(self, upstream_host: str, upstream_port: int, *, cut: bool = False) -> None:
        """Lead new connections to another server, as a cluster's endpoint does after a failover.

        Open ones stay with the old one, as after a change of DNS; with ``cut`` they are closed.
        """
        self._do(self._retarget, (upstream_host, upstream_port), cut)

    def _opened(self) -> _Running:
        if self._running is None:
            raise RuntimeError("the wire is closed: use it inside a with block")
        return self._running

    def _do(self, work: Callable[..., Coroutine[Any, Any, None]], *arguments: object) -> None:
        loop = self._opened().loop
        asyncio.run_coroutine_threadsafe(work(*arguments), loop).result()

    # From here on: the thread of the event loop, the only one that writes to the fields above but _running.

    def _run(self, listening: Future[_Running]) -> None:
        with asyncio.Runner(loop_factory=_punctual_loop if self._pause_s else None) as runner:
            runner.run(self._serve(listening))

    async def _serve(self, listening: Future[_Running]) -> None:
        closing = asyncio.Event()
        with contextlib.ExitStack() as kept:
            try:
                reserved = kept.enter_context(_bound(0))  # nobody else gets the port while the wire refuses
                self._port: int = reserved.getsockname()[1]
                await self._listen()
            except OSError as error:
                listening.set_exception(error)
                return
            listening.set_result(_Running(threading.current_thread(), asyncio.get_running_loop(), closing, self._port))
            await closing.wait()
            await self._refuse()
            await self._cut()

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(
                self._accept, sock=_bound(self._port), backlog=BACKLOG, ssl=self._tls
            )

    async def _refuse(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _cut(self) -> None:
        tasks = [link.task for link in self._links]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _arm(self, cut: Cut) -> None:
        self._armed = cut

    async def _arm_for_a_byte(self, cut: ByteCut) -> None:
        self._armed_for_a_byte = cut

    async def _blackhole(self) -> None:
        for link in self._links:
            link.silence()

    async def _retarget(self, upstream: tuple[str, int], cut: bool) -> None:
        self._upstream = upstream
        if cut:
            await self._cut()

    async def _accept(self, client: StreamReader, to_client: StreamWriter) -> None:
        self._count(connections=1)
        reword, retell = self._altering()
        link = Link(
            (client, to_client),
            pause_s=self._pause_s,
            turn=self._turn,
            admits=self._admits,
            observe=self._observer(),
            reword=reword,
            retell=retell,
        )
        self._links.add(link)
        try:
            await link.run(*self._upstream)
        finally:
            self._links.discard(link)

    def _turn(self, link: Link, side: Side) -> bool:
        """Count a change of direction. Whether what comes may pass."""
        if side is Side.SERVER:
            if link.loses_answer:
                return False
            self._count(trips=1)
        elif self._armed is not None and self._armed.strikes():
            link.loses_answer = self._armed.lost == "answer"
            return link.loses_answer
        return True

    def _admits(self, side: Side, size: int) -> int:
        cut = self._armed_for_a_byte
        return size if cut is None or cut.speaker != side.value else cut.admits(size)

    def _count(self, *, connections: int = 0, trips: int = 0) -> None:
        # A new object each time: readers in other threads never see half of a change.
        self._counts = Counts(self._counts.connections + connections, self._counts.trips + trips)


def _punctual_loop() -> asyncio.AbstractEventLoop:
    # epoll rounds a wait up to whole milliseconds, which is more than most delays; select takes microseconds, for as
    # many as a thousand sockets.
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


def _bound(port: int) -> socket.socket:
    """A socket at ``port`` that shares it with the wire's other one, and with nobody else."""
    bound = socket.socket()
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((HOST, port))
    except OSError:
        bound.close()
        raise
    return bound


def _unread(_: bytes) -> None:
    """The observer of a wire that has none."""


def _as_it_is(chunk: bytes) -> tuple[bytes, bool]:
    """The reworder of a wire that has none."""
    return chunk, False
