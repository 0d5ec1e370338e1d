"""The Runtime Interface Emulator (RIE) as a process: its ports, its output, and the sandbox of processes below it.

The binary is the one that the package ``aws-sam-cli`` carries for its containers; it runs without one as well. What an
invocation is belongs to ``environment``.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from devkit.extras import require

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

HOST = "127.0.0.1"
INVOKE_PATH = "/2015-03-31/functions/function/invocations"
START_S = 10.0
STOP_S = 5.0  # the RIE itself gives an extension 2 s
DYING_S = 0.5
POLL_S = 0.002


def binary() -> Path:
    """The RIE for this machine. Raises RuntimeError where there is none."""
    if sys.platform != "linux":
        raise RuntimeError(f"the Lambda runtime needs Linux, and this is {sys.platform}: use `make sam-local` here")
    require("lambda")
    package = importlib.util.find_spec("samcli")
    if package is None or not package.submodule_search_locations:
        raise RuntimeError("the runtime interface emulator is not there: the package aws-sam-cli carries it")
    architecture = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
    path = Path(package.submodule_search_locations[0]) / "local" / "rapid" / f"aws-lambda-rie-{architecture}"
    if not path.is_file():
        raise RuntimeError(f"aws-sam-cli carries no runtime interface emulator for {architecture}")
    return path


@dataclass(frozen=True)
class Process:
    """A line of /proc/<pid>/stat. The letters of ``state`` are those of ps: T is stopped, Z has ended."""

    pid: int
    state: str
    parent: int
    session: int


class Emulator:
    """One RIE. ``runtime`` is the command that it starts at the first invocation, with ``environment`` in ``folder``.

    ``output`` is the file descriptor for what the function and the RIE print; the RIE's own log stays here, for errors.
    """

    def __init__(self, runtime: Sequence[str], environment: Mapping[str, str], folder: Path, output: int) -> None:
        self._runtime_pid: int | None = None
        self._stopped: list[Process] = []
        with contextlib.ExitStack() as resources:
            self._errors = resources.enter_context(tempfile.TemporaryFile())
            self._reserved = [resources.enter_context(_reserved_port()) for _ in range(2)]
            self._port, runtime_api = (reserved.getsockname()[1] for reserved in self._reserved)
            self.process = subprocess.Popen(
                [
                    binary(),
                    *("--runtime-interface-emulator-address", f"{HOST}:{self._port}"),
                    *("--runtime-api-address", f"{HOST}:{runtime_api}"),
                    *runtime,
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=self._errors,
                cwd=folder,
                env=environment,
                # The session is what tells the sandbox's processes from all others, whoever their parent is by now.
                start_new_session=True,
            )
            self._resources = resources.pop_all()

    def wait_until_listening(self) -> None:
        """Returns when invocations are accepted. Raises RuntimeError, with the RIE's log, when that takes too long."""
        wait_until(self._listens, START_S, lambda: f"the emulator does not listen:\n{self._log()}")
        for reserved in self._reserved:
            reserved.close()

    def post(self, body: str, *, timeout_s: float) -> tuple[int, bytes]:
        """The HTTP status and the answer to an invocation. Raises RuntimeError, with the RIE's log, without one."""
        connection = http.client.HTTPConnection(HOST, self._port, timeout=timeout_s)
        try:
            connection.request("POST", INVOKE_PATH, body.encode())
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            # A process that was killed closes its sockets a moment before it counts as ended.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(DYING_S)
            raise RuntimeError(f"the emulator gave no answer:\n{self._log()}") from error
        finally:
            connection.close()

    def runtime_pid(self) -> int | None:
        """The process that the RIE has started, if it lives."""
        # The last one found is asked first: to look through all of /proc costs more than a warm invocation.
        known = _process(self._runtime_pid) if self._runtime_pid is not None else None
        if known is None or not self._is_runtime(known):
            self._runtime_pid = next((p.pid for p in self.sandbox() if self._is_runtime(p)), None)
        return self._runtime_pid

    def sandbox(self) -> list[Process]:
        """The live processes of the session, without the RIE."""
        return processes(self.process.pid, apart_from=self.process.pid)

    def signal_sandbox(self, number: signal.Signals) -> None:
        """Send a signal to each process of the sandbox."""
        _signal_all(self.sandbox(), number)

    def stop(self) -> None:
        """Stop each process of the sandbox. Returns when all stand, those that were made meanwhile too."""

        def all_stand() -> bool:
            self._stopped = self.sandbox()
            _signal_all([process for process in self._stopped if process.state != "T"], signal.SIGSTOP)
            return all(process.state == "T" for process in self._stopped)

        wait_until(all_stand, STOP_S, lambda: f"these processes do not stop: {self.sandbox()}")

    def resume(self) -> None:
        """Let those that ``stop`` has stopped go on."""
        _signal_all(self._stopped, signal.SIGCONT)
        self._stopped = []

    def end(self) -> None:
        """SIGTERM, which makes the RIE end its runtime, then SIGKILL for all that is left. Returns when nothing is."""
        self.signal_sandbox(signal.SIGCONT)  # a stopped process would sleep through its SIGTERM
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        # Children that the function left behind, and the runtime of an RIE that had to be killed.
        self.signal_sandbox(signal.SIGKILL)
        wait_until(lambda: not self.sandbox(), STOP_S, lambda: f"these processes do not end: {self.sandbox()}")
        self._resources.close()

    def _is_runtime(self, process: Process) -> bool:
        return process.parent == self.process.pid and process.state != "Z"

    def _listens(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"the emulator ended with {self.process.returncode}:\n{self._log()}")
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection((HOST, self._port)):
            return True
        return False

    def _log(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")


class Output:
    """The lines written to a pipe, whose end for the writers is ``writer``."""

    # Of one write, which a pipe keeps together, and of no function's making.
    _MARK = b"\x00devkit\x00\n"

    def __init__(self) -> None:
        reader, self.writer = os.pipe()
        self.lines: list[str] = []
        self._open = True
        self._one_at_a_time = threading.Lock()
        self._marks: SimpleQueue[int] = SimpleQueue()
        self._thread = threading.Thread(target=self._read, args=(reader,), name="devkit-output", daemon=True)
        self._thread.start()

    def drain(self) -> int:
        """Wait until ``lines`` has everything written until now. Returns how many lines that are."""
        # A mark through the pipe itself: what was written before it is read before it.
        with self._one_at_a_time:
            if not self._open:
                return len(self.lines)
            os.write(self.writer, self._MARK)
            return self._marks.get()

    def close(self) -> None:
        """Read what is left and close both ends. A second time it does nothing."""
        with self._one_at_a_time:
            if not self._open:
                return
            self._open = False
            os.write(self.writer, self._MARK)
            self._thread.join()
            os.close(self.writer)

    def _read(self, reader: int) -> None:
        with os.fdopen(reader, "rb") as pipe:
            for raw in pipe:
                # A mark may follow a line that its writer did not end.
                line, mark, _ = raw.partition(self._MARK)
                if line:
                    self.lines.append(line.decode(errors="replace").rstrip("\r\n"))
                if mark and not self._open:
                    return
                if mark:
                    self._marks.put(len(self.lines))


def wait_until(condition: Callable[[], bool], timeout_s: float, failure: Callable[[], str]) -> None:
    """Return when ``condition`` holds. Raises RuntimeError with the text of ``failure`` when it does not in time."""
    give_up_at = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > give_up_at:
            raise RuntimeError(failure())
        time.sleep(POLL_S)


def _reserved_port() -> socket.socket:
    """A socket that is bound to a free port and does not listen.

    Linux gives the port to no other socket that asks for any, while the RIE, which like this one sets SO_REUSEADDR, may
    listen on it. A port that is looked up and let go can be lost in between, and the RIE then panics.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind((HOST, 0))
    return reserved


def _signal_all(found: Sequence[Process], number: signal.Signals) -> None:
    for process in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def processes(session: int, *, apart_from: int | None = None) -> list[Process]:
    """The live processes of a session, whoever their parent is by now."""
    found = (_process(int(name)) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 - ten times a Path
    return [p for p in found if p and p.session == session and p.pid != apart_from and p.state != "Z"]


def _process(pid: int) -> Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:  # noqa: PTH123 - likewise, and a fleet asks often
            stat = file.read(1000)
    except (FileNotFoundError, ProcessLookupError):  # it ended in between
        return None
    # The second field is the program's name in parentheses, which may hold anything, parentheses included.
    state, parent, _group, session = stat.rpartition(b")")[2].split()[:4]
    return Process(pid, state.decode(), int(parent), int(session))
