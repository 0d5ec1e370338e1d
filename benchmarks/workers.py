"""The handle on a ``worker``, and the turns that several of them take."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from .pairs import turns
from .peers.peer import Peer, Samples
from .works import Work

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Self

ROOT = Path(__file__).resolve().parents[1]
END_S = 10.0

# None of this machine's variables: PGSSLMODE, DB_POOL and the like would change what is measured.
ENVIRONMENT = {
    "PATH": os.defpath,
    "LANG": "C.UTF-8",
    "PYTHONPATH": str(ROOT / "src"),
    "POWERTOOLS_SERVICE_NAME": "benchmarks",
    "POWERTOOLS_METRICS_NAMESPACE": "Benchmarks",
    "PYTHONHASHSEED": "0",  # the same dictionaries in each run
}


class Worker:
    """A process of its own for one peer, for the length of a ``with`` block. It keeps to ``core``, if told one.

    ``under`` is a program with its arguments that runs it, and ``end_s`` how long it may take to end.
    """

    def __init__(
        self, peer: type[Peer], url: str, core: int | None = None, *, under: Sequence[str] = (), end_s: float = END_S
    ) -> None:
        self.peer = peer
        self._under, self._end_s = under, end_s
        self._url = url
        self._core = core
        self._resources = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._errors = self._resources.enter_context(tempfile.TemporaryFile("w+"))
        self._process = subprocess.Popen(
            [*self._under, sys.executable, "-m", "benchmarks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=ROOT,
            env=ENVIRONMENT,
            text=True,
        )
        assert self._process.stdin is not None  # noqa: S101 - for the type checker: both are pipes
        assert self._process.stdout is not None  # noqa: S101
        self._requests, self._answers = self._process.stdin, self._process.stdout
        # Not as an argument: the password of the server is nobody's business in a list of processes.
        start = {"module": self.peer.__module__, "class": self.peer.__name__, "url": self._url, "core": self._core}
        self._say(start)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended, and left something unread
            self._requests.close()
        try:
            self._process.wait(self._end_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()
        self._resources.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def sample(self, work: Work, times: int) -> Samples:
        """Have the peer do ``work`` so many times. Raises RuntimeError with what the process printed when it failed."""
        self._say({"work": work, "times": times})
        answer = self._answers.readline()
        if not answer:
            self._errors.seek(0)
            raise RuntimeError(f"{self.peer.name} failed at {work}:\n{self._errors.read()}")
        return Samples(**json.loads(answer))

    def _say(self, message: Mapping[str, object]) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended, and the missing answer will tell
            self._requests.write(json.dumps(message) + "\n")
            self._requests.flush()


def in_turn(
    workers: Iterable[Worker], work: Work, *, warm_up: int, rounds: int, times: int, seed: str = ""
) -> dict[str, list[Samples]]:
    """``work`` by each peer that can do it, ``times`` in every round, each round in an order of its own."""
    able = [worker for worker in workers if work in worker.peer.offers]
    if warm_up:
        for worker in able:
            worker.sample(work, warm_up)
    taken: dict[str, list[Samples]] = {worker.peer.name: [] for worker in able}
    for order in turns(able, rounds=rounds, seed=f"{work} {seed}"):
        for worker in order:
            taken[worker.peer.name].append(worker.sample(work, times))
    return taken
