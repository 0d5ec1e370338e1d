"""How a container reaches what listens on this machine's loopback only."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from devkit.lambda_runtime.docker_bridge import HOST, LOOPBACK, Doors

if TYPE_CHECKING:
    from collections.abc import Iterator

# Another address of this machine stands for the bridge's.
BRIDGE = "127.0.0.2"


@pytest.fixture
def echo_port() -> Iterator[int]:
    """A server on loopback that sends back what it gets, until the client has ended."""

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            while data := connection.recv(1024):
                connection.sendall(data)

    with socket.create_server((LOOPBACK, 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def ask(port: int) -> list[bytes]:
    """Say ping on the bridge's side and hang up; what comes back, to the end."""
    with socket.create_connection((BRIDGE, port)) as client:
        client.sendall(b"ping")
        client.shutdown(socket.SHUT_WR)
        return [client.recv(1024), client.recv(1024)]


def test_a_door_carries_both_ways_until_the_end(echo_port: int) -> None:
    """A half-closed connection still brings the answer, and then ends."""
    with Doors(BRIDGE) as doors:
        doors.open(echo_port)
        assert ask(echo_port) == [b"ping", b""]


def test_a_loopback_url_becomes_the_host_s_and_opens_its_door(echo_port: int) -> None:
    """A payload's ResponseURL is rewritten; an address that is no URL stays what it is."""
    with Doors(BRIDGE) as doors:
        text = doors.reachable(f'{{"ResponseURL": "http://{LOOPBACK}:{echo_port}/x", "sourceIp": "{LOOPBACK}"}}')
        assert ask(echo_port) == [b"ping", b""]
    assert text == f'{{"ResponseURL": "http://{HOST}:{echo_port}/x", "sourceIp": "{LOOPBACK}"}}'
