"""A process that is killed leaves no server and no folder behind."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devkit.servers.guardian import Guardian
from devkit.servers.ports import HOST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GONE_S = 20.0

POSTGRES = """
from devkit.servers.postgres import Postgres
server = Postgres()
server.start()
"""
RESTARTED = POSTGRES + "server.restart()\n"
PGBOUNCER = """
from types import SimpleNamespace
from devkit.servers.pgbouncer import PgBouncer
server = PgBouncer(SimpleNamespace(superuser="postgres", password="", host="127.0.0.1", port=1))
server.start()
"""
STAY = "print(server.port, server._folder, flush=True)\ninput()\n"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def comes_true(condition: Callable[[], bool]) -> bool:
    give_up_at = time.monotonic() + GONE_S
    while not condition() and time.monotonic() < give_up_at:
        time.sleep(0.02)
    return condition()


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((HOST, port)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("program", [POSTGRES, RESTARTED, PGBOUNCER], ids=["postgres", "restarted", "pgbouncer"])
def test_a_killed_process_takes_its_server_with_it(program: str) -> None:
    """SIGKILL leaves it no time to do anything about that."""
    with subprocess.Popen(
        [sys.executable, "-c", program + STAY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port, folder = process.stdout.readline().split()
        assert listens(int(port))
        assert Path(folder).is_dir()
        process.send_signal(signal.SIGKILL)
    assert comes_true(lambda: not listens(int(port)))
    assert comes_true(lambda: not Path(folder).exists())


def test_a_guardian_that_is_dismissed_touches_nothing(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    """The server had its ordinary end, and its number may be another's by now."""
    guardian = Guardian(tmp_path)
    guardian.watch(sleeper.pid)
    guardian.dismiss()
    assert sleeper.poll() is None
    assert tmp_path.is_dir()


def test_a_server_survives_its_guardian(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    """It is there for the worst case alone."""
    guardian = Guardian(tmp_path)
    guardian._process.kill()
    guardian._process.wait()
    guardian.watch(sleeper.pid)
    guardian.dismiss()
    assert sleeper.poll() is None
