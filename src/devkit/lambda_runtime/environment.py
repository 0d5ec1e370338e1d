"""One real Lambda execution environment on this machine, without Docker.

Owns what Lambda does around a function: variables built from nothing, invocations and their log lines, the freeze in
between, the reset after a timeout or a crash, the shutdown. The function runs under ``awslambdaric``, Lambda's own
runtime client, below AWS's Runtime Interface Emulator (``emulator``).

Not as in Lambda: the first invocation initialises within the function's timeout (Lambda gives Init 10 s of its own),
CPU and memory have no limit, and there is no IAM.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import sys
import threading
import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .emulator import Emulator, Output

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Self

# The runtime that this Python is.
RUNNING = f"python{sys.version_info.major}.{sys.version_info.minor}"

RESET_S = 10.0  # beyond the function's timeout: the RIE ends the runtime before it answers

TIMEOUT_ERROR = "Sandbox.Timedout"  # what Lambda's API calls it; the RIE answers in prose

# What the RIE adds to the function's own output. It follows a line that the function did not end.
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_PLATFORM_LINE = re.compile(rf"(?:START|END|REPORT) RequestId: {_UUID}(?:\s.*)?$")

# What awslambdaric answers for a function that raised; it passes the answer with the status of a success.
_ERROR_KEYS = {"errorMessage", "errorType", "requestId", "stackTrace"}


def lambda_variables(
    *, handler: str, code: Sequence[Path], timeout_s: int, memory_mb: int, name: str, runtime: str = RUNNING
) -> dict[str, str]:
    """What Lambda sets in the environment of every function; the emulator adds the address of its API."""
    # https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin:/opt/bin",
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "PYTHONPATH": os.pathsep.join(str(Path(folder).resolve()) for folder in code),
        "_HANDLER": handler,
        "LAMBDA_TASK_ROOT": str(Path(code[0]).resolve()),
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{runtime}",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory_mb),
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout_s),
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@dataclass(frozen=True)
class Invocation:
    """What one invocation did.

    ``payload`` is the decoded answer, Lambda's error document if it failed. ``error`` is then its ``errorType``:
    the exception's name, ``Runtime.ExitError`` after a crash, ``Sandbox.Timedout`` after a timeout. ``duration_ms`` is
    measured at the caller and includes Init where ``cold`` is true. ``logs`` are the lines that the function printed.
    """

    payload: Any
    error: str | None
    duration_ms: float
    cold: bool
    logs: tuple[str, ...]


class LambdaEnvironment:
    """An execution environment for the function ``handler`` (``module.function``), for the length of a ``with`` block.

    ``environment`` are the function's variables: the process has these, those that Lambda sets, and none of this
    machine's. ``code`` are the folders to import from, before what is installed, the first of them in the place of
    ``/var/task``. ``timeout_s`` is enforced, ``memory_mb`` is only told. ``python`` is the interpreter; it has to have
    awslambdaric. ``runtime`` is what the function is told that it runs on, by default this Python. Linux only.
    """

    def __init__(
        self,
        *,
        handler: str,
        code: Sequence[Path],
        environment: Mapping[str, str] | None = None,
        timeout_s: int = 3,
        memory_mb: int = 512,
        name: str = "function",
        python: Path | str = sys.executable,
        runtime: str = RUNNING,
    ) -> None:
        self._task_root = Path(code[0]).resolve()
        self._timeout_s = timeout_s
        self._runtime = [str(python), "-m", "awslambdaric", handler]
        self._environment = {
            **lambda_variables(
                handler=handler, code=code, timeout_s=timeout_s, memory_mb=memory_mb, name=name, runtime=runtime
            ),
            **(environment or {}),
        }
        self._one_at_a_time = threading.Lock()
        self._output: Output | None = None
        self._emulator: Emulator | None = None
        self._frozen = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def start(self) -> None:
        """Start the emulator. The runtime starts with the first invocation. Raises RuntimeError where it cannot."""
        if self._emulator is not None:
            raise RuntimeError("the environment runs already")
        self._output = Output()
        atexit.register(self.shutdown)
        try:
            self._emulator = Emulator(self._runtime, self._environment, self._task_root, self._output.writer)
            self._emulator.wait_until_listening()
        except BaseException:
            self.shutdown()
            raise

    def invoke(self, payload: object) -> Invocation:
        """Send ``payload`` as JSON to the function and wait for its answer, at most for the function's timeout.

        A failure of the function is a result, not an exception; the next invocation finds a new runtime where this one
        ended. A frozen environment is thawed first. One at a time, as in Lambda: a second caller waits.
        """
        body = json.dumps(payload)
        with self._one_at_a_time:
            emulator, output = self._started()
            self.thaw()
            runtime = emulator.runtime_pid()
            printed_before = output.drain()
            started_at = time.perf_counter()
            status, answer = emulator.post(body, timeout_s=self._timeout_s + RESET_S)
            duration_ms = (time.perf_counter() - started_at) * 1000
            printed = output.lines[printed_before : output.drain()]
            # None where it ended in this invocation, which then was warm: otherwise there was no runtime before it.
            cold = runtime is None or emulator.runtime_pid() not in {None, runtime}
        decoded, error = _outcome(status, answer)
        return Invocation(decoded, error, duration_ms, cold, tuple(_function_lines(printed)))

    def freeze(self) -> None:
        """Stop the function's processes where they are, as Lambda does between invocations. Returns when they stand.

        Raises RuntimeError while there is no runtime: before the first invocation and after a reset.
        """
        emulator, _ = self._started()
        if emulator.runtime_pid() is None:
            raise RuntimeError("there is no runtime to freeze: the first invocation starts it")
        self._frozen = True
        emulator.stop()

    def thaw(self) -> None:
        """Let the function's processes go on. On an environment that is not frozen it does nothing."""
        emulator, _ = self._started()
        if self._frozen:
            emulator.resume()
            self._frozen = False

    def shutdown(self) -> None:
        """End the environment as Lambda does: thaw, SIGTERM where an extension is registered, SIGKILL.

        Returns when none of its processes is left. ``logs`` stay. On an environment that has ended it does nothing.
        """
        atexit.unregister(self.shutdown)
        emulator, self._emulator = self._emulator, None
        self._frozen = False
        if emulator is not None:
            emulator.end()
        if self._output is not None:
            self._output.close()

    @property
    def alive(self) -> bool:
        """Whether the environment can be invoked."""
        return self._emulator is not None and self._emulator.process.poll() is None

    @property
    def logs(self) -> list[str]:
        """All lines so far, the platform's START, END and REPORT included."""
        if self._output is None:
            return []
        return self._output.lines[: self._output.drain()]

    def runtime_pid(self) -> int | None:
        """The process id of the Python that runs the function; None before the first invocation and after a reset."""
        return self._emulator.runtime_pid() if self._emulator is not None else None

    def _started(self) -> tuple[Emulator, Output]:
        if self._emulator is None or self._output is None:
            raise RuntimeError("the environment does not run: use it inside a with block")
        return self._emulator, self._output


def _outcome(status: int, answer: bytes) -> tuple[Any, str | None]:
    """The payload, and the type of the error if it is one."""
    try:
        payload = json.loads(answer)
    except ValueError:
        # The only answer that is not JSON: "Task timed out after 3.00 seconds".
        return {"errorType": TIMEOUT_ERROR, "errorMessage": answer.decode()}, TIMEOUT_ERROR
    if status != HTTPStatus.OK or (isinstance(payload, dict) and payload.keys() == _ERROR_KEYS):
        return payload, str(payload["errorType"])
    return payload, None


def _function_lines(lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        own = _PLATFORM_LINE.sub("", line)
        if own or own == line:
            yield own
