"""How many connections the server holds for each login, over time."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import psycopg

from .site import DATABASE

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

EVERY_S = 0.05
_COUNT = b"""
    SELECT usename, count(*) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND datname = current_database() AND usename <> current_user GROUP BY usename
"""


class Held:
    """Asks the server, for the length of a ``with`` block, over one connection of the superuser.

    ``server`` is asked for anew whenever there is no connection: it may have restarted, or be another one by now. While
    there is none to ask, it holds none.
    """

    _lost: tuple[type[Exception], ...] = (psycopg.Error, RuntimeError)

    def __init__(self, server: Callable[[], Any]) -> None:
        self._server = server
        self._over = threading.Event()
        self.samples: list[tuple[float, dict[str, int]]] = []
        """Seconds since the start, and connections by login."""

    def __enter__(self) -> Self:
        self.began_at = time.monotonic()
        self._connection: Any = self._connect()
        self._thread = threading.Thread(target=self._watch, name="devkit-held", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self._connection is not None:
            self._connection.close()

    def begin_anew(self) -> float:
        """Forget the samples; time counts from now on, in monotonic seconds, which it gives."""
        self.began_at = time.monotonic()
        self.samples = []
        return self.began_at

    def most(self, login: str, *, since_s: float = 0.0) -> int:
        """The most connections that ``login`` held at a time, from ``since_s`` on."""
        return max((held.get(login, 0) for at_s, held in self.samples if at_s >= since_s), default=0)

    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began_at

    def _watch(self) -> None:
        while not self._over.wait(EVERY_S):
            try:
                if self._connection is None:
                    self._connection = self._connect()
                held = self._ask(self._connection)
            except self._lost:  # it restarts, or has just been lost
                self._forget()
                held = {}
            self.samples.append((self.seconds(), held))

    def _ask(self, connection: Any) -> dict[str, int]:
        return dict(connection.execute(_COUNT).fetchall())

    def _connect(self) -> Any:
        server = self._server()
        return psycopg.connect(
            host=server.host,
            port=server.port,
            user=server.superuser,
            password=server.password,
            dbname=DATABASE,
            autocommit=True,
            connect_timeout=2,
            options="-c idle_session_timeout=0",
        )

    def _forget(self) -> None:
        broken, self._connection = self._connection, None
        if broken is not None:
            with contextlib.suppress(*self._lost):
                broken.close()
