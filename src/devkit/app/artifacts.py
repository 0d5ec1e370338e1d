"""What `sam build` has left: whether it is of the Python that the template names for it.

Lambda would take it all the same. Bytecode of another version is passed over, so that each cold start compiles, and a
wheel of another version cannot be imported, which the first event would tell.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .errors import ProjectError
from .intrinsics import section
from .runtime import LAYER
from .template import Template

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# The first two bytes of bytecode, which a release keeps for life: importlib.util.MAGIC_NUMBER of each.
MAGIC_NUMBERS = {3439: "3.10", 3495: "3.11", 3531: "3.12", 3571: "3.13", 3627: "3.14"}
_IN_NAME = re.compile(r"\.cpython-3(\d+)[.-]")


def check(built: Path) -> None:
    """Raises ProjectError for what is in the folder ``built`` and of another Python than its template says."""
    template = Template(built / "template.yaml")
    functions = template.functions()
    problems = [problem for name, one in functions.items() for problem in _others(name, one.code, one.runtime)]
    problems += _of_layers(template, {name: one.runtime for name, one in functions.items()})
    if problems:
        raise ProjectError("; ".join(problems))


def pythons(folder: Path) -> Mapping[str, str]:
    """The versions that something in ``folder`` was compiled for, each with the first such file."""
    found: dict[str, str] = {}
    for path in sorted(path for kind in ("*.pyc", "*.so") for path in folder.rglob(kind)):
        if version := _version(path):
            found.setdefault(version, str(path.relative_to(folder)))
    return found


def _of_layers(template: Template, runtimes: Mapping[str, str]) -> Iterator[str]:
    """Of those that functions are given: what is in one is to be of each function's version."""
    for layer, users in _used(template).items():
        content = str(section(template.resources[layer], "Properties").get("ContentUri", ""))
        if "://" in content:  # somebody else's, who has built it elsewhere
            continue
        for user in users:
            yield from _others(f"{layer}, a layer of {user}", template.path.parent / content, runtimes[user])


def _used(template: Template) -> dict[str, list[str]]:
    """The layers of this template, with the functions that any choice of its parameters gives them to."""
    shared = section(section(template.content, "Globals"), "Function").get("Layers") or []
    users: dict[str, list[str]] = {}
    for function in template.functions():
        own = section(template.resources[function], "Properties").get("Layers") or []
        for layer in dict.fromkeys(_named([*shared, *own])):
            if template.resources.get(layer, {}).get("Type") == LAYER:
                users.setdefault(layer, []).append(function)
    return users


def _named(value: object) -> Iterator[str]:
    """Each name that a Ref in ``value`` has."""
    match value:
        case {"Ref": str(name)}:
            yield name
        case dict():
            yield from _named(list(value.values()))
        case list():
            for one in value:
                yield from _named(one)


def _others(name: str, folder: Path, runtime: str) -> Iterator[str]:
    found = pythons(folder)
    if found and runtime.removeprefix("python") not in found:
        version, path = next(iter(found.items()))
        yield f"{name}: the Runtime is {runtime}, and what was built is of Python {version}, such as {path}"


def _version(path: Path) -> str | None:
    """As the file's name has it, or its first bytes; None for what any version loads."""
    if named := _IN_NAME.search(path.name):
        return f"3.{named[1]}"
    if path.suffix != ".pyc":
        return None
    with path.open("rb") as file:
        return MAGIC_NUMBERS.get(int.from_bytes(file.read(2), "little"))
