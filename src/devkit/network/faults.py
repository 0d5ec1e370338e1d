"""What a wire does to connections: the cut at a flight or byte, and silence. Knows sockets and counts, no protocol."""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from asyncio.trsock import TransportSocket

Lost = Literal["request", "answer"]
Speaker = Literal["client", "server"]

# asm-generic/socket.h and linux/filter.h: a filter of one instruction, "keep 0 bytes of the packet".
SO_ATTACH_FILTER = 26
KEEP_NOTHING = struct.pack("HBBI", 0x06, 0, 0, 0)


@dataclass(eq=False)
class Cut:
    """A cut to come, once: at the ``flight``-th request (from 1) that the wire sees after ``Wire.cut_at`` was called.

    Requests of all connections count, in the order in which they reach the wire; those that open a connection do too.
    """

    flight: int
    lost: Lost
    requests: int = 0
    """How many requests the wire has seen, up to ``flight``."""

    def __post_init__(self) -> None:
        if self.flight < 1:
            raise ValueError(f"flight is {self.flight}: the first one is 1")
        if self.lost not in get_args(Lost):
            raise ValueError(f"lost is {self.lost!r}: it must be one of {', '.join(get_args(Lost))}")

    @property
    def fired(self) -> bool:
        """Whether that request has come. False after a workload means that it has fewer flights."""
        return self.requests == self.flight

    def strikes(self) -> bool:
        """Count a request, and say whether it is the one."""
        if self.fired:
            return False
        self.requests += 1
        return self.fired


@dataclass(eq=False)
class ByteCut:
    """A cut to come, once: ahead of the ``byte``-th (from 1) of ``speaker`` that the wire sees from now on.

    The bytes of all connections count, in the order in which they reach the wire; those that open a connection do too.
    """

    byte: int
    speaker: Speaker
    passed: int = 0
    """How many bytes of the speaker's have passed, up to the cut."""
    fired: bool = False
    """Whether that byte has come. False after a workload means that it has fewer."""

    def __post_init__(self) -> None:
        if self.byte < 1:
            raise ValueError(f"byte is {self.byte}: the first one is 1")
        if self.speaker not in get_args(Speaker):
            raise ValueError(f"speaker is {self.speaker!r}: it must be one of {', '.join(get_args(Speaker))}")

    def admits(self, size: int) -> int:
        """How many of ``size`` bytes of the speaker's may pass; fewer than all of them end the connection."""
        if self.fired:
            return size
        admitted = min(size, self.byte - 1 - self.passed)
        self.passed += admitted
        self.fired = admitted < size
        return admitted


def go_deaf(connection: socket.socket | TransportSocket) -> None:
    """Let ``connection`` receive nothing from now on, not even what TCP itself has to say.

    On Linux its peer gets no acknowledgement any more, so keepalives and ``tcp_user_timeout`` run out as they do where
    a NAT has forgotten the flow. Elsewhere this does nothing, and they see a live peer.
    """
    if sys.platform == "linux":
        instruction = ctypes.create_string_buffer(KEEP_NOTHING)
        connection.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(instruction)))
        # At its close a deaf socket would wait minutes for the acknowledgement of its own goodbye: reset instead.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
