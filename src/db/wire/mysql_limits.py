"""How long a statement and a lock may take, said to the session; and KILL, where the server has no limit for it."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
from typing import TYPE_CHECKING

from pymysql import connections, err

from db.timing.waiting import aside

from .mysql_packets import Packets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from db.timing.deadline import Limits

# How long the KILL of a statement, and the answer to what was killed, may take.
_KILL_S = 2.0
_SHORTEST_S = 1e-3  # 0 would be none


class Limited(Packets):
    """A connection whose session is told limits, and that it only reads, and is rid of them."""

    read_only = False
    _is_limited = False  # a unit's limits hold for the session
    _statement_s = math.inf  # how long a statement may take that the server does not limit
    _patience_s: Callable[[], float | None] | None = None

    def hold(self, statement_s: float, lock_s: float) -> None:
        """Serve what changes the schema, with these limits, as long as the connection lives."""
        said = [f"{name} = {max(int(lock_s), 1)}" for name in ("innodb_lock_wait_timeout", "lock_wait_timeout")]
        if statement_s < math.inf:
            said.append(f"{self._limit_name} = {self._limit_value(statement_s)}")
            self._statement_s = math.inf if self.limits_writes else statement_s
        self.say("SET " + ", ".join(f"SESSION {one}" for one in said))

    def let_go(self) -> None:
        """That is over, and so is the connection."""

    @property
    def limits_writes(self) -> bool:
        """Whether the server's limit is for all statements, and not only for those that read: else they are killed."""
        return self.is_mariadb

    def _limiting(self, limits: Limits) -> bytes:
        # Whole seconds, of which there is at least one: a statement's own limit ends what waits for a lock for longer.
        lock_s = max(int(limits.lock_s), 1)
        said = [f"innodb_lock_wait_timeout = {lock_s}", f"lock_wait_timeout = {lock_s}"]
        said.append(f"{self._limit_name} = {self._limit_value(limits.statement_s)}")
        if not self.limits_writes:
            self._statement_s = limits.statement_s
        if self.read_only:
            # Not by START TRANSACTION READ ONLY: DDL would commit that, and then run.
            said.append(f"{self._read_only_variable} = 1")
        return b"SET " + ", ".join(f"SESSION {one}" for one in said).encode()

    def _unlimiting(self) -> bytes:
        """What takes them off the session again."""
        names = ["innodb_lock_wait_timeout", "lock_wait_timeout", self._limit_name]
        said = [f"SESSION {name} = DEFAULT" for name in names]
        if self.read_only:
            said.append(f"SESSION {self._read_only_variable} = 0")
        return ("SET " + ", ".join(said)).encode()

    @property
    def _limit_name(self) -> str:
        return "max_statement_time" if self.is_mariadb else "max_execution_time"

    def _limit_value(self, statement_s: float) -> str:
        # The one counts in seconds, the other in milliseconds; 0 is none, to both.
        return f"{max(statement_s, 0.001):.3f}" if self.is_mariadb else str(max(int(statement_s * 1000), 1))

    @property
    def _read_only_variable(self) -> str:
        return "tx_read_only" if self.is_mariadb else "transaction_read_only"

    def _be_patient(self) -> None:
        """Wait for what comes next as long as the invocation lasts, and no longer."""
        self._read_timeout = None if self._patience_s is None else self._patience_s()

    @contextlib.contextmanager
    def _in_time(self) -> Iterator[None]:
        """What is sent here is ended from outside where the server does not limit it, and lasts too long."""
        if self._statement_s == math.inf:
            yield
            return
        killer = threading.Timer(self._statement_s, self._kill)
        killer.daemon = True
        try:
            killer.start()
            yield
        finally:
            killer.cancel()
            if killer.ident is not None:
                killer.join()  # or it would strike at what comes next

    def _interrupted(self) -> None:
        """``Packets``'s: the server is told as well, for it does not look whether anybody waits for its answer."""
        is_answering, self.is_answering = self.is_answering, False
        try:
            if is_answering:
                aside(self._kill)
        finally:
            super()._interrupted()

    def cut_off(self, left_s: float) -> str:
        """Hang up, and say how: a statement under way is ended within ``left_s`` seconds. Takes no lock.

        Raises whatever kept it from that; hung up it is.
        """
        is_answering = self.is_answering
        self.unproven = False  # what is lost now is not sent again over a new one
        try:
            if is_answering:
                self._kill_over_another(max(left_s, _SHORTEST_S))
        finally:
            self.hang_up()
            self.is_answering = False  # nobody has to end it any more
        return "cancelled" if is_answering else "closed"

    def _kill(self) -> None:
        """End, over another connection, what this one's statement does; the answer says so (1317).

        Where that cannot be done, the end of the invocation's time ends the wait.
        """
        with contextlib.suppress(err.MySQLError, OSError):
            self._kill_over_another()

    def _kill_over_another(self, limit_s: float = _KILL_S) -> None:
        other = connections.Connection(
            defer_connect=True,
            host=self.host,
            port=self.port,
            unix_socket=self.unix_socket,
            user=self.user,
            password=self.password,
            connect_timeout=limit_s,
            read_timeout=limit_s,
            ssl=self.ctx if self.ssl else None,
            ssl_disabled=not self.ssl,
            auth_plugin_map=self._auth_plugin_map,
        )
        try:
            # To the address, not the name: a reader's name, or a writer's after a failover, may lead to another server,
            # where somebody else's connection has the number.
            other.connect(socket.create_connection(self._peer, limit_s) if self._peer is not None else None)
            other.query(f"KILL QUERY {self.thread_id()}")
        finally:
            if other.open:
                other.close()
