"""The fork server's process and the environments that it forks.

``fork_server`` starts it: ``python -m devkit.fleet.fork_server_process <descriptor>``.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

from .environment import events_in, first_line

if TYPE_CHECKING:
    from collections.abc import Callable

# What the functions import, so that an environment does not load it once more. Nothing that opens or reads anything.
LIBRARIES = (
    "boto3",
    "db",
    "db.work.once",
    "db.credentials.secrets_manager",
    "devkit.lambda_runtime.context",
    "sqlalchemy.dialects.postgresql.psycopg",
)
MESSAGE_BYTES = 64 * 1024
MESSAGE_CHARS = 300
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(descriptor: int) -> None:
    """Fork an environment for each order, until the other side has gone."""
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # the collector would touch, and so copy, every page in every child
    with socket.socket(fileno=descriptor) as orders:
        orders.send(b"ready")
        while True:
            order, descriptors, _, _ = socket.recv_fds(orders, MESSAGE_BYTES, 1)
            if not order:
                return
            with socket.socket(fileno=descriptors[0]) as line:
                _bury()
                fork_server = os.getpid()
                pid = os.fork()
                if pid == 0:
                    orders.close()
                    _live(line, json.loads(order), fork_server)
                # Before anybody waits for it, so the number is still the child's.
                pidfd = os.pidfd_open(pid)
            socket.send_fds(orders, [b"%d" % pid], [pidfd])
            os.close(pidfd)


def _bury() -> None:
    """Wait for the children that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _live(line: socket.socket, order: dict[str, Any], fork_server: int) -> None:
    """Be an environment until the fleet hangs up. Does not return."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != fork_server:
        os._exit(1)
    try:
        os.environ.clear()
        os.environ.update(order["variables"])
        sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)
        output = _Output()
        handler = _loaded(order["handler"])
        while request := line.recv(MESSAGE_BYTES):
            line.send(json.dumps(_answer(handler, json.loads(request), order["name"], output)).encode())
    finally:
        os._exit(0)


def _loaded(name: str) -> Callable[..., Any]:
    """The handler; where its module cannot be loaded, one that says why, as Lambda does at every invocation."""
    module, _, function = name.rpartition(".")
    try:
        handler: Callable[..., Any] = getattr(importlib.import_module(module), function)
    except Exception as error:  # noqa: BLE001 - whatever a module may raise
        reason = error

        def refuse(*_: object) -> None:
            raise reason

        return refuse
    return handler


def _answer(handler: Callable[..., Any], request: dict[str, Any], name: str, output: _Output) -> dict[str, Any]:
    from db.errors import DbError
    from devkit.lambda_runtime.context import LambdaContext

    context = LambdaContext(deadline_s=request["deadline_s"], function_name=name)
    told: dict[str, Any] = {"payload": None, "error": None, "message": ""}
    try:
        told["payload"] = handler(request["event"], context)
    except Exception as error:  # noqa: BLE001 - as in Lambda, an exception of any kind is the answer
        behind = f" ({first_line(str(error.__cause__))})" if isinstance(error, DbError) and error.__cause__ else ""
        told |= {"error": type(error).__name__, "message": (first_line(str(error)) + behind)[:MESSAGE_CHARS]}
    return told | {"events": events_in(output.take())}


class _Output:
    """What this process prints, in memory: log lines are what the fleet counts by."""

    def __init__(self) -> None:
        self._file = os.memfd_create("output")
        os.dup2(self._file, 1)
        os.dup2(self._file, 2)

    def take(self) -> list[str]:
        """The lines since the last time."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        size = os.lseek(self._file, 0, os.SEEK_CUR)
        text = os.pread(self._file, size, 0)
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)
        return text.decode(errors="replace").splitlines()


if __name__ == "__main__":
    main(int(sys.argv[1]))
