"""A wire that reads the protocol of MySQL and MariaDB: which statements really went to the server, in what packets.

Owns the client's half of it as far as SQL travels in it. What is encrypted cannot be read, and says so. What a round
trip is, and what else the wire does, is ``wire``'s; a server of this kind speaks first, which is none.
https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_packets.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .statements import Message, Statement, Unreadable, texts_of
from .wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD_BYTES = 4
CLIENT_SSL = 0x800
COM_QUERY = 3
COM_STMT_PREPARE = 0x16
LONGEST_BYTES = 0xFFFFFF  # a packet of that length goes on in the next one


class Reader:
    """Takes the bytes of one client, cut into chunks anyhow, and hands what it finds to ``found``."""

    def __init__(self, found: Callable[[Message], None]) -> None:
        self._found = found
        self._buffer = bytearray()
        self._long = b""
        self._readable = True

    def __call__(self, chunk: bytes) -> None:
        """Read on. Never raises."""
        if self._readable:
            self._buffer += chunk
        while self._readable and self._packet():
            pass

    def _packet(self) -> bool:
        """One packet: three bytes of length, one that counts those of a command. Whether there may be more to read."""
        if len(self._buffer) < HEAD_BYTES:
            return False
        size, number = int.from_bytes(self._buffer[:3], "little"), self._buffer[3]
        if len(self._buffer) < HEAD_BYTES + size:
            return False
        body = self._long + bytes(self._buffer[HEAD_BYTES : HEAD_BYTES + size])
        del self._buffer[: HEAD_BYTES + size]
        if size == LONGEST_BYTES:
            self._long = body
            return True
        is_command, self._long = number == 0 or bool(self._long), b""
        if is_command and body[:1] == bytes([COM_QUERY]):
            self._found(Statement(body[1:].decode(errors="replace")))
        elif is_command and body[:1] == bytes([COM_STMT_PREPARE]):
            self._found(Statement(body[1:].decode(errors="replace"), "by the binary protocol"))
        elif number == 1 and int.from_bytes(body[:4], "little") & CLIENT_SSL:
            # Of the login: what follows is TLS.
            self._found(Unreadable())
            self._buffer.clear()
            self._readable = False
        return True


class MySqlWire(Wire):
    """A ``Wire`` that keeps what clients of MySQL or MariaDB said, all of it: for tests, not for load."""

    def __init__(self, upstream_host: str, upstream_port: int, *, delay_s: float = 0.0) -> None:
        self._messages: list[Message] = []
        super().__init__(upstream_host, upstream_port, delay_s=delay_s, observer=lambda: Reader(self._messages.append))

    def messages(self) -> list[Message]:
        """What was passed to the server since the wire was made, in that order."""
        return list(self._messages)

    def statements(self) -> list[str]:
        """The texts that were passed to the server since the wire was made: one for each packet of statements.

        Raises RuntimeError where a connection could not be read. A client that has the answer finds the text here.
        """
        return texts_of(self.messages())
