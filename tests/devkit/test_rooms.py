"""The kit's rooms: imports point down, in no circle, and each room says what it is for."""

from __future__ import annotations

import ast
import graphlib
import re
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"
KIT = SRC / "devkit"

# From the ground up: a room imports from those before it, and what stands in one row knows nothing of its neighbours.
ROOMS = [
    {"extras"},
    {"network"},
    {"servers"},
    {"lambda_runtime", "query_plans"},
    {"app", "fleet"},
    {"plan"},
    {"deploys", "rehearsal", "simulate"},
    {"plugin", "settings_table", "engines_table"},
    {"cli"},
    {"__main__"},
]
FLOOR = {room: number for number, row in enumerate(ROOMS) for room in row}
PACKAGES = sorted(path.parent for path in KIT.rglob("__init__.py"))


def modules() -> list[Path]:
    return sorted(KIT.rglob("*.py"))


def dotted(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    """The first name below ``devkit``; the package itself has none."""
    return module.split(".")[1] if "." in module else ""


def imported(path: Path) -> set[str]:
    """The kit's modules that ``path`` imports, wherever in the file, for types alone too."""
    package = dotted(path) if path.name == "__init__.py" else dotted(path).rpartition(".")[0]
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            names |= {f"{module}.{alias.name}" for alias in node.names} | {module}
    return {name for name in names if name.split(".")[0] == "devkit" and is_module(name)}


def is_module(name: str) -> bool:
    path = SRC / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or path.is_dir()


def documentation(package: Path) -> str:
    return ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""


def test_every_room_has_a_floor() -> None:
    """A new one is given its place before anything may import it."""
    assert {room(dotted(path)) for path in modules()} - {""} == set(FLOOR)


def test_no_room_imports_one_of_its_own_floor_or_above() -> None:
    """Also not for a type. The package itself imports nothing."""
    upward = {
        (dotted(path), target)
        for path in modules()
        for target in imported(path)
        if room(target) != room(dotted(path)) and FLOOR.get(room(target), -1) >= FLOOR.get(room(dotted(path)), -1)
    }
    assert upward == set()


def test_no_module_imports_itself_by_way_of_others() -> None:
    """A circle would be one module in several files."""
    # Whoever imports a module is a client of that, not of the package that leads to it.
    faces = {dotted(package) for package in PACKAGES if not imported(package / "__init__.py")}
    graph = {dotted(path): imported(path) - {dotted(path)} - faces for path in modules()}
    assert set(graphlib.TopologicalSorter(graph).static_order()) >= graph.keys() - faces


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_a_room_names_each_of_its_modules(package: Path) -> None:
    """Someone with a change in mind reads one paragraph and goes to the right file."""
    named = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    text = documentation(package)
    assert {name for name in named if not name.startswith("__") and f"``{name}``" not in text} == set()


@pytest.mark.parametrize("name", [name for row in ROOMS for name in sorted(row) if (KIT / name).is_dir()])
def test_a_room_says_what_it_must_not_know(name: str) -> None:
    """So that a change which needs that knowledge is made elsewhere."""
    assert "It must not know" in documentation(KIT / name)


def test_no_module_looks_for_this_repository() -> None:
    """Where template, events and sources are is handed down: none climbs from its own file to look for them."""
    climbing = re.compile(r"__file__\)\S*(\.parents|\.parent\.parent)")
    assert {dotted(path) for path in modules() if climbing.search(path.read_text())} == set()
