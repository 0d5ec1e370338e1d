"""A wire that refuses as RDS Proxy does: the server's own refusals of a login in AWS's words, and others on demand.

The words are those of AWS's table of errors for PostgreSQL; all of them come as FATAL, with the one SQLSTATE 08P01.
https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-proxy.troubleshooting.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from .statements import PostgresWire
from .words import ERROR, fatal

if TYPE_CHECKING:
    from collections.abc import Callable

At = Literal["login", "statement"]

# What the server says of a login that it refuses, and what the proxy makes of it.
IN_AWS_WORDS = (
    (
        rb'password authentication failed for user "([^"]*)"',
        b"The password that was provided for the role %s is wrong.",
    ),
    (
        rb'role "([^"]*)" does not exist',
        b"This RDS proxy has no credentials for the role %s. Check the credentials for this role and try again.",
    ),
    (
        rb'PAM authentication failed for user "([^"]*)"',
        b"The IAM authentication failed for the role %s. Check the IAM token for this role and try again.",
    ),
    # It has no server connection to lend: the server is full, starts or stops.
    (
        rb"too many clients|too many connections|remaining connection slots|the database system is",
        b"Timed-out waiting to acquire database connection.",
    ),
)
CODE = b"08P01"
READY = b"Z"
NO_TLS = b"N"  # a server's whole answer to a client that asked for TLS
HEAD_BYTES = 5


class RdsProxyWire(PostgresWire):
    """A ``PostgresWire`` that words refusals as RDS Proxy does. It reads what is not encrypted alone.

    ``refuse_with(words)`` refuses every login from then on, or with ``at="statement"`` what follows a login, until
    ``refuse_with(None)``.
    """

    def __init__(self, upstream_host: str, upstream_port: int, *, delay_s: float = 0.0) -> None:
        super().__init__(upstream_host, upstream_port, delay_s=delay_s)
        self._refusal: tuple[bytes, At] | None = None
        self._rewording = lambda: Reworder(lambda: self._refusal)

    def refuse_with(self, words: str | None, *, at: At = "login") -> None:
        """Refuse with ``words``, or with None no more. Connections that are open stay until their next statement."""
        self._refusal = None if words is None else (words.encode(), at)


class Reworder:
    """Takes the bytes of the server for one client; gives those that the client gets, and whether they are the last."""

    def __init__(self, refusal: Callable[[], tuple[bytes, At] | None]) -> None:
        self._refusal = refusal
        self._has_login = False

    def __call__(self, chunk: bytes) -> tuple[bytes, bool]:
        if chunk == NO_TLS:
            return chunk, False  # the client goes on without, and is refused in words that it can read
        refusal = self._refusal()
        if refusal is not None and (refusal[1] == "statement") == self._has_login:
            return error(refusal[0]), True
        if self._has_login:
            return chunk, False
        place = 0
        while place + HEAD_BYTES <= len(chunk):  # the server flushes whole messages while a client logs in
            size = 1 + int.from_bytes(chunk[place + 1 : place + HEAD_BYTES])
            kind, body = chunk[place : place + 1], chunk[place + HEAD_BYTES : place + size]
            if kind == ERROR and (words := in_aws_words(body)):
                return chunk[:place] + error(words), True
            self._has_login = self._has_login or kind == READY
            place += size
        return chunk, False


def in_aws_words(body: bytes) -> bytes | None:
    """What the proxy says in place of the server's error; None where it passes that on."""
    for pattern, words in IN_AWS_WORDS:
        if found := re.search(pattern, body):
            return words % found.groups()
    return None


def error(words: bytes) -> bytes:
    """An ErrorResponse that ends the session."""
    return fatal(CODE, words)
