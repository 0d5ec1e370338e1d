"""A wire that makes a PostgreSQL server look like Aurora DSQL, as far as its documents and its users tell of that.

It asks for TLS from the first byte and for a token, refuses what ``dsql_refusals`` knows, counts the rows and the DDL
of a transaction, ends sessions that are too old, and answers COMMITs with conflicts when it is told to. What it does
not do: the conflicts themselves (rows are locked here, and waited for), the limit of five minutes, and everything that
DSQL computes otherwise than PostgreSQL.

Statements are refused by making the server refuse them, so that transactions fail as they would: a text that is no SQL
goes to the server in their place, and the error that comes back is given DSQL's code and words.
"""

from __future__ import annotations

import re
import struct
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from .dsql_refusals import CONFLICT, LIMIT, NOT_SUPPORTED, Refusal, told
from .statements import CANCEL, HEAD_BYTES, TYPED_HEAD_BYTES, PostgresWire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from ssl import SSLContext

    from .dsql_refusals import Told

MOST_ROWS = 3000
MOST_BYTES = 10 * 1024 * 1024
SESSION_S = 3600.0
CONFLICTS = {
    "OC000": "change conflicts with another transaction, please retry: (OC000)",
    "OC001": "schema has been updated by another transaction, please retry: (OC001)",
}
DENIED = Refusal("28000", "unable to accept connection, access denied")
MANY_DDL = Refusal(NOT_SUPPORTED, "multiple ddl statements not supported in a transaction")
MIXED = Refusal(NOT_SUPPORTED, "ddl and dml are not supported in the same transaction")
TOO_MANY_ROWS = Refusal(LIMIT, "transaction row limit exceeded")
TOO_MANY_BYTES = Refusal(LIMIT, "transaction size limit 10mb exceeded")
FAILED = Refusal("25P02", "current transaction is aborted, commands ignored until end of transaction block")
_MARK = "dsql_refuses_"
_MARKED = re.compile(rb"dsql_refuses_(\d+)")
_ASYNC = re.compile(r"\bINDEX\s+ASYNC\b", re.IGNORECASE)
_COUNTED = re.compile(rb"(?:INSERT \d+|UPDATE|DELETE|MERGE|COPY) (\d+)")
_PARSE, _QUERY, _PASSWORD, _BIND, _COPY_DATA = b"P", b"Q", b"p", b"B", b"d"
_ERROR, _READY, _COMPLETE, _ASKS = b"E", b"Z", b"C", b"R"
_IN_CLEAR = (3).to_bytes(4)


class Login(NamedTuple):
    """Who enters the server behind the wire for a user of the cluster's."""

    database: str
    user: str
    password: str


class DsqlWire(PostgresWire):
    """A ``PostgresWire`` in front of a server whose ``login`` for a user is asked for its password in the clear.

    ``admits(user, token)`` is asked whether a token lets ``user`` in. ``session_s`` is the age of a session beyond
    which it is ended between two transactions.
    """

    def __init__(
        self,
        upstream_host: str,
        upstream_port: int,
        *,
        tls: SSLContext,
        login: Callable[[str], Login],
        admits: Callable[[str, str], bool],
        session_s: float = SESSION_S,
        delay_s: float = 0.0,
    ) -> None:
        super().__init__(upstream_host, upstream_port, delay_s=delay_s)
        self._tls = tls
        self.login, self.admits, self.session_s = login, admits, session_s
        self.conflicts: deque[Refusal] = deque()
        self.refusal_of_logins: Refusal | None = None
        self._altering = self._session

    def conflict(self, code: str = "OC000", *, times: int = 1) -> None:
        """Refuse the next ``times`` commits of transactions that wrote, as after a conflict."""
        self.conflicts.extend([Refusal(CONFLICT, CONFLICTS[code])] * times)

    def refuse_logins(self, words: str | None, *, code: str = "53400") -> None:
        """Refuse every login with ``words`` from now on, or with None no more."""
        self.refusal_of_logins = None if words is None else Refusal(code, words)

    def _session(self) -> tuple[Callable[[bytes], tuple[bytes, bool]], Callable[[bytes], tuple[bytes, bool]]]:
        session = Session(self)
        return session.reword, session.retell


class Session:
    """One client's: what it says is retold to the server, and the server's words are reworded for it."""

    def __init__(self, wire: DsqlWire) -> None:
        self._wire = wire
        self._began = time.monotonic()
        self._from_client, self._from_server = bytearray(), bytearray()
        self._login: Login | None = None
        self._user = ""
        self._asked_for_token = self._has_login = False
        self._refusals: list[Refusal] = []  # by the number in the text that stands for each
        # A transaction's, as the client sees it.
        self._is_open = self._is_doomed = False
        self._ddl = self._dml = self._bytes = 0
        # For each COMMIT that the server is told to roll back: why.
        self._undone: deque[Refusal] = deque()
        # As the server sees it.
        self._rows = 0
        self._skips = False

    # What the client says.

    def retell(self, chunk: bytes) -> tuple[bytes, bool]:
        """What the server gets in place of ``chunk``, and whether the session ends behind it."""
        self._from_client += chunk
        said = bytearray()
        if self._login is None:
            opening = self._opening()
            if opening is None:
                return b"", False
            if not opening:
                return b"", True
            said += opening
        for kind, body in _messages(self._from_client):
            if self._is_over(kind):
                return bytes(said), True
            said += _message(kind, self._retold(kind, body))
        return bytes(said), False

    def _opening(self) -> bytes | None:
        """The startup message, for the server; empty where there is nothing to start, None where more is to come."""
        if len(self._from_client) < HEAD_BYTES or len(self._from_client) < (size := _number(self._from_client, 0)):
            return None
        code = _number(self._from_client, 4)
        body = bytes(self._from_client[HEAD_BYTES:size])
        del self._from_client[:size]
        if code == CANCEL:
            return b""  # nothing tells that a cluster heeds it
        texts = body.rstrip(b"\0").split(b"\0")
        parameters = dict(zip(texts[0::2], texts[1::2], strict=False))
        self._user = parameters[b"user"].decode()
        self._login = self._wire.login(self._user)
        parameters |= {b"user": self._login.user.encode(), b"database": self._login.database.encode()}
        said = b"".join(name + b"\0" + value + b"\0" for name, value in parameters.items()) + b"\0"
        return struct.pack("!ii", len(said) + HEAD_BYTES, code) + said

    def _is_over(self, kind: bytes) -> bool:
        age_s = time.monotonic() - self._began
        return kind in {_QUERY, _PARSE} and not self._is_open and age_s > self._wire.session_s

    def _retold(self, kind: bytes, body: bytes) -> bytes:
        if kind == _PASSWORD and self._asked_for_token:
            self._asked_for_token = False
            token = body.rstrip(b"\0").decode()
            assert self._login is not None  # noqa: S101 - a startup message came first
            return (self._login.password if self._wire.admits(self._user, token) else "wrong").encode() + b"\0"
        if kind == _QUERY:
            return self._statement(body.rstrip(b"\0").decode()).encode() + b"\0"
        if kind == _PARSE:
            name, _, rest = body.partition(b"\0")
            text, _, types = rest.partition(b"\0")
            return name + b"\0" + self._statement(text.decode()).encode() + b"\0" + types
        if kind in {_BIND, _COPY_DATA} and self._dml:
            self._bytes += len(body)
        return body

    def _statement(self, text: str) -> str:
        for one in told(text):
            if (said := self._instead_of(one)) is not None:
                return said
        return _ASYNC.sub("INDEX", text, count=1)

    def _instead_of(self, one: Told) -> str | None:
        """What the server is told in place of the statement; None where it is told the statement."""
        match one.verb:
            case "begin" | "start" if one.refusal is None:
                self._opened(True)
                return None
            case "commit" | "end":
                return self._committed()
            case "rollback" | "abort" if one.refusal is None:
                self._opened(False)
                return None
        if self._is_doomed:
            return self._refused(FAILED)
        if not self._is_open:
            self._opened(False)
        self._ddl += one.is_ddl
        self._dml += one.is_dml
        refusal = one.refusal
        if refusal is None and self._ddl > 1:
            refusal = MANY_DDL
        elif refusal is None and self._ddl and self._dml:
            refusal = MIXED
        if refusal is None and not self._is_open and self._wrote and self._wire.conflicts:
            refusal = self._wire.conflicts.popleft()
        return None if refusal is None else self._refused(refusal)

    def _committed(self) -> str | None:
        refusal = None
        if self._bytes > MOST_BYTES:
            refusal = TOO_MANY_BYTES
        elif self._wrote and self._wire.conflicts and not self._is_doomed:
            refusal = self._wire.conflicts.popleft()
        undo = refusal is not None or self._is_doomed
        self._opened(False)
        if refusal is not None:
            self._undone.append(refusal)
        return "ROLLBACK" if undo else None

    @property
    def _wrote(self) -> bool:
        return bool(self._ddl or self._dml)

    def _opened(self, is_open: bool) -> None:
        self._is_open, self._is_doomed = is_open, False
        self._ddl = self._dml = self._bytes = 0

    def _refused(self, refusal: Refusal) -> str:
        self._refusals.append(refusal)
        return f"{_MARK}{len(self._refusals) - 1}"

    # What the server says.

    def reword(self, chunk: bytes) -> tuple[bytes, bool]:
        """What the client gets in place of ``chunk``, and whether the session ends behind it."""
        self._from_server += chunk
        said = bytearray()
        for kind, body in _messages(self._from_server):
            if not self._has_login:
                words, ends = self._login_reworded(kind, body)
                said += words
                if ends:
                    return bytes(said), True
            else:
                said += self._reworded(kind, body)
        return bytes(said), False

    def _login_reworded(self, kind: bytes, body: bytes) -> tuple[bytes, bool]:
        self._asked_for_token = self._asked_for_token or (kind == _ASKS and body[:4] == _IN_CLEAR)
        self._has_login = kind == _READY
        if self._wire.refusal_of_logins is not None:
            return _error(self._wire.refusal_of_logins, severity=b"FATAL"), True
        if kind == _ERROR and b"password authentication failed" in body:
            return _error(DENIED, severity=b"FATAL"), True
        return _message(kind, body), False

    def _reworded(self, kind: bytes, body: bytes) -> bytes:
        if kind == _READY:
            self._skips = False
            return _message(kind, b"E" if self._is_doomed and body == b"T" else body)
        if self._skips:
            return b""
        if kind == _ERROR and (marked := _MARKED.search(body)):
            return _error(self._refusals[int(marked[1])])
        if kind == _COMPLETE:
            return self._completed(body)
        return _message(kind, body)

    def _completed(self, body: bytes) -> bytes:
        tag = body.rstrip(b"\0")
        if tag == b"ROLLBACK" and self._undone:
            return _error(self._undone.popleft())
        if tag in {b"BEGIN", b"COMMIT", b"ROLLBACK"}:
            self._rows = 0
        elif counted := _COUNTED.fullmatch(tag):
            self._rows = int(counted[1]) + (self._rows if self._is_open else 0)
            if self._rows > MOST_ROWS:
                self._is_doomed, self._skips = True, True
                return _error(TOO_MANY_ROWS)
        return _message(_COMPLETE, body)


def _messages(buffer: bytearray) -> Iterator[tuple[bytes, bytes]]:
    """The whole messages in ``buffer``, taken from it: their types and bodies."""
    while len(buffer) >= TYPED_HEAD_BYTES and len(buffer) >= (size := 1 + _number(buffer, 1)):
        kind, body = bytes(buffer[:1]), bytes(buffer[TYPED_HEAD_BYTES:size])
        del buffer[:size]
        yield kind, body


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def _number(buffer: bytearray, at: int) -> int:
    return int.from_bytes(buffer[at : at + 4])


def _error(refusal: Refusal, *, severity: bytes = b"ERROR") -> bytes:
    fields = [b"S" + severity, b"V" + severity, b"C" + refusal.code.encode(), b"M" + refusal.words.encode()]
    return _message(_ERROR, b"\0".join(fields) + b"\0\0")
