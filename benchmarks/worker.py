"""The process that is measured: one peer, told on standard input what to do, answering on standard output.

Each message is a line of JSON. The first names the peer, the server and the core to keep to; each further one a work
and how often. Whatever else the process prints, such as log lines and metrics, goes where Lambda's logs would go:
elsewhere.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys

from benchmarks.works import Work


def main() -> None:
    """Serve until standard input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - no path, a device
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    start = json.loads(sys.stdin.readline())
    if start["core"] is not None:
        os.sched_setaffinity(0, {start["core"]})  # before there are threads, which then have it from here
    peer = getattr(importlib.import_module(start["module"]), start["class"])(start["url"])
    for line in sys.stdin:
        request = json.loads(line)
        samples = peer.sample(Work(request["work"]), request["times"])
        print(json.dumps(dataclasses.asdict(samples)), file=answers)
    peer.finish()


if __name__ == "__main__":
    main()
