"""Two servers as one cluster: a primary, a standby that streams from it, and the two addresses that Aurora gives them.

Owns the replication and its failures: promotion, loss of the primary, lag. The servers themselves are ``postgres``'s.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Literal

from devkit.network.wire import Wire

from . import postgres_install
from .ports import HOST
from .postgres import POLL_S, Postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

NAME = "standby"
WAIT_S = 30.0
PROMOTE_S = 30

# Written after the copy's own: once it is the primary, it must not wait for a standby that it does not have.
STANDBY_SETTINGS = {
    "synchronous_standby_names": "",
    "synchronous_commit": "on",
    "wal_retrieve_retry_interval": "100ms",
}


class Standby(Postgres):
    """A hot standby: a copy of ``primary`` that follows it, for the length of a ``with`` block. It answers reads.

    Settings, roles and passwords are the primary's. ``primary`` must be running.
    """

    def __init__(self, primary: Postgres) -> None:
        super().__init__()
        self.password = primary.password
        self._primary_port = primary.port

    def _make_cluster(self) -> None:
        self._programs = postgres_install.programs(self._home, self._account)
        # Kept, because the standby connects again and again. libpq wants it readable by its owner alone.
        password_file = self._home / "pgpass"
        password_file.touch(mode=0o600)
        password_file.write_text(f"*:*:*:*:{self.password}\n")
        postgres_install.give(password_file, self._account)
        login = f"host={HOST} port={self._primary_port} user={self.superuser} passfile={password_file}"
        self._run(
            "pg_basebackup",
            f"--dbname={login} application_name={NAME}",
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--no-sync",
        )
        self._configure(STANDBY_SETTINGS)


class Cluster:
    """A primary and a synchronous standby, behind an address each, for the length of a ``with`` block.

    ``endpoint`` leads to the primary and follows a promotion; ``reader`` leads to the standby, and to the primary once
    there is no other server. Both are wires, which count and can be broken. Each server also has its own port.

    A commit is acknowledged when the standby has it: with ``synchronous_commit`` ``on`` (default) in its log, with
    ``remote_apply`` in what its readers see, too. So the loss of the primary loses nothing that was acknowledged, as
    with Aurora's shared storage. ``settings`` are as for ``Postgres``, for both servers.
    """

    def __init__(
        self,
        *,
        settings: Mapping[str, str] | None = None,
        synchronous_commit: Literal["on", "remote_apply"] = "on",
    ) -> None:
        self._synchronous_commit = synchronous_commit
        # Until the standby is there, commits must not wait for it.
        self._settings = {**(settings or {}), "synchronous_standby_names": NAME, "synchronous_commit": "local"}
        self._primary: Postgres | None = None
        self._standby: Standby | None = None
        self._parts = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start both servers and both wires. Returns when commits are synchronous, after about a second."""
        if self._primary is not None:
            raise RuntimeError("the cluster runs already")
        with contextlib.ExitStack() as parts:
            parts.callback(self._forget)
            self._primary = parts.enter_context(Postgres(settings=self._settings))
            self._standby = parts.enter_context(Standby(self._primary))
            self.endpoint = parts.enter_context(Wire(HOST, self._primary.port))
            self.reader = parts.enter_context(Wire(HOST, self._standby.port))
            _wait_for(self._streams, "the standby does not stream")
            self._primary.execute(f"ALTER SYSTEM SET synchronous_commit = {self._synchronous_commit}")
            self._primary.execute("SELECT pg_reload_conf()")
            _wait_for(self._commits_wait, "the primary does not reload its settings")
            self._parts = parts.pop_all()

    def stop(self) -> None:
        """End both servers and both wires, and remove the data. On a stopped cluster it does nothing."""
        self._parts.close()

    @property
    def primary(self) -> Postgres:
        """The server that takes writes. Raises RuntimeError while the cluster is stopped."""
        if self._primary is None:
            raise RuntimeError("the cluster is stopped: use it inside a with block")
        return self._primary

    @property
    def standby(self) -> Standby:
        """The server that follows. Raises RuntimeError while there is none: after its promotion or its loss."""
        if self._standby is None:
            raise RuntimeError("the cluster has no standby: it is stopped, or the standby was promoted or lost")
        return self._standby

    def failover(self) -> None:
        """Lose the primary and promote the standby: ``primary.kill()`` and ``promote()``."""
        self.primary.kill()
        self.promote()

    def promote(self) -> None:
        """Make the standby the primary and lead new connections there. Returns when it takes writes.

        A former primary that is still up keeps its connections, but its commits wait for ever: nobody confirms them.
        """
        promoted = self.standby
        if promoted.execute("SELECT pg_promote(true, %s)", [PROMOTE_S]) != [(True,)]:
            raise RuntimeError(f"the standby was not promoted within {PROMOTE_S} s:\n{promoted.log()}")
        self._primary, self._standby = promoted, None
        for wire in (self.endpoint, self.reader):
            wire.retarget(HOST, promoted.port)

    def lose_standby(self) -> None:
        """Kill the standby; the primary no longer waits for it, as Aurora's writer waits for no reader.

        ``reader`` still leads to where the standby was.
        """
        self.standby.kill()
        self._standby = None
        self.primary.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
        self.primary.execute("SELECT pg_reload_conf()")

    def pause_replay(self) -> None:
        """Let the standby fall behind: it receives and confirms, but its readers see nothing new.

        Under ``remote_apply`` commits wait until ``resume_replay``. A promotion ends the pause.
        """
        self.standby.execute("SELECT pg_wal_replay_pause()")
        _wait_for(self._is_paused, "the standby does not pause")

    def resume_replay(self) -> None:
        """Let the standby go on."""
        self.standby.execute("SELECT pg_wal_replay_resume()")

    def catch_up(self) -> None:
        """Return when the standby's readers see all that the primary has committed up to now."""
        [(written,)] = self.primary.execute("SELECT pg_current_wal_lsn()::text")
        replayed = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
        _wait_for(lambda: self.standby.execute(replayed, [written]) == [(True,)], "the standby does not catch up")

    def _forget(self) -> None:
        self._primary = self._standby = None

    def _streams(self) -> bool:
        return self.primary.execute("SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'") == [
            ("sync",)
        ]

    def _commits_wait(self) -> bool:
        return self.primary.execute("SHOW synchronous_commit") == [(self._synchronous_commit,)]

    def _is_paused(self) -> bool:
        return self.standby.execute("SELECT pg_get_wal_replay_pause_state()") == [("paused",)]


def _wait_for(condition: Callable[[], bool], otherwise: str) -> None:
    give_up_at = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > give_up_at:
            raise RuntimeError(f"{otherwise} after {WAIT_S:.0f} s")
        time.sleep(POLL_S)
