"""Many execution environments as processes: ``python -m benchmarks.environments``.

Each is a fork of one process that has imported everything, with an engine and a connection of its own. Standard input
brings a line of JSON: first the server, the core and how many; each further one for how many seconds all of them take
one transaction after another, and for how long each pauses before one. The answer is the microseconds of every
transaction, of all environments together and without the pauses.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import make_url

import db
from benchmarks.peers import statements as sql
from benchmarks.works import Context

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import IO


@db.invocation
def _transactions(event: dict[str, Any], _context: Any) -> list[int]:
    """One after another until the time is over: the first one connects, however long that takes."""
    taken: list[int] = []
    tenant, ends_at, pause_us = event["tenant"], event["ends_at"], event["pause_us"]
    started = time.monotonic_ns()
    while not taken or started < ends_at:
        if pause_us:
            time.sleep(pause_us / 1e6)
        with db.begin(tenant=tenant) as tx:
            tx.execute(sql.BOUND_WRITE)
        ended = time.monotonic_ns()
        taken.append((ended - started) // 1000 - pause_us)
        started = ended
    return taken


class Environment:
    """One of them: a process that was forked, and the pipes to it and back."""

    def __init__(self, number: int, url: str, earlier: Sequence[Environment]) -> None:
        told, tell = os.pipe()
        hear, answers = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(tell)
            os.close(hear)
            for one in earlier:  # with a copy of their ends here, they would not see the parent close its own
                one.forget()
            _live(number, url, os.fdopen(told), os.fdopen(answers, "w"))
        os.close(told)
        os.close(answers)
        self._tell, self._hear = os.fdopen(tell, "w", buffering=1), os.fdopen(hear)

    def begin(self, ends_at: int, pause_us: int) -> None:
        self._tell.write(json.dumps({"ends_at": ends_at, "pause_us": pause_us}) + "\n")

    def answer(self) -> list[int]:
        taken: list[int] = json.loads(self._hear.readline())
        return taken

    def end(self) -> None:
        self.forget()
        os.waitpid(self._pid, 0)

    def forget(self) -> None:
        """Close the pipes, which ends it."""
        self._tell.close()
        self._hear.close()


def _live(number: int, url: str, told: IO[str], answers: IO[str]) -> None:
    """What the fork does until it is told no more. Never returns: what follows in the code is its parent's."""
    status = 1
    try:
        db.configure(db.Settings(url=make_url(url).set(drivername="postgresql+psycopg")))
        for line in iter(told.readline, ""):
            taken = _transactions({"tenant": str(number), **json.loads(line)}, Context())
            answers.write(json.dumps(taken) + "\n")
            answers.flush()
        db.dispose()
        status = 0
    except BaseException:  # noqa: BLE001 - the parent misses an answer, and what it prints is what was printed here
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def main() -> None:
    """Serve until standard input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - no path, a device
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    start = json.loads(sys.stdin.readline())
    os.sched_setaffinity(0, {start["core"]})
    environments: list[Environment] = []
    for number in range(start["environments"]):
        environments.append(Environment(number, start["url"], environments))
    for line in sys.stdin:
        told = json.loads(line)
        ends_at = time.monotonic_ns() + int(told["seconds"] * 1e9)
        for one in environments:
            one.begin(ends_at, told["pause_us"])
        print(json.dumps([us for one in environments for us in one.answer()]), file=answers)
    for one in environments:
        one.end()


if __name__ == "__main__":
    main()
