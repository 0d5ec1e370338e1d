"""PgBouncer in front of an embedded server: transaction pooling, as it stands between Lambda and many a database.

Owns the pooler's life and configuration. The program is that of Debian's package ``pgbouncer``, of this machine's
release or of a newer one. It is fetched once, without root, where it is not installed.
"""

from __future__ import annotations

import atexit
import contextlib
import pwd
import re
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any, Literal

import psycopg
from psycopg.rows import dict_row

from . import postgres_install
from .debian import Program, program
from .debian_release import program_of
from .guardian import Guardian
from .ports import HOST, free_port
from .postgres_settings import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Self

    from .ports import Endpoint
    from .postgres import Postgres

START_S = 10.0
STOP_S = 2.0
POLL_S = 0.005
PORT_ATTEMPTS = 5

# Whoever has a password in the server has it here: PgBouncer asks, and passes SCRAM's proof on.
AUTH_QUERY = "SELECT usename, passwd FROM pg_catalog.pg_shadow WHERE usename = $1"

# Debian's next release, whose PgBouncer is that of today; releases are told by their code names.
NEWEST = "forky"

PoolMode = Literal["session", "transaction", "statement"]


def _program(release: str | None) -> Program:
    if release is None:
        return program("pgbouncer", "pgbouncer")
    # postgresql-common keeps a Debian machine's clusters; with it comes the whole of Perl.
    return Program(program_of(release, "pgbouncer", without=["postgresql-common"]), {})


class PgBouncer:
    """PgBouncer on a free port of 127.0.0.1 in front of ``server``, for the length of a ``with`` block.

    It serves every database and every role of the server, with their passwords, by SCRAM on both sides. To look those
    up it keeps a connection of the superuser to each database.

    ``upstream`` (default: the server itself) is where it finds the server: a wire in between, or a cluster's endpoint.
    ``default_pool_size`` (20) is the most connections that it opens for one role in one database, ``max_client_conn``
    (1,000) the most clients that it accepts. ``settings`` go to pgbouncer.ini, for example
    ``{"query_wait_timeout": "2"}``, and win over all of these. ``release`` (default: what this machine has) is the
    Debian release whose PgBouncer it is, ``NEWEST`` say; ``version`` tells which that is. Under root, ``nobody`` runs
    it. It ends with this process, even if that is killed.
    """

    host = HOST

    def __init__(
        self,
        server: Postgres,
        *,
        upstream: Endpoint | None = None,
        pool_mode: PoolMode = "transaction",
        default_pool_size: int = 20,
        max_client_conn: int = 1000,
        settings: Mapping[str, str] | None = None,
        release: str | None = None,
    ) -> None:
        self._release = release
        self._user, self._password = server.superuser, server.password
        self._upstream: Endpoint = upstream or server
        self._settings = {
            "listen_addr": HOST,
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_user": self._user,
            "auth_query": AUTH_QUERY,
            "admin_users": self._user,
            "pool_mode": pool_mode,
            "default_pool_size": str(default_pool_size),
            "max_client_conn": str(max_client_conn),
            **(settings or {}),
        }
        self._account = postgres_install.unprivileged_account()
        self._folder: Path | None = None
        self._guardian: Guardian | None = None
        self._port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it. Returns when it accepts connections. Raises RuntimeError, with the log."""
        if self._folder is not None:
            raise RuntimeError("PgBouncer runs already")
        self._program = _program(self._release)
        self._folder = postgres_install.temporary_folder(self._account, prefix="devkit-pgbouncer-")
        atexit.register(self.stop)
        try:
            self._guardian = Guardian(self._folder)
            self._launch_on_a_free_port(self._folder)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it and remove its files. Its clients lose their connections. On a stopped one it does nothing."""
        if self._folder is None:
            return
        atexit.unregister(self.stop)
        self._end()
        shutil.rmtree(self._folder)
        if self._guardian is not None:
            self._guardian.dismiss()
        self._folder = self._port = self._guardian = None

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1. Raises RuntimeError while it is stopped."""
        if self._port is None:
            raise RuntimeError("PgBouncer is stopped: use it inside a with block")
        return self._port

    @property
    def version(self) -> tuple[int, ...]:
        """What it says of itself, such as ``(1, 18, 0)``. Raises RuntimeError while it is stopped."""
        said = self.admin("SHOW VERSION")[0]["version"]
        return tuple(int(number) for number in re.findall(r"\d+", said))

    def admin(self, command: str) -> list[dict[str, Any]]:
        """Run ``command`` on PgBouncer's own console and return its rows: ``SHOW SERVERS``, ``PAUSE``, ``RECONNECT``.

        https://www.pgbouncer.org/usage.html#admin-console
        """
        with psycopg.connect(
            host=HOST, port=self.port, user=self._user, password=self._password, dbname="pgbouncer", autocommit=True
        ) as connection:
            cursor = connection.cursor(row_factory=dict_row).execute(command.encode())
            return cursor.fetchall() if cursor.description else []

    def log(self) -> str:
        """What it has written since the start. Raises RuntimeError while it is stopped."""
        if self._folder is None:
            raise RuntimeError("PgBouncer is stopped: use it inside a with block")
        log = self._folder / "log"
        return log.read_text(errors="replace") if log.exists() else ""

    def _launch_on_a_free_port(self, folder: Path) -> None:
        # The port is free when it is chosen and may be taken when PgBouncer binds it: then another one.
        for _ in range(PORT_ATTEMPTS):
            self._port = free_port()
            if self._launch(folder, self._port):
                return
        raise RuntimeError(f"{PORT_ATTEMPTS} ports were taken before PgBouncer could bind them:\n{self.log()}")

    def _launch(self, folder: Path, port: int) -> bool:
        """Start it and wait until it is ready. False if the port is taken; RuntimeError if it ends or hangs."""
        read_before = len(self.log())
        configuration = self._write(folder, port)
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program.path, configuration],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env={**ENVIRONMENT, **self._program.environment},
                start_new_session=True,  # Ctrl-C ends this process, which then ends PgBouncer in its own way
            )
        self._watch(self._process.pid)
        give_up_at = time.monotonic() + START_S
        while "process up" not in (said := self.log()[read_before:]):
            if "ddress already in use" in said:
                self._end()
                return False
            if self._process.poll() is not None:
                raise RuntimeError(f"PgBouncer ended with {self._process.returncode}:\n{self.log()}")
            if time.monotonic() > give_up_at:
                raise RuntimeError(f"PgBouncer was not ready after {START_S:.0f} s:\n{self.log()}")
            time.sleep(POLL_S)
        return True

    def _write(self, folder: Path, port: int) -> Path:
        users = folder / "userlist.txt"
        lines = [
            "[databases]",
            f"* = host={self._upstream.host} port={self._upstream.port}",
            "[pgbouncer]",
            f"listen_port = {port}",
            f"auth_file = {users}",
            *(f"{name} = {value}" for name, value in self._settings.items()),
        ]
        if self._account:
            # PgBouncer gives root up by itself, after it was started: it may lie where `nobody` cannot enter.
            lines.append(f"user = {pwd.getpwuid(self._account['user']).pw_name}")
        configuration = folder / "pgbouncer.ini"
        for file, text in ((configuration, "\n".join(lines)), (users, f'"{self._user}" "{self._password}"')):
            file.touch(mode=0o600)
            file.write_text(text + "\n")
            postgres_install.give(file, self._account)
        return configuration

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        # Since 1.23 SIGTERM waits for the clients to leave; before, it was the end at once.
        for escalation in (signal.SIGTERM, signal.SIGKILL):
            process.send_signal(escalation)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
                break
        self._watch(None)

    def _watch(self, pid: int | None) -> None:
        if self._guardian is not None:
            self._guardian.watch(pid)
