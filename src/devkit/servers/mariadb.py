"""A private MariaDB server: made, started, ended and removed by this process.

Owns the server's life, its data and the superuser. The program is that of Debian's package ``mariadb-server-core``
(10.11 in Debian 12), which is fetched once, without root, where it is not installed. How it is made and set, where
nobody says otherwise, is ``mariadb_settings``; where its data lie, and who runs it, is the same as PostgreSQL's.
"""

from __future__ import annotations

import atexit
import contextlib
import pwd
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

from devkit.extras import require

require("mariadb")  # before the import that would fail without a word about the extra

import pymysql  # noqa: E402 - see above

from . import postgres_install  # noqa: E402
from .debian import program  # noqa: E402
from .guardian import Guardian  # noqa: E402
from .mariadb_settings import CLIENT_SETTINGS, DEFAULT_SETTINGS, bootstrap_sql  # noqa: E402
from .passwords import new_password  # noqa: E402
from .ports import HOST, free_port  # noqa: E402
from .postgres_settings import ENVIRONMENT  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Self

SUPERUSER = "root"
START_S = 30.0
STOP_S = 10.0
POLL_S = 0.01
LEAVE_S = 2.0
PORT_ATTEMPTS = 5

# SIGKILL is the crash: the server has no signal for one.
STOP_SIGNALS = {"fast": signal.SIGTERM, "immediate": signal.SIGKILL}

_CLIENTS = """
    SELECT id FROM information_schema.processlist
    WHERE id <> connection_id() AND db = %s AND user = coalesce(%s, user) ORDER BY id
"""


class MariaDb:
    """A MariaDB server on a free port of 127.0.0.1, for the length of a ``with`` block.

    It starts in about a second, asks for passwords, and forgets everything when it stops. ``settings`` are options of
    ``mariadbd``, for example ``{"max-connections": "20"}``, and win over the defaults, which trade durability for
    speed. Under root, ``nobody`` runs it. It ends with this process, even if that is killed.
    """

    host = HOST
    superuser = SUPERUSER

    def __init__(self, *, settings: Mapping[str, str] | None = None) -> None:
        self.password = new_password()
        self._settings = {**DEFAULT_SETTINGS, **(settings or {})}
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
        """Make the data and start it. Returns when it accepts connections. Raises RuntimeError, with the log."""
        if self._folder is not None:
            raise RuntimeError("the server runs already")
        self._program = program("mariadbd", "mariadb-server-core")
        self._folder = postgres_install.temporary_folder(self._account, prefix="devkit-mariadb-")
        atexit.register(self.stop)
        try:
            self._guardian = Guardian(self._folder)
            self._make_data(self._folder)
            self._launch_on_a_free_port()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server and remove its data. On a stopped server it does nothing."""
        if self._folder is None:
            return
        atexit.unregister(self.stop)
        self._end("fast")
        shutil.rmtree(self._folder)
        if self._guardian is not None:
            self._guardian.dismiss()
        self._folder = self._port = self._guardian = None

    def restart(self, mode: str = "fast") -> None:
        """Stop and start again, on the same port and with the same data.

        ``fast`` ends the clients' connections; ``immediate`` is a crash, after which the server recovers from its log.
        """
        self._end(mode)
        for _ in range(PORT_ATTEMPTS):
            if self._launch(self.port):
                return
            time.sleep(POLL_S)
        raise RuntimeError(f"another program took port {self.port} during the restart:\n{self.log()}")

    def kill(self) -> None:
        """End the server as a crash does. Its data stay: ``restart`` brings it back, and ``stop`` removes them."""
        self._end("immediate")

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1. Raises RuntimeError while the server is stopped."""
        if self._port is None:
            raise RuntimeError("the server is stopped: use it inside a with block")
        return self._port

    def execute(
        self, query: str, params: Sequence[Any] | None = None, *, database: str | None = None
    ) -> list[tuple[Any, ...]]:
        """Run one statement as superuser, in autocommit, over a connection of its own. Returns its rows, if any."""
        with self.as_superuser(database) as connection, connection.cursor() as cursor:
            cursor.execute(query, params)
            return list(cursor.fetchall())

    def as_superuser(self, database: str | None = None) -> Any:
        """A connection as superuser, in autocommit: a context manager, which closes it."""
        return pymysql.connect(
            host=HOST,
            port=self.port,
            user=SUPERUSER,
            password=self.password,
            database=database,
            autocommit=True,
            **CLIENT_SETTINGS,
        )

    def connections(self, database: str, user: str | None = None) -> list[int]:
        """The ids of the clients' connections to ``database`` (of ``user``), oldest first, without its own."""
        return [number for (number,) in self.execute(_CLIENTS, [database, user])]

    def all_left(self, database: str, user: str | None = None) -> bool:
        """Whether those connections are gone: true as soon as they are, false when some remain after 2 s."""
        give_up_at = time.monotonic() + LEAVE_S
        while self.connections(database, user):
            if time.monotonic() > give_up_at:
                return False
            time.sleep(POLL_S)
        return True

    def terminate(self, database: str, user: str | None = None) -> int:
        """End those connections from the server's side. Returns, once they are gone, their number."""
        ended = 0
        for number in self.connections(database, user):
            with contextlib.suppress(pymysql.err.OperationalError):  # it left by itself
                self.execute(f"KILL CONNECTION {number}")
                ended += 1
        self.all_left(database, user)
        return ended

    def log(self) -> str:
        """What the server has written since the start. Raises RuntimeError while the server is stopped."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def _home(self) -> Path:
        if self._folder is None:
            raise RuntimeError("the server is stopped: use it inside a with block")
        return self._folder

    @property
    def _log(self) -> Path:
        return self._home / "log"

    def _make_data(self, home: Path) -> None:
        data = home / "data"
        data.mkdir()
        postgres_install.give(data, self._account)
        script = bootstrap_sql(self._share, superuser=SUPERUSER, password=self.password)
        process = self._spawn("--bootstrap", reads=True)
        try:
            process.communicate(script.encode(), START_S)
        finally:
            process.kill()  # what has ended gets no signal
            process.wait()
            self._watch(None)
        if process.returncode != 0:
            raise RuntimeError(f"mariadbd --bootstrap ended with {process.returncode}:\n{self.log()}")

    @property
    def _share(self) -> Path:
        return self._program.path.parent.parent / "share" / "mysql"

    def _launch_on_a_free_port(self) -> None:
        # The port is free when it is chosen and may be taken when the server binds it: then another one.
        for _ in range(PORT_ATTEMPTS):
            self._port = free_port()
            if self._launch(self._port):
                return
        raise RuntimeError(f"{PORT_ATTEMPTS} ports were taken before the server could bind them:\n{self.log()}")

    def _launch(self, port: int) -> bool:
        """Start the server and wait until it is ready. False if the port is taken; RuntimeError if it ends or hangs."""
        read_before = len(self.log())
        self._process = self._spawn(f"--port={port}", f"--bind-address={HOST}", f"--socket={self._home / 'socket'}")
        give_up_at = time.monotonic() + START_S
        while "ready for connections" not in (said := self.log()[read_before:]):
            if self._process.poll() is not None:
                if "ddress already in use" in said:
                    return False
                raise RuntimeError(f"the server ended with {self._process.returncode}:\n{self.log()}")
            if time.monotonic() > give_up_at:
                raise RuntimeError(f"the server was not ready after {START_S:.0f} s:\n{self.log()}")
            time.sleep(POLL_S)
        return True

    def _spawn(self, *arguments: str, reads: bool = False) -> subprocess.Popen[bytes]:
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        if self._account:
            # It gives root up by itself, after it was started: it may lie where `nobody` cannot enter.
            options.append(f"--user={pwd.getpwuid(self._account['user']).pw_name}")
        places = {"datadir": self._home / "data", "tmpdir": self._home, "pid-file": self._home / "pid"}
        # None of the machine's plug-ins, which this may be another version than.
        places |= {"lc-messages-dir": self._share, "character-sets-dir": self._share / "charsets"}
        places |= {"plugin-dir": self._home}
        options += [f"--{name}={place}" for name, place in places.items()]
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [self._program.path, "--no-defaults", *options, *arguments],
                stdin=subprocess.PIPE if reads else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._home,
                env={**ENVIRONMENT, **self._program.environment},
                start_new_session=True,  # Ctrl-C ends this process, which then ends the server in its own way
            )
        self._watch(process.pid)
        return process

    def _end(self, mode: str) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for escalation in (STOP_SIGNALS[mode], signal.SIGKILL):
            process.send_signal(escalation)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
                break
        self._watch(None)

    def _watch(self, pid: int | None) -> None:
        if self._guardian is not None:
            self._guardian.watch(pid)
