"""The Python of a Debian release, for a machine that has none of that version, and cannot fetch uv's from GitHub.

``python -m devkit.lambda_runtime.debian_python 3.14`` prints its path. The makefile asks before there is an
environment, so this takes the standard library alone.

Nothing is installed and nobody has to be root: apt resolves the packages for an empty machine, checks the release's
signature and each package's digest, and they are unpacked into the cache folder. They bring their own C library, for
that of this machine may be older than they were built for; the interpreter's file is made to name it.
"""

from __future__ import annotations

import contextlib
import fcntl
import platform
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.servers.cache import cache_folder
from devkit.servers.debian import FetchError, apt_get, mirror, program, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Which release has which Python: https://packages.debian.org/python3. No release has had 3.12.
RELEASES = {"3.11": "bookworm", "3.13": "trixie", "3.14": "forky"}
# Whom the archive's signature has to be of. The package debian-archive-keyring brings it, where it is not there.
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# What compiled wheels link to, and Python does not.
FOR_WHEELS = ("libstdc++6",)


def interpreter(version: str) -> Path:
    """The path of a Python ``version``, such as 3.14, fetched where it is not kept yet. Raises FetchError."""
    if version not in RELEASES:
        raise FetchError(f"no release of Debian has a Python {version}; there are {', '.join(RELEASES)}")
    root = _kept(version)
    with _turn():
        if not root.is_dir():
            with tempfile.TemporaryDirectory(prefix=f"python{version}-", dir=cache_folder()) as temporary:
                folder = Path(temporary)
                _unpack(_packages(version, folder), folder / "root")
                _name_libc(folder / "root", root, version)
                (folder / "root").rename(root)
    python = root / "usr/bin" / f"python{version}"
    run([python, "-c", "import ctypes, sqlite3, ssl"], root)
    return python


def brings_its_libc(python: Path) -> bool:
    """Whether it is one of these."""
    return any(python.resolve().is_relative_to(_kept(version)) for version in RELEASES)


def _kept(version: str) -> Path:
    return cache_folder().resolve() / f"python{version}-{RELEASES[version]}-{platform.machine()}"


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    """One process at a time: the others find what it has fetched."""
    with (cache_folder() / "python.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _packages(version: str, folder: Path) -> list[Path]:
    """The archives of that Python and of all that it depends on."""
    if not KEYRING.is_file():
        raise FetchError(f"nothing here could tell Debian's packages from others: {KEYRING} is not there")
    nothing, sources = folder / "status", folder / "sources.list"
    nothing.touch()
    sources.write_text(f"deb [signed-by={KEYRING}] {mirror()} {RELEASES[version]} main\n")
    apt = [
        *apt_get(folder / "apt", status=nothing),
        f"-oDir::Etc::sourcelist={sources}",
        "-oDir::Etc::sourceparts=-",
        "-oAcquire::Languages=none",
        "-oAPT::Update::Error-Mode=any",  # what cannot be fetched, or is signed by nobody known, is no warning
    ]
    run([*apt, "update"], folder)
    wanted = (f"python{version}", *FOR_WHEELS)
    run([*apt, "install", "--yes", "--download-only", "--no-install-recommends", *wanted], folder)
    return sorted((folder / "apt/archives").glob("*.deb"))


def _unpack(archives: Sequence[Path], root: Path) -> None:
    for archive in archives:
        run(["dpkg-deb", "--extract", archive, root], root.parent)


def _name_libc(root: Path, kept: Path, version: str) -> None:
    """Write into the interpreter where its loader and its libraries will be, once ``root`` is ``kept``."""
    (loader,) = root.glob("usr/lib/*-linux-gnu*/ld-linux*.so.*")
    patchelf = program("patchelf", "patchelf")
    there = kept / loader.relative_to(root)
    places = ("--set-interpreter", there, "--force-rpath", "--set-rpath", there.parent)
    # RPATH, and not RUNPATH: it holds for the libraries of libraries as well, such as what a wheel's module links to.
    run([patchelf.path, *places, root / "usr/bin" / f"python{version}"], root, patchelf.environment)


if __name__ == "__main__":
    try:
        print(interpreter(sys.argv[1]))
    except FetchError as error:
        sys.exit(f"Debian's Python {sys.argv[1]}: {error}")
