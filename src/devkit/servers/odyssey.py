"""Odyssey in front of one database of an embedded server: another pooler of transactions, by another hand.

Owns the pooler's life and configuration. The program is that of Debian's package ``odyssey`` in its next release, the
first that has it. It is fetched once, without root. https://github.com/yandex/odyssey
"""

from __future__ import annotations

import atexit
import contextlib
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .debian_release import program_of
from .guardian import Guardian
from .pgbouncer import NEWEST
from .ports import HOST, free_port
from .postgres_settings import ENVIRONMENT

if TYPE_CHECKING:
    from typing import Self

    from .database import Database

START_S = 10.0
STOP_S = 2.0
POLL_S = 0.005
# What it leans on at start under systemd, and not here.
WITHOUT = ("systemd", "systemd-standalone-sysusers")

CONFIGURATION = """\
daemonize no
log_to_stdout yes
log_format "%p %l [%i %s] (%c) %m\\n"
workers 1
locks_dir "{folder}"
listen {{
    host "{host}"
    port {port}
}}
storage "server" {{
    type "remote"
    host "{database.host}"
    port {database.port}
}}
database "{database.name}" {{
{users}
}}
"""
USER = """\
    user "{name}" {{
        authentication "scram-sha-256"
        password "{password}"
        storage "server"
        storage_password "{password}"
        pool "transaction"
        pool_size {pool_size}
    }}"""


class Odyssey:
    """Odyssey on a free port of 127.0.0.1 in front of ``database``, pooling transactions, for the length of a ``with``.

    It serves both logins of the database, by their passwords of now, and opens ``pool_size`` (20) connections at most
    for each. It ends with this process, even if that is killed.
    """

    host = HOST

    def __init__(self, database: Database, *, pool_size: int = 20) -> None:
        logins = {database.owner: database.owner_password, database.app: database.app_password}
        self._users = "\n".join(
            USER.format(name=name, password=password, pool_size=pool_size) for name, password in logins.items()
        )
        self._database = database
        self._folder: Path | None = None
        self._port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it. Returns when it accepts connections. Raises RuntimeError, with the log."""
        if self._folder is not None:
            raise RuntimeError("Odyssey runs already")
        program = program_of(NEWEST, "odyssey", without=WITHOUT)
        self._folder = folder = Path(tempfile.mkdtemp(prefix="devkit-odyssey-"))
        atexit.register(self.stop)
        self._guardian = Guardian(folder)
        self._port = free_port()
        configuration = folder / "odyssey.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(
            CONFIGURATION.format(folder=folder, host=HOST, port=self._port, database=self._database, users=self._users)
        )
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [program, configuration],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=ENVIRONMENT,
                start_new_session=True,  # Ctrl-C ends this process, which then ends Odyssey in its own way
            )
        self._guardian.watch(self._process.pid)
        give_up_at = time.monotonic() + START_S
        while "listening on" not in (said := (folder / "log").read_text(errors="replace")):
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                self.stop()
                raise RuntimeError(f"Odyssey does not listen:\n{said}")
            time.sleep(POLL_S)

    def stop(self) -> None:
        """End it and remove its files. Its clients lose their connections. On a stopped one it does nothing."""
        if self._folder is None:
            return
        atexit.unregister(self.stop)
        for escalation in (signal.SIGTERM, signal.SIGKILL):
            self._process.send_signal(escalation)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)
                break
        self._guardian.watch(None)
        shutil.rmtree(self._folder)
        self._guardian.dismiss()
        self._folder = None

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1. Raises RuntimeError while it is stopped."""
        if self._folder is None:
            raise RuntimeError("Odyssey is stopped: use it inside a with block")
        return self._port
