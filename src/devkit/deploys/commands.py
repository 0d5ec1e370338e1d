"""The ``sam`` program: what is run is shown first, so that whoever wants it otherwise can type it."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.app import artifacts
from devkit.app.errors import ProjectError
from devkit.app.sam_cli import BUILT, as_a_file, program, quiet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from devkit.app.template import Template


def build(template: Template) -> int:
    """`sam build` beside the template; its exit status. Raises ProjectError where what it made is of another Python."""
    root = template.path.parent
    with as_a_file(template) as (path, environment):
        named = () if path == template.path else ("--template", path.name)
        status = sam(root, "build", *named, environment=environment)
    if status == 0:
        artifacts.check(root / BUILT)
    return status


def sam(root: Path, *words: str, environment: Mapping[str, str] | None = None) -> int:
    """Run ``sam`` in ``root``, with no one to ask; its exit status. Raises ProjectError where it is interrupted."""
    command = [program("sam"), *words]
    print(f"\n$ {shown(command, root)}", flush=True)
    variables = quiet(os.environ | dict(environment or {}))
    try:
        done = subprocess.run(command, check=False, cwd=root, env=variables, stdin=subprocess.DEVNULL)
    except KeyboardInterrupt as error:
        raise ProjectError(f"interrupted: what CloudFormation has begun of `sam {words[0]}`, it ends there") from error
    return done.returncode


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """What `sam build` leaves in ``root`` is of one deploy at a time. Raises ProjectError where another one has it.

    The lock is the kernel's, and ends with this process, however that ends.
    """
    folder = root / Path(BUILT).parent
    folder.mkdir(exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if not _taken(handle):
            raise ProjectError(f"another deploy is at work in {root}, with its build in {BUILT}: try again after it")
        yield
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def shown(command: Sequence[str], root: Path) -> str:
    """As it would be typed in ``root``."""
    first = Path(command[0])
    short = str(first.relative_to(root)) if first.is_relative_to(root) else command[0]
    return shlex.join([short, *command[1:]])


def overrides(values: Mapping[str, str]) -> list[str]:
    """`sam deploy`'s option for parameters."""
    words = [f"{name}={quoted(value)}" for name, value in values.items()]
    return ["--parameter-overrides", *words] if words else []


def quoted(value: str) -> str:
    """In the quotes that SAM takes off again, where it would lose the value, or all of it after a blank."""
    if value and not re.search(r'[\s"]', value):
        return value
    return '"' + value.replace('"', '\\"') + '"'
