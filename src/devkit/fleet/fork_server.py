"""Light execution environments: a process each, forked from one that has the libraries loaded, so hundreds fit.

What the function can tell: modules, engine, connections, random numbers and clock are the process's own, as in Lambda,
and a freeze is SIGSTOP. What is not as in Lambda: no runtime API, so no extension and no SIGTERM; an environment ends
by SIGKILL, as a function without extensions does. For the rest there are real ones (``environment``).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from devkit.lambda_runtime.environment import TIMEOUT_ERROR, lambda_variables

from .environment import EXIT_ERROR, Answer
from .functions import CODE

if TYPE_CHECKING:
    from typing import Self

    from .environment import Function

START_S = 30.0
END_S = 5.0
MESSAGE_BYTES = 64 * 1024


class ForkServer:
    """The process that environments are forked from, for the length of a ``with`` block; its end kills them."""

    def __enter__(self) -> Self:
        self._lock = threading.Lock()
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._errors = tempfile.TemporaryFile()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "devkit.fleet.fork_server_process", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                # It imports from where this process does, and knows nothing else of it.
                env={"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,  # Ctrl-C ends this process, which then ends the fork server
            )
        self._orders.settimeout(START_S)
        try:
            self._receive()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # It ends when nobody holds the other end any more, and its children with it, frozen ones too.
        self._orders.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    @property
    def pid(self) -> int:
        """Its process, whose session every environment is in."""
        return self._process.pid

    def fork(self, function: Function) -> tuple[int, socket.socket]:
        """A process that loads ``function``: its pidfd, which cannot come to mean another one, and the line to it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        variables = lambda_variables(
            handler=function.handler, code=[CODE], timeout_s=function.timeout_s, memory_mb=512, name=function.name
        )
        order = {"handler": function.handler, "name": function.name, "variables": {**variables, **function.variables}}
        with theirs, self._lock:
            socket.send_fds(self._orders, [json.dumps(order).encode()], [theirs.fileno()])
            pidfd = self._receive()
        return pidfd, ours

    def _receive(self) -> int:
        """The file descriptor that the fork server sends; -1 with its greeting."""
        message, descriptors, _, _ = socket.recv_fds(self._orders, MESSAGE_BYTES, 1)
        if not message:
            self._errors.seek(0)
            raise RuntimeError(f"the fork server has ended:\n{self._errors.read().decode(errors='replace')}")
        return descriptors[0] if descriptors else -1


class LightEnvironment:
    """An environment from ``fork_server``. It loads the function at once; an invocation waits for that."""

    def __init__(self, function: Function, fork_server: ForkServer) -> None:
        self._function = function
        self._fork_server = fork_server
        self._pidfd, self._line = fork_server.fork(function)
        self._frozen = False
        self._ending = threading.Lock()

    def invoke(self, event: dict[str, Any]) -> Answer:
        if self._pidfd < 0:
            self._pidfd, self._line = self._fork_server.fork(self._function)
        if self._frozen:
            self._signal(signal.SIGCONT)
            self._frozen = False
        deadline_s = time.time() + self._function.timeout_s
        self._line.settimeout(self._function.timeout_s)
        try:
            self._line.send(json.dumps({"event": event, "deadline_s": deadline_s}).encode())
            answer = self._line.recv(MESSAGE_BYTES)
        except TimeoutError:
            self.end()
            return Answer(error=TIMEOUT_ERROR, message=f"Task timed out after {self._function.timeout_s:.2f} seconds")
        except OSError as error:
            self.end()
            return Answer(error=EXIT_ERROR, message=str(error))
        if not answer:
            self.end()
            return Answer(error=EXIT_ERROR, message="the environment ended without an answer")
        told = json.loads(answer)
        return Answer(told["payload"], told["error"], told["message"], Counter(told["events"]))

    def freeze(self) -> None:
        self._frozen = True
        self._signal(signal.SIGSTOP)

    def end(self) -> None:
        with self._ending:  # whoever waits for its answer sees it end, and ends it too
            if self._pidfd < 0:
                return
            self._signal(signal.SIGKILL)
            select.select([self._pidfd], [], [], END_S)  # readable when it has ended
            os.close(self._pidfd)
            self._line.close()
            self._pidfd, self._frozen = -1, False

    def _signal(self, number: signal.Signals) -> None:
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)
