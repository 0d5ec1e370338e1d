"""Programs from packages that nobody installed: real apt and dpkg, against a repository in a folder."""

from __future__ import annotations

import hashlib
import subprocess
from typing import TYPE_CHECKING

import pytest

from devkit.servers import debian
from devkit.servers.cache import cache_folder
from devkit.servers.debian import FetchError, fetch, program, unpacked

if TYPE_CHECKING:
    from pathlib import Path

CONTROL = "Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\nDescription: test\n"
PATH = "LD_LIBRARY_PATH"
DEPENDS = "Depends: libc6 (>= 2.0), {library} (>= 1.0) | libother, mime-support\n"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in which this process's apt finds its packages, and nowhere else."""
    folder = tmp_path / "repository"
    folder.mkdir()
    sources = tmp_path / "sources.list"
    sources.write_text(f"deb [trusted=yes] file:{folder} ./\n")
    configuration = tmp_path / "apt.conf"
    configuration.write_text(f'Dir::Etc::sourcelist "{sources}";\nDir::Etc::sourceparts "-";\n')
    monkeypatch.setenv("APT_CONFIG", str(configuration))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def publish(repository: Path, name: str, files: dict[str, bytes], depends: str = "") -> None:
    """Build the package with dpkg and add it to the repository's index."""
    tree = repository.parent / name
    control = CONTROL.format(name=name) + depends
    for path, content in {**files, "DEBIAN/control": control.encode()}.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(content)
        (tree / path).chmod(0o755)
    archive = repository / f"{name}.deb"
    dpkg = program("dpkg-deb", "dpkg").path
    subprocess.run([dpkg, "--build", tree, archive], check=True, capture_output=True, timeout=60)
    digest, size = hashlib.sha256(archive.read_bytes()).hexdigest(), archive.stat().st_size
    with (repository / "Packages").open("a") as index:
        index.write(f"{control}Filename: ./{archive.name}\nSize: {size}\nSHA256: {digest}\n\n")


def executable() -> bytes:
    """A program of this machine that ldd understands."""
    return program("dpkg-deb", "dpkg").path.read_bytes()


def test_what_is_installed_is_taken() -> None:
    """With the environment that it has anyway."""
    found = program("dpkg-deb", "dpkg")
    assert (found.path.name, found.environment) == ("dpkg-deb", {})


def test_what_is_absent_is_fetched_once(repository: Path) -> None:
    """And kept in the cache folder, without anything else that the fetching left."""
    publish(repository, "tool", {"usr/sbin/fetched-tool": executable()})
    found = program("fetched-tool", "tool")
    assert subprocess.run([found.path, "--version"], check=False, capture_output=True, timeout=60).returncode == 0
    (repository / "Packages").unlink()
    assert program("fetched-tool", "tool") == found
    assert [path.name for path in cache_folder().iterdir()] == [found.path.parents[2].name]


def test_missing_libraries_come_along(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the packages that it depends on, and theirs, until nothing is missing; but never the C library."""
    publish(repository, "tool", {"usr/bin/fetched-tool": executable()}, DEPENDS.format(library="libone"))
    publish(repository, "libone", {"usr/lib/here/libone.so.1": b""}, DEPENDS.format(library="libtwo"))
    publish(repository, "libtwo", {"lib/libtwo.so.2": b""}, DEPENDS.format(library="libone"))
    # A machine that lacks one cannot be had here: as soon as both are there, nothing is missing.
    monkeypatch.setattr(debian, "_lacks_libraries", lambda found: found.environment.get(PATH, "").count(":") == 0)
    root = fetch("fetched-tool", "tool", tmp_path / "fetching")
    assert unpacked("fetched-tool", root).environment == {PATH: f"{root}/lib:{root}/usr/lib/here"}


def test_libraries_that_nobody_has_are_an_error(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packages that depend on each other do not make it go round for ever."""
    publish(repository, "tool", {"usr/bin/fetched-tool": executable()}, DEPENDS.format(library="libone"))
    publish(repository, "libone", {"usr/lib/libone.so.1": b""}, DEPENDS.format(library="libone"))
    monkeypatch.setattr(debian, "_lacks_libraries", lambda _: True)
    with pytest.raises(FetchError, match="libraries that no package brings"):
        fetch("fetched-tool", "tool", tmp_path / "fetching")


def test_a_package_that_is_nowhere_is_an_error(repository: Path) -> None:
    """With what apt said; nothing is kept."""
    publish(repository, "tool", {"usr/bin/another": executable()})
    with pytest.raises(FetchError, match="Unable to locate package absent"):
        program("fetched-tool", "absent")
    with pytest.raises(FetchError, match="no program fetched-tool"):
        program("fetched-tool", "tool")
    assert list(cache_folder().iterdir()) == []
