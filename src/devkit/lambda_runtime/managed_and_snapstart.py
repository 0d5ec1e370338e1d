"""The kinds of execution environment that the Runtime Interface Emulator does not make here.

*Managed Instances*: one environment serves several events at a time, each in a process of its own, which
``awslambdaric`` forks before it imports the function. *SnapStart*: Init ends with a snapshot, and hooks run before it
and after each restore. The runtime is Lambda's own, the API that it talks to is ours (``runtime_api``). There is no
freeze, and a function that takes too long is not ended: for both there is ``environment``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .emulator import Output, processes, wait_until
from .environment import lambda_variables
from .runtime_api import RuntimeApi

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from .runtime_api import Answer

INIT_S = 30.0  # Lambda gives 10 s, and a laptop under tests is slower
SHUTDOWN_S = (
    0.5  # what an internal extension gets: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html
)
STOP_S = 5.0


class BareEnvironment:
    """An execution environment for ``handler``, initialised, for the length of a ``with`` block. Linux only.

    With ``workers`` it is one of Managed Instances that serves so many events at a time. With ``snap_start`` it stands
    at its snapshot until ``restore``. The other parameters are those of ``LambdaEnvironment``.
    """

    def __init__(
        self,
        *,
        handler: str,
        code: Sequence[Path],
        environment: Mapping[str, str] | None = None,
        timeout_s: int = 3,
        memory_mb: int = 2048,
        name: str = "function",
        python: Path | str = sys.executable,
        workers: int | None = None,
        snap_start: bool = False,
    ) -> None:
        kind = "snap-start" if snap_start else "on-demand"
        if workers is not None:
            kind = "lambda-managed-instances"
        self._workers = workers or 1
        self._timeout_s = timeout_s
        self._folder = Path(code[0]).resolve()
        self._command = [str(python), "-m", "awslambdaric", handler]
        self._variables = {
            **lambda_variables(handler=handler, code=code, timeout_s=timeout_s, memory_mb=memory_mb, name=name),
            "AWS_LAMBDA_INITIALIZATION_TYPE": kind,
            **({"AWS_LAMBDA_MAX_CONCURRENCY": str(workers)} if workers is not None else {}),
            **(environment or {}),
        }

    def __enter__(self) -> Self:
        """Start the runtime. Returns when its Init has ended; raises RuntimeError, with what it printed, if badly."""
        self.api = RuntimeApi(self._workers)
        self._output = Output()
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=self._output.writer,
            stderr=self._output.writer,
            cwd=self._folder,
            env={**self._variables, "AWS_LAMBDA_RUNTIME_API": self.api.address},
            start_new_session=True,
        )
        try:
            self._wait_until_ready()
        except BaseException:
            self.shutdown()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def invoke(self, payload: object) -> Answer:
        """Have the function handle ``payload``. Threads may call it at the same time, as many as there are workers.

        A failure of the function is a result; no answer within its timeout raises TimeoutError.
        """
        return self.api.invoke(payload, timeout_s=self._timeout_s)

    def restore(self) -> None:
        """Go on from the snapshot. Returns when the runtime is ready for an event; errors are those of the start."""
        self.api.restore()
        self._wait_until_ready()

    def pids(self) -> list[int]:
        """The processes that live: with workers, theirs after the one that started them."""
        return sorted(process.pid for process in processes(self._process.pid))

    def shutdown(self) -> None:
        """End the environment as Lambda does: SIGTERM where an extension is registered, then SIGKILL.

        Returns when none of its processes is left. ``logs`` stay. A second time it does nothing.
        """
        if self.api.extensions and self.pids():
            self._signal(signal.SIGTERM)
            with contextlib.suppress(RuntimeError):
                wait_until(lambda: not self.pids(), SHUTDOWN_S, lambda: "it takes too long")
        self._signal(signal.SIGKILL)
        wait_until(lambda: not self.pids(), STOP_S, lambda: f"these processes do not end: {self.pids()}")
        self._process.wait()
        self.api.close()
        self._output.close()

    @property
    def logs(self) -> list[str]:
        """All lines so far."""
        return self._output.lines[: self._output.drain()]

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _wait_until_ready(self) -> None:
        def failure() -> str:
            return f"Init does not end well: {self.api.init_error}\n" + "\n".join(self.logs)

        wait_until(lambda: self.api.ready.is_set() or self._process.poll() is not None, INIT_S, failure)
        if self.api.init_error is not None or self._process.poll() is not None:
            raise RuntimeError(failure())
