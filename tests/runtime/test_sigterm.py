"""What a process does with its SIGTERM, beside handlers of the user's and APIs of all kinds."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from devkit.lambda_runtime.runtime_api import RuntimeApi

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres

# A process that Lambda's API tells of its end; its argument is what there was before the layer. It is ready without a
# print(), for the signal may come before that returns, and what handles it prints too.
LISTENS = """
import os, signal, sys, time

if sys.argv[1] == "python":
    signal.signal(signal.SIGTERM, lambda number, frame: print("the user's own", flush=True) or os._exit(7))
elif sys.argv[1] == "ignore":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

import db
from sqlalchemy import text

@db.invocation
def handler(event, context):
    with db.begin() as tx:
        tx.execute(text("SELECT 1"))

handler({}, None)
if sys.argv[1] == "fork":
    heard, said = os.pipe()
    child = os.fork()
    if not child:
        os.write(said, b"1")  # a signal that comes while it is being forked is lost
        time.sleep(60)
    os.read(heard, 1)
    os.kill(child, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
os.write(1, b"ready\\n")
for _ in range(600):
    time.sleep(0.1)
"""


class Program:
    """A process of ours beside a Runtime API, that waits for its SIGTERM."""

    def __init__(self, before: str, database: Database, address: str) -> None:
        """Returns when it has used the database."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", LISTENS, before],
            env={"DB_URL": database.url(), "AWS_LAMBDA_RUNTIME_API": address},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.lines = list(itertools.takewhile("ready\n".__ne__, self.process.stdout))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self.process:
            self.process.kill()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        self.lines += self.process.communicate(timeout=30)[0].splitlines()
        return self.process.returncode


def closed(program: Program) -> list[int]:
    """How many connections each of its shutdown lines says it closed."""
    lines = [json.loads(line) for line in program.lines if '"database shutdown"' in line]
    return [line["closed"] for line in lines]


@pytest.fixture
def api() -> Iterator[RuntimeApi]:
    served = RuntimeApi()
    yield served
    served.close()


def test_it_ends_the_process_where_nobody_else_does(database: Database, api: RuntimeApi) -> None:
    """Well, and at once."""
    with Program("nothing", database, api.address) as program:
        assert program.end() == 0


def test_a_handler_of_the_users_has_the_last_word(database: Database, postgres: Postgres, api: RuntimeApi) -> None:
    """It is called when the connections are closed."""
    with Program("python", database, api.address) as program:
        assert program.end() == 7
        assert program.lines[-1] == "the user's own"
        assert closed(program) == [1]


def test_a_user_who_ignores_the_signal_is_let_alone(database: Database, postgres: Postgres, api: RuntimeApi) -> None:
    """The connections are closed, and the process goes on."""
    with Program("ignore", database, api.address) as program:
        program.process.send_signal(signal.SIGTERM)
        assert postgres.all_left(database.name, user=database.app)
        assert program.process.poll() is None
        assert program.end(signal.SIGKILL) == -signal.SIGKILL


def test_a_forked_child_ends_as_any_other(database: Database, api: RuntimeApi) -> None:
    """It is no environment: whoever terminates it sees the signal, and its parent keeps the connection."""
    with Program("fork", database, api.address) as program:
        assert f"{-signal.SIGTERM}\n" in program.lines
        program.end()
        assert closed(program) == [1]


class Babble(BaseHTTPRequestHandler):
    """A server that is no Extensions API."""

    def do_POST(self) -> None:
        self.wfile.write(b"what?\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass


def test_an_api_that_makes_no_sense_breaks_nothing(database: Database) -> None:
    """The connections are closed all the same, should a signal come."""
    with HTTPServer(("127.0.0.1", 0), Babble) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            with Program("nothing", database, f"127.0.0.1:{server.server_port}") as program:
                assert program.end() == 0
        finally:
            server.shutdown()
            thread.join()
    assert closed(program) == [1]


def test_an_api_that_is_not_there_breaks_nothing(database: Database) -> None:
    """Likewise."""
    with Program("nothing", database, "127.0.0.1:1") as program:
        assert program.end() == 0
