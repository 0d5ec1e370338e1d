"""How a container reaches what listens on this machine's loopback only.

A container's 127.0.0.1 is its own, and SAM puts containers on Docker's bridge whatever ``--docker-network host`` says.
So they reach this machine as ``host.docker.internal``, and what listens on loopback only gets a door on the bridge.
"""

from __future__ import annotations

import errno
import re
import socket
import socketserver
import threading
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

LOOPBACK = "127.0.0.1"
HOST = "host.docker.internal"
POLL_S = 0.05
LOOPBACK_URL = re.compile(rf"(https?://){re.escape(LOOPBACK)}:(\d+)")
# The gateway is on another (virtual) machine, or the port is open on every address already.
NO_DOOR_NEEDED = (errno.EADDRNOTAVAIL, errno.EADDRINUSE)


class Doors:
    """The bridge's side of ports that listen on loopback only.

    Where the gateway is no address of this machine, Docker runs in a virtual machine of its own and leads
    `host.docker.internal` to the loopback itself. Then there is nothing to open.
    """

    def __init__(self, gateway: str) -> None:
        self._gateway = gateway
        self._ports: set[int] = set()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def reachable(self, text: str) -> str:
        """The text with its loopback URLs as a container reaches them."""
        for match in LOOPBACK_URL.finditer(text):
            self.open(int(match[2]))
        return LOOPBACK_URL.sub(rf"\g<1>{HOST}:\g<2>", text)

    def open(self, port: int) -> None:
        """Let the bridge in to a port."""
        if port in self._ports:
            return
        self._ports.add(port)
        try:
            door = self._stack.enter_context(Door((self._gateway, port), Passage))
        except OSError as error:
            if error.errno in NO_DOOR_NEEDED:
                return
            raise
        threading.Thread(target=door.serve_forever, args=(POLL_S,), daemon=True).start()
        self._stack.callback(door.shutdown)


class Door(socketserver.ThreadingTCPServer):
    """A listener on the bridge whose threads do not outlive the process."""

    daemon_threads = True


class Passage(socketserver.BaseRequestHandler):
    """One connection, carried on to the same port of the loopback."""

    def handle(self) -> None:
        """Carry both ways until both sides have ended."""
        with socket.create_connection((LOOPBACK, self.request.getsockname()[1])) as inside:
            back = threading.Thread(target=carry, args=(inside, self.request), daemon=True)
            back.start()
            carry(self.request, inside)
            back.join()


def carry(source: socket.socket, sink: socket.socket) -> None:
    """Pass bytes on until the source ends, and tell the sink; a peer that has gone already is no news."""
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
