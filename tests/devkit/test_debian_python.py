"""A Python of another version, from Debian's archive: what is refused before anything is fetched, and what is kept."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from devkit.lambda_runtime import debian_python
from devkit.servers import debian_release
from devkit.servers.cache import cache_folder
from devkit.servers.debian import FetchError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return cache_folder()


def test_a_version_that_no_release_has_is_refused(cache: Path) -> None:
    """By its name, with those that there are."""
    with pytest.raises(FetchError, match=r"no release of Debian has a Python 3\.12; there are 3\.11, 3\.13, 3\.14"):
        debian_python.interpreter("3.12")
    assert list(cache.iterdir()) == []


def test_packages_that_nobody_could_verify_are_not_fetched(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a system without Debian's keys, apt would have to take whatever the network answers."""
    monkeypatch.setattr(debian_release, "KEYRING", cache / "keyring.gpg")
    with pytest.raises(FetchError, match="nothing here could tell Debian's packages from others"):
        debian_python.interpreter("3.14")
    assert [path.name for path in cache.iterdir()] == ["debian.lock"]


def test_a_signature_of_nobody_known_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The archive is asked for a release that these keys have not signed; nothing is kept."""
    keyring, archive = cache / "keyring.gpg", cache.parent / "archive/dists/forky"
    keyring.touch()
    archive.mkdir(parents=True)
    (archive / "Release").write_text("Suite: forky\nCodename: forky\nComponents: main\nArchitectures: amd64 arm64\n")
    monkeypatch.setattr(debian_release, "KEYRING", keyring)
    monkeypatch.setattr(debian_release, "mirror", lambda: f"file:{archive.parents[1]}")
    with pytest.raises(FetchError, match="is not signed"):
        debian_python.interpreter("3.14")
    assert not [path for path in cache.iterdir() if path.is_dir()]


def test_what_is_kept_is_not_fetched_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked of the archive; the interpreter is known for one that brings its C library."""
    monkeypatch.setattr(debian_release, "mirror", lambda: pytest.fail("the archive was asked for"))
    programs = debian_python._kept("3.14") / "usr/bin"
    programs.mkdir(parents=True)
    (programs / "python3.14").write_text("#!/bin/sh\n")
    (programs / "python3.14").chmod(0o755)
    found = debian_python.interpreter("3.14")
    assert found == programs / "python3.14"
    assert debian_python.brings_its_libc(found)
    assert not debian_python.brings_its_libc(Path(sys.base_prefix) / "bin/python3")
