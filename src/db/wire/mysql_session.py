"""PyMySQL's connection as it connects: one trip for what holds for the session, and what is known without asking.

Silence of the peer is noticed, a password goes unencrypted to nobody, and whether the server still listens is seen by
the socket.
"""

from __future__ import annotations

import functools
import math
import socket
import ssl
import time
from typing import Any, NamedTuple, cast

from pymysql import connections, err
from pymysql.constants import CLIENT, COMMAND

from .pipeline import is_readable

_STRICT = "STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO"
_NO_CLEAR_PASSWORD = 2059  # CR_AUTH_PLUGIN_CANNOT_LOAD
# Before the server's own time: what is sent as that ends would meet it on the way.
_EARLIER_S = 1.0
# In seconds, but for the first: as libpq is told in ``pool.connect_arguments``. Linux has all of them.
_SILENT_PEER = {
    getattr(socket, name): value
    for name, value in {
        "TCP_USER_TIMEOUT": 5_000,
        "TCP_KEEPIDLE": 5,
        "TCP_KEEPINTVL": 2,
        "TCP_KEEPCNT": 3,
    }.items()
    if hasattr(socket, name)
}


class Info(NamedTuple):
    """What is known of a connection without asking."""

    backend_pid: int
    dbname: str
    host: str
    port: int
    user: str


class Session(connections.Connection):  # type: ignore[misc]  # PyMySQL is not typed
    """``pymysql.Connection`` with a session of this package's. ``facts`` is what the server said of itself then."""

    wait_timeout_s = math.inf
    facts: dict[str, Any]
    _last_used = 0.0
    _read_timeout: float | None  # PyMySQL's: seconds to wait for a packet
    _peer: tuple[str, int] | None = None  # the address of the server, which a name may lead elsewhere from
    _result: Any

    def __init__(self, *args: Any, client_flag: int = 0, **kwargs: Any) -> None:
        """PyMySQL's arguments. A server may ask for the password itself, as RDS does for a token: over TLS alone."""
        kwargs["auth_plugin_map"] = {b"mysql_clear_password": _ClearPassword}
        self.facts = {}
        super().__init__(*args, client_flag=client_flag | CLIENT.MULTI_STATEMENTS, **kwargs)

    def _create_ssl_ctx(self, sslp: Any) -> ssl.SSLContext:
        """PyMySQL's, which reads all of the machine's certificates for each connection that verifies none: 40 ms."""
        return cast("ssl.SSLContext", super()._create_ssl_ctx(sslp)) if sslp else _unverified()

    def connect(self, sock: Any = None) -> None:
        """PyMySQL's; a peer that goes silent is given up as soon as psycopg's is, in the login as well."""
        self._read_timeout = self.connect_timeout
        try:
            super().connect(sock)
        finally:
            self._read_timeout = None
        if self.unix_socket is None:
            self._peer = self._sock.getpeername()[:2]
            for option, value in _SILENT_PEER.items():
                self._sock.setsockopt(socket.IPPROTO_TCP, option, value)

    def set_character_set(self, charset: str, collation: str | None = None) -> None:
        """PyMySQL's, which it calls in each connect; here with all else that is to hold for the session, in one trip.

        Strict, or what does not fit into a column would be cut to fit. In UTC, as everything is that counts seconds.
        """
        if self.facts:
            super().set_character_set(charset, collation)
            return
        collate = f" COLLATE {collation}" if collation else ""
        level = "tx_isolation" if self.is_mariadb else "transaction_isolation"
        names = ["version", "wait_timeout", "lower_case_table_names", "sql_mode", level, "innodb_rollback_on_timeout"]
        names += ["read_only", "innodb_read_only", "max_allowed_packet"]
        self._execute_command(
            COMMAND.COM_QUERY,
            (
                f"SET NAMES {charset}{collate}, SESSION sql_mode = CONCAT(@@sql_mode, ',{_STRICT}'),"
                f" SESSION time_zone = '+00:00', SESSION autocommit = 0"
                f"\n;SELECT DATABASE(), {', '.join(f'@@{name}' for name in names)}"
            ).encode(),
        )
        self._read_query_result()
        self._read_query_result()
        (row,) = self._result.rows
        self.facts = dict(zip(["database", *names], row, strict=True))
        self.facts["isolation"] = self.facts.pop(level)
        self.server_version = self.facts["version"]  # a proxy greets with one of its own
        self.wait_timeout_s = float(self.facts["wait_timeout"])
        self._last_used = time.time()
        self._result = None

    def ping(self, reconnect: bool = False) -> None:
        """PyMySQL's, without a way to connect anew: what was said of the session would be gone."""
        if reconnect:
            raise err.InterfaceError(0, "a connection of a pool's is not connected anew: the pool makes another")
        super().ping(reconnect=False)
        self._last_used = time.time()

    @property
    def is_fit(self) -> bool:
        """Whether the socket is open and has nothing to say, and the server had no reason to end it. No trip."""
        idle_s = self.wait_timeout_s - min(_EARLIER_S, self.wait_timeout_s / 2)
        if self._sock is None or time.time() - self._last_used > idle_s:
            return False
        return not is_readable(self._sock.fileno())

    @property
    def info(self) -> Info:
        """Who is at the other end, by the names that psycopg has for it; ``backend_pid`` is what KILL takes."""
        user, database = (_text(given) for given in (self.user, self.db))
        return Info(int(self.thread_id()), database, _text(self.host), int(self.port), user)

    @property
    def takes_no_writes(self) -> bool:
        """Whether the server said so of itself when it let this connection in: a replica, or Aurora's reader."""
        return any(str(self.facts[name]).upper() in {"1", "ON"} for name in ("read_only", "innodb_read_only"))

    @property
    def is_mariadb(self) -> bool:
        return "MariaDB" in self.server_version


class _ClearPassword:
    """The password as it is, for who asked for encryption; whoever answers in the server's place is not to have it."""

    def __init__(self, connection: Session) -> None:
        self._connection = connection

    def authenticate(self, _packet: Any) -> Any:
        connection = self._connection
        if not (connection._secure and connection._ssl_required):
            raise err.OperationalError(
                _NO_CLEAR_PASSWORD, "the server asks for the password unencrypted: set DB_SSLMODE=verify-full"
            )
        connection.write_packet(connection.password + b"\0")
        answer = connection._read_packet()
        answer.check_error()
        return answer


@functools.cache
def _unverified() -> ssl.SSLContext:
    """For where TLS is taken if the server has it, and nothing is verified."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _text(given: Any) -> str:
    # PyMySQL makes bytes of what it sends in the login.
    return given.decode() if isinstance(given, bytes) else str(given or "")
