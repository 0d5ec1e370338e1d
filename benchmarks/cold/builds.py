"""The artifacts: this project's by its own makefiles, the others' as SAM builds by default.

SAM's default build of a Python function (``PythonPipBuilder``) resolves requirements.txt, takes the platform's wheels,
unpacks them beside the sources, and compiles nothing. ``uv pip install --target`` leaves the same modules, and does not
compile them either.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from uv import find_uv_bin

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"
ARCH = "arm64" if platform.machine() in {"arm64", "aarch64"} else "x86_64"

SDK = ("boto3",)


@dataclass(frozen=True)
class Artifact:
    """What Lambda would unpack: ``code`` are the folders to import from, ``/var/task`` first."""

    handler: str
    code: tuple[Path, ...]
    folders: tuple[Path, ...]

    def bytes(self) -> int:
        """The size of all files, unzipped."""
        return sum(path.stat().st_size for folder in self.folders for path in folder.rglob("*") if path.is_file())


def runtime(folder: Path) -> Path:
    """A Python as Lambda's image has it: the runtime client and boto3, with bytecode. Returns the interpreter."""
    _uv("venv", "--quiet", "--python", sys.executable, str(folder))
    python = folder / "bin" / "python"
    packages = _pinned("awslambdaric", *SDK)
    _uv("pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), *packages)
    return python


def ours(folder: Path) -> Artifact:
    """Function and layer as ``sam build`` makes them, the handler added to ``src/handlers`` in a copy."""
    source = folder / "src"
    shutil.copytree(ROOT / "src", source)
    shutil.copy(HERE / "ours.py", source / "handlers" / "first_row.py")
    shutil.copytree(ROOT / "layer", folder / "layer")
    task, layer = folder / "task", folder / "opt"
    handler = "handlers.first_row.handler"
    _make(source, "build-FirstRowFunction", task, f"HANDLER={handler}")
    _make(folder / "layer", "build-Layer", layer, f"ARCH={ARCH}")
    return Artifact(handler, (task, layer / "python"), (task, layer))


def by_default(folder: Path, handler: str, requirements: Sequence[str]) -> Artifact:
    """The module ``handler`` of this package and its requirements in one folder, versions as in this environment."""
    task = folder / "task"
    task.mkdir(parents=True)
    shutil.copy(HERE / f"{handler}.py", task)
    # A copy: uv's links lead into its cache, where other builds' files are.
    options = ("--quiet", "--link-mode", "copy", "--only-binary", ":all:", "--python", sys.executable)
    _uv("pip", "install", *options, "--target", str(task), *_pinned(*requirements))
    (task / ".lock").unlink(missing_ok=True)  # uv's own
    return Artifact(f"{handler}.handler", (task,), (task,))


def compiled(artifact: Artifact, folder: Path) -> Artifact:
    """The same in ``folder``, with the bytecode that somebody who thinks of it adds."""
    (task,) = artifact.code
    shutil.copytree(task, folder)
    _compile(folder)
    return Artifact(artifact.handler, (folder,), (folder,))


def beside(ours: Artifact, folder: Path, handler: str) -> Artifact:
    """The module ``handler`` of this package alone, with the layer of ``ours``."""
    folder.mkdir()
    shutil.copy(HERE / f"{handler}.py", folder)
    _compile(folder)
    return Artifact(f"{handler}.handler", (folder, *ours.code[1:]), (folder, *ours.folders[1:]))


def _compile(folder: Path) -> None:
    command = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", str(folder)]
    _run(command, folder, dict(os.environ))


def _pinned(*requirements: str) -> list[str]:
    return [f"{name}=={version(name.partition('[')[0])}" for name in requirements]


def _make(folder: Path, target: str, artifacts: Path, told: str) -> None:
    """As lambda-builders calls it; with the Python at hand, whose bytecode is what will run it here."""
    artifacts.mkdir()
    make = shutil.which("make") or "make"
    environment = {**os.environ, "PATH": f"{Path(find_uv_bin()).parent}:{os.environ['PATH']}"}
    _run(
        [make, target, f"ARTIFACTS_DIR={artifacts}", f"PYTHON={sys.executable}", f"RUNTIME={RUNTIME}", told],
        folder,
        environment,
    )


def _uv(*arguments: str) -> None:
    _run([find_uv_bin(), *arguments], ROOT, dict(os.environ))


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} {command[1]} ended with {done.returncode}:\n{done.stderr}")
