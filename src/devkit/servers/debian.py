"""Programs of Debian packages: the machine's, or fetched into the cache folder with the libraries that they need.

Nothing is installed and nobody has to be root: `apt-get` works with state of its own, and packages are only unpacked.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .cache import cache_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
FETCH_S = 300.0
INSTALLED = Path("/var/lib/dpkg/status")
NOT_FETCHED = {"libc6"}  # the machine's own: it brings the loader, and the two have to match


class FetchError(RuntimeError):
    """A program is absent and cannot be had, and why."""


@dataclass(frozen=True)
class Program:
    """A program that can be started: with ``environment``, where it is not the machine's own."""

    path: Path
    environment: Mapping[str, str]


def program(name: str, package: str) -> Program:
    """The program ``name``: that of the machine, else the one of ``package``. Raises FetchError, with what apt said."""
    installed = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_PATH}")
    if installed:
        return Program(Path(installed), {})
    kept = cache_folder() / "-".join([package, platform.machine(), *platform.libc_ver()])
    if not kept.is_dir():
        if shutil.which("apt-get", path=SYSTEM_PATH) is None:
            raise FetchError(f"{name} is absent, and this is no Debian that could fetch the package {package}")
        with tempfile.TemporaryDirectory(prefix=f"{package}-", dir=cache_folder()) as temporary:
            root = fetch(name, package, Path(temporary))
            if not kept.is_dir():  # another process may have been faster
                root.rename(kept)
    return unpacked(name, kept)


def unpacked(name: str, root: Path) -> Program:
    """The program ``name`` below ``root``, which holds the files of packages."""
    path = next((folder / name for folder in root.glob("**/*bin") if (folder / name).is_file()), None)
    if path is None:
        raise FetchError(f"the package holds no program {name}")
    libraries = sorted({str(library.parent) for library in root.glob("**/*.so.*")})
    return Program(path, {"LD_LIBRARY_PATH": ":".join(libraries)} if libraries else {})


def fetch(name: str, package: str, folder: Path) -> Path:
    """Unpack ``package``, and of the packages that it depends on those libraries that the machine lacks.

    Returns the root of what was unpacked, below ``folder``. Raises FetchError.
    """
    root, archives = folder / "root", folder / "archives"
    for made in (root, archives):
        made.mkdir(parents=True)
    apt = apt_get(folder / "apt", status=INSTALLED)
    run([*apt, "update"], folder)
    wanted, seen = [package], NOT_FETCHED
    while wanted:
        run([*apt, "download", *wanted], archives)
        fetched = sorted(archives.glob("*.deb"))
        for archive in fetched:
            run(["dpkg-deb", "--extract", archive, root], folder)
        if not _lacks_libraries(unpacked(name, root)):
            return root
        seen = seen | set(wanted)
        wanted = sorted({library for archive in fetched for library in _libraries_of(archive, folder)} - seen)
        for archive in fetched:
            archive.unlink()
    raise FetchError(f"{name} needs libraries that no package brings which {package} depends on")


def apt_get(state: Path, *, status: Path) -> list[str]:
    """`apt-get` with its lists and archives in ``state``, for a machine on which is installed what ``status`` says."""
    for made in ("lists/partial", "archives/partial"):
        (state / made).mkdir(parents=True)
    return [
        "apt-get",
        "-qq",
        f"-oDir::State={state}",
        f"-oDir::Cache={state}",
        f"-oDir::State::status={status}",
        "-oAPT::Sandbox::User=root",  # the account _apt cannot write here; only root would become it
        "-oAcquire::Retries=3",
    ]


def release() -> str:
    """The name of this machine's Debian release, such as bookworm. Raises FetchError."""
    named = re.search(r"^VERSION_CODENAME=(\w+)$", Path("/etc/os-release").read_text(), re.MULTILINE)
    if named is None or shutil.which("apt-get", path=SYSTEM_PATH) is None:
        raise FetchError("this is no Debian")
    return named[1]


def mirror() -> str:
    """The archive that this machine's apt reads its release from. Raises FetchError."""
    known = release()
    listed = run(["apt-get", "indextargets", "--format", "$(CREATED_BY) $(REPO_URI) $(CODENAME) $(COMPONENT)"], Path())
    for line in listed.splitlines():
        created, uri, codename, component = (line.split() + [""] * 4)[:4]
        if (created, codename, component) == ("Packages", known, "main"):
            return uri
    raise FetchError(f"apt has no source for {known} main")


def _libraries_of(archive: Path, folder: Path) -> list[str]:
    """The names of the library packages that ``archive`` depends on directly."""
    depends = run(["dpkg-deb", "--field", archive, "Depends"], folder)
    # "libc6 (>= 2.36), libssl3 | libssl1.1": the first of several is Debian's own choice.
    names = [one.split("|")[0].split("(")[0].split(":")[0].strip() for one in depends.split(",")]
    return [name for name in names if name.startswith("lib")]


def _lacks_libraries(found: Program) -> bool:
    return "not found" in run(["ldd", found.path], found.path.parent, found.environment)


def run(command: Sequence[str | Path], folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """What a system's program prints, run in ``folder``. Raises FetchError, with its last lines, where it fails."""
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=FETCH_S,
        cwd=folder,
        env={**os.environ, "LC_ALL": "C", "PATH": SYSTEM_PATH, **(environment or {})},
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise FetchError(f"{' '.join(map(str, command[:2]))} ... ended with {done.returncode}:\n{tail}")
    return done.stdout
