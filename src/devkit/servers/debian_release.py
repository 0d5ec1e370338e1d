"""Programs of a Debian release that need not be this machine's: newer than its own, and with all that they need.

Nothing is installed and nobody has to be root: apt resolves the packages for an empty machine, checks the release's
signature and each package's digest, and they are unpacked into the cache folder. They bring their own C library, for
that of this machine may be older than they were built for; the program's file is made to name it.

This takes the standard library alone: the makefile fetches a Python this way, before there is an environment.
"""

from __future__ import annotations

import contextlib
import fcntl
import platform
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from .cache import cache_folder
from .debian import FetchError, apt_get, mirror, program, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Whom the archive's signature has to be of. The package debian-archive-keyring brings it, where it is not there.
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


# What apt takes for installed, and so does not fetch.
INSTALLED = "Package: {}\nStatus: install ok installed\nArchitecture: all\nVersion: 9999\n\n"


def program_of(release: str, name: str, *, further: Sequence[str] = (), without: Sequence[str] = ()) -> Path:
    """The program ``name`` of the package of that name in ``release``, fetched where it is not kept yet.

    The packages ``further`` are fetched with it, and those in ``without`` are not, though the package depends on them.
    Raises FetchError.
    """
    root = kept(release, name)
    with _turn():
        if not root.is_dir():
            with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=cache_folder()) as temporary:
                folder = Path(temporary)
                _unpack(_packages(release, (name, *further), without, folder), folder / "root")
                _name_libc(folder / "root", root, name)
                (folder / "root").rename(root)
    return root / _place(root, name)


def kept(release: str, name: str) -> Path:
    """The folder that holds it, once it is there."""
    return cache_folder().resolve() / f"{name}-{release}-{platform.machine()}"


def _place(root: Path, name: str) -> Path:
    for folder in ("usr/bin", "usr/sbin"):
        if (root / folder / name).is_file():
            return Path(folder, name)
    raise FetchError(f"the package holds no program {name}")


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    """One process at a time: the others find what it has fetched."""
    with (cache_folder() / "debian.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _packages(release: str, wanted: Sequence[str], without: Sequence[str], folder: Path) -> list[Path]:
    """The archives of the packages ``wanted`` and of all that they depend on, but for those in ``without``."""
    if not KEYRING.is_file():
        raise FetchError(f"nothing here could tell Debian's packages from others: {KEYRING} is not there")
    status, sources = folder / "status", folder / "sources.list"
    status.write_text("".join(INSTALLED.format(package) for package in without))
    sources.write_text(f"deb [signed-by={KEYRING}] {mirror()} {release} main\n")
    apt = [
        *apt_get(folder / "apt", status=status),
        f"-oDir::Etc::sourcelist={sources}",
        "-oDir::Etc::sourceparts=-",
        "-oAcquire::Languages=none",
        "-oAPT::Update::Error-Mode=any",  # what cannot be fetched, or is signed by nobody known, is no warning
    ]
    run([*apt, "update"], folder)
    run([*apt, "install", "--yes", "--download-only", "--no-install-recommends", *wanted], folder)
    return sorted((folder / "apt/archives").glob("*.deb"))


def _unpack(archives: Sequence[Path], root: Path) -> None:
    for archive in archives:
        run(["dpkg-deb", "--extract", archive, root], root.parent)


def _name_libc(root: Path, there: Path, name: str) -> None:
    """Write into the program where its loader and its libraries will be, once ``root`` is ``there``."""
    (loader,) = root.glob("usr/lib/*-linux-gnu*/ld-linux*.so.*")
    patchelf = program("patchelf", "patchelf")
    named = there / loader.relative_to(root)
    places = ("--set-interpreter", named, "--force-rpath", "--set-rpath", named.parent)
    # RPATH, and not RUNPATH: it holds for the libraries of libraries as well, such as what a wheel's module links to.
    run([patchelf.path, *places, root / _place(root, name)], root, patchelf.environment)
