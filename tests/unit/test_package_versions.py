"""A package that `db` cannot work with is named before anything stumbles over it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import version
from pathlib import Path

import pytest

from db.environment.package_versions import OLDEST

ROOT = Path(__file__).parents[2]
THIS_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def said_by_import_db(folder: Path) -> str:
    """The last line of what a fresh interpreter says to `import db`, with ``folder`` before all else."""
    path = os.pathsep.join([str(folder), str(ROOT / "src")])
    done = subprocess.run(
        [sys.executable, "-c", "import db"],
        check=False,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": path, "PATH": os.environ["PATH"]},
    )
    assert done.returncode == 1, "db was imported"
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize("package", OLDEST)
def test_an_older_package_in_the_functions_folder_is_named_with_what_it_hides(tmp_path: Path, package: str) -> None:
    """The function's folder comes before the layer's, so its package is the one that is loaded."""
    major, minor = OLDEST[package]
    name = package.replace("_", "-")
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text(f"__version__ = '{major}.{minor - 1}.7'")
    said = said_by_import_db(tmp_path)
    assert said.startswith(
        f"db.errors.ConfigurationError: {name} {major}.{minor - 1}.7 is loaded from {tmp_path}, "
        f"which hides {version(name)} in "
    )
    assert said.endswith(f"take it out of {tmp_path}, or ask for {name}>={major}.{minor} there")


def test_bytecode_of_another_python_is_said_to_be_a_layer_for_another_runtime(tmp_path: Path) -> None:
    """Python itself says `bad magic number`; the wheels' file names say which runtime the layer was built for."""
    (tmp_path / "sqlalchemy").mkdir()
    (tmp_path / "sqlalchemy/__init__.pyc").write_bytes(b"\x01\x02\r\n" + bytes(12))
    (tmp_path / "psycopg_binary").mkdir()
    (tmp_path / "psycopg_binary/pq.cpython-39-other-linux-gnu.so").touch()
    said = said_by_import_db(tmp_path)
    assert said.startswith(f"db.errors.ConfigurationError: Python {THIS_PYTHON} cannot load what db needs: bad magic")
    assert f"end in .cpython-39-other-linux-gnu.so, those of this Python in {EXTENSION_SUFFIXES[0]}" in said
    assert f"build the layer for python{THIS_PYTHON}" in said


def test_what_is_not_installed_is_still_said_by_python() -> None:
    """Nothing is in the way then, and Python's own words are the clearest."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import db"],
        check=False,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT / "src")},
    )
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'sqlalchemy'"


def test_the_oldest_releases_are_those_that_installers_are_told() -> None:
    """pyproject.toml cannot be read in Lambda, so the floors stand in the code as well."""
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    floors = dict(re.match(r"([\w-]+).*?>=([\d.]+)", line).groups() for line in asked)  # type: ignore[union-attr,misc]
    assert {name: floors[name.replace("_", "-")] for name in OLDEST} == {
        name: f"{major}.{minor}" for name, (major, minor) in OLDEST.items()
    }
