"""Where the kit's servers listen, and a TCP port for those that cannot choose one themselves."""

from __future__ import annotations

import socket
from typing import Protocol

HOST = "127.0.0.1"


class Endpoint(Protocol):
    """What PostgreSQL's clients can connect to: a server, a wire, a pooler."""

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now. Another program may take it before the server does."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
