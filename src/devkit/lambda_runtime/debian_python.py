"""The Python of a Debian release, for a machine that has none of that version, and cannot fetch uv's from GitHub.

``python -m devkit.lambda_runtime.debian_python 3.14`` prints its path. The makefile asks before there is an
environment, so this takes the standard library alone. How it is fetched: ``devkit.servers.debian_release``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from devkit.servers.debian import FetchError, run
from devkit.servers.debian_release import kept, program_of

if TYPE_CHECKING:
    from pathlib import Path

# Which release has which Python: https://packages.debian.org/python3. No release has had 3.12.
RELEASES = {"3.11": "bookworm", "3.13": "trixie", "3.14": "forky"}
# What compiled wheels link to, and Python does not.
FOR_WHEELS = ("libstdc++6",)


def interpreter(version: str) -> Path:
    """The path of a Python ``version``, such as 3.14, fetched where it is not kept yet. Raises FetchError."""
    if version not in RELEASES:
        raise FetchError(f"no release of Debian has a Python {version}; there are {', '.join(RELEASES)}")
    python = program_of(RELEASES[version], f"python{version}", further=FOR_WHEELS)
    run([python, "-c", "import ctypes, sqlite3, ssl"], python.parent)
    return python


def brings_its_libc(python: Path) -> bool:
    """Whether it is one of these."""
    return any(python.resolve().is_relative_to(_kept(version)) for version in RELEASES)


def _kept(version: str) -> Path:
    return kept(RELEASES[version], f"python{version}")


if __name__ == "__main__":
    try:
        print(interpreter(sys.argv[1]))
    except FetchError as error:
        sys.exit(f"Debian's Python {sys.argv[1]}: {error}")
