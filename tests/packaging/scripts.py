"""The makefiles and scripts that build the artifacts, as `sam build` calls them."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from uv import find_uv_bin

from devkit.app.project import Project

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

PROJECT = Project.find(Path(__file__))
ROOT = PROJECT.root
MAKE = shutil.which("make") or "make"
RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"
ARCH = "arm64" if platform.machine() in {"arm64", "aarch64"} else "x86_64"
# PEP 552: a hash instead of a date, and no comparison with the source.
UNCHECKED_HASH = (0b01).to_bytes(4, "little")
# The whole environment, for it says where this machine gets its packages from; this environment's commands come first.
ENVIRONMENT = os.environ | {
    "PATH": os.pathsep.join(
        [str(Path(sys.executable).parent), str(Path(find_uv_bin()).parent), os.environ.get("PATH", "")]
    ),
    "SAM_CLI_TELEMETRY": "0",
}


def make(
    folder: str, target: str, artifacts: Path, environment: Mapping[str, str] | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """The makefile as lambda-builders calls it, with this Python for the bytecode."""
    given = {"PYTHON": sys.executable} | variables
    return subprocess.run(
        [MAKE, target, *(f"{name}={value}" for name, value in given.items())],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT / folder,
        env=ENVIRONMENT | {"ARTIFACTS_DIR": str(artifacts), **(environment or {})},
    )


def run(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A script of ``layer/`` or ``src/``, from the command line."""
    command = [sys.executable, str(ROOT / script), *(str(argument) for argument in arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=ENVIRONMENT)


def imported(script: str) -> ModuleType:
    """The same as a module."""
    spec = importlib.util.spec_from_file_location(Path(script).stem, ROOT / script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def size_of(folder: Path) -> int:
    """As Lambda counts it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
