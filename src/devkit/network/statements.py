"""A wire that reads PostgreSQL's protocol: which statements really went to the server, the driver's and the pool's too.

Owns the client's half of protocol 3 as far as SQL travels in it. What is encrypted cannot be read, and says so.
https://www.postgresql.org/docs/18/protocol-message-formats.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable

CANCEL, TLS, GSS = 80877102, 80877103, 80877104
PROTOCOL = 3
TLS_HANDSHAKE = 0x16
HEAD_BYTES = 8
TYPED_HEAD_BYTES = 5


@dataclass(frozen=True)
class Startup:
    """A connection's first message, in which libpq's ``options`` travel."""

    parameters: dict[str, str]


@dataclass(frozen=True)
class Statement:
    """The text of a Query or Parse message. ``name`` is that of a prepared statement, empty for all that have none."""

    text: str
    name: str = ""


@dataclass(frozen=True)
class Sync:
    """The end of a Query, or a Sync message: the server answers with ReadyForQuery.

    Outside of a transaction a pooler may give the connection to another client there, whatever else the flight brings.
    """


@dataclass(frozen=True)
class Unreadable:
    """A connection that is encrypted, or speaks something else. Nothing of it follows."""


Message = Startup | Statement | Sync | Unreadable


class Reader:
    """Takes the bytes of one client, cut into chunks anyhow, and hands what it finds to ``found``."""

    def __init__(self, found: Callable[[Message], None]) -> None:
        self._found = found
        self._buffer = bytearray()
        self._read: Callable[[], bool] | None = self._opening

    def __call__(self, chunk: bytes) -> None:
        """Read on. Never raises."""
        if self._read is None:
            return
        self._buffer += chunk
        while self._read is not None and self._read():
            pass

    def _opening(self) -> bool:
        """A message without a type. Whether there may be more to read; so for the next one."""
        if self._buffer[:1] == bytes([TLS_HANDSHAKE]):
            return self._give_up()
        if len(self._buffer) < HEAD_BYTES:
            return False
        length, code = self._number(0), self._number(4)
        if length < HEAD_BYTES or (code >> 16 != PROTOCOL and code not in {CANCEL, TLS, GSS}):
            return self._give_up()
        if len(self._buffer) < length:
            return False
        body = self._take(length)[HEAD_BYTES:]
        if code >> 16 == PROTOCOL:
            texts = [_text(part) for part in body.rstrip(b"\0").split(b"\0")]
            self._found(Startup(dict(zip(texts[0::2], texts[1::2], strict=False))))
            self._read = self._typed
        return True

    def _typed(self) -> bool:
        if len(self._buffer) < TYPED_HEAD_BYTES:
            return False
        kind, size = self._buffer[:1], 1 + self._number(1)  # the length counts itself, but not the type before it
        if size < TYPED_HEAD_BYTES:
            return self._give_up()
        if len(self._buffer) < size:
            return False
        body = self._take(size)[TYPED_HEAD_BYTES:]
        if kind == b"Q":
            self._found(Statement(_text(body.partition(b"\0")[0])))
            self._found(Sync())
        elif kind == b"S":
            self._found(Sync())
        elif kind == b"P":
            name, _, rest = body.partition(b"\0")
            self._found(Statement(_text(rest.partition(b"\0")[0]), _text(name)))
        return True

    def _number(self, at: int) -> int:
        return int.from_bytes(self._buffer[at : at + 4])

    def _take(self, length: int) -> bytes:
        taken = bytes(self._buffer[:length])
        del self._buffer[:length]
        return taken

    def _give_up(self) -> bool:
        self._found(Unreadable())
        self._buffer.clear()
        self._read = None
        return False


class PostgresWire(Wire):
    """A ``Wire`` that keeps what clients said, all of it: for tests, not for load."""

    def __init__(self, upstream_host: str, upstream_port: int, *, delay_s: float = 0.0) -> None:
        self._messages: list[Message] = []
        super().__init__(upstream_host, upstream_port, delay_s=delay_s, observer=lambda: Reader(self._messages.append))

    def messages(self) -> list[Message]:
        """What was passed to the server since the wire was made, in that order. A client that has the answer to a
        statement finds the statement here."""
        return list(self._messages)

    def statements(self) -> list[str]:
        """The texts of the statements among them. Raises RuntimeError where a connection could not be read."""
        return texts_of(self.messages())


def texts_of(messages: list[Message]) -> list[str]:
    """The statements' texts. Raises RuntimeError where a connection could not be read."""
    if Unreadable() in messages:
        raise RuntimeError("a connection is encrypted and cannot be read: connect with sslmode=disable")
    return [message.text for message in messages if isinstance(message, Statement)]


def _text(value: bytes) -> str:
    return value.decode(errors="replace")
