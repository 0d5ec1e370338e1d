"""Imports point down: from handlers and devkit to db, within db from room to room, and within a room in no circle."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

import db

SRC = Path(__file__).parents[2] / "src"

# The rooms of db from the ground up: each imports from those before it. What stands in one row knows nothing of its
# neighbours.
ROOMS = [
    {"errors"},
    {"settings"},
    {"timing"},
    {"wire", "credentials"},
    {"telemetry"},
    {"pool"},
    {"environment"},
    {"transactions"},
    {"work"},
    {"aio", "powertools", "migrations"},
    {"asgi"},
    {"__main__"},
]
FLOOR = {room: number for number, row in enumerate(ROOMS) for room in row}


def modules(package: str) -> list[Path]:
    return sorted((SRC / package).rglob("*.py"))


def dotted(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    """The first name below the package; the package's face has none."""
    return module.split(".")[1] if "." in module else ""


def imported(path: Path) -> set[str]:
    """What ``path`` imports, wherever in the file, for types alone too: modules, where they are this project's."""
    package = path.relative_to(SRC).parent.parts
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            wholes = {f"{module}.{alias.name}" for alias in node.names}
            names |= {module if is_module(module) and not is_module(whole) else whole for whole in wholes}
    return names


def is_module(name: str) -> bool:
    path = SRC / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


@pytest.mark.parametrize(
    ("package", "forbidden"), [("db", {"handlers", "devkit"}), ("handlers", {"devkit"}), ("devkit", {"handlers"})]
)
def test_packages_import_in_one_direction(package: str, forbidden: set[str]) -> None:
    """What ships knows nothing of what tests it, and the layer nothing of the feature."""
    found = {(p.name, name) for p in modules(package) for name in imported(p) if name.split(".")[0] in forbidden}
    assert found == set()


def test_every_room_of_db_has_a_floor() -> None:
    """A new one is given its place before anything may import it."""
    assert {room(dotted(path)) for path in modules("db")} - {""} == set(FLOOR)


def test_no_room_imports_one_of_its_own_floor_or_above() -> None:
    """Only the face, which users import, sees all of them."""
    upward = {
        (dotted(path), target)
        for path in modules("db")
        for target in imported(path)
        if (here := room(dotted(path))) and target.split(".")[0] == "db" and room(target) != here
        if FLOOR.get(room(target), len(ROOMS)) >= FLOOR[here]
    }
    assert upward == set()


def test_no_module_of_db_imports_itself_by_way_of_others() -> None:
    """A circle would be one module in several files."""
    graph = {dotted(path): imported(path) for path in modules("db")}
    # A package's docstring has no imports, and its modules are loaded through it.
    faces = {dotted(path) for path in modules("db") if path.name == "__init__.py"}
    order = graphlib.TopologicalSorter({m: targets - faces for m, targets in graph.items() if m not in faces})
    assert list(order.static_order())


def test_the_face_shows_what_users_import_and_the_rooms_and_no_more() -> None:
    """Whoever lists the folder sees the whole of it at a glance."""
    entries = {path.name for path in (SRC / "db").iterdir() if path.name != "__pycache__"}
    assert len(entries) <= 17


def test_no_room_takes_the_name_of_a_public_function() -> None:
    """``db.once`` is the function: a room of that name would be one or the other, by the order of imports."""
    assert set(FLOOR) & set(db.__all__) == set()


def test_every_room_says_what_it_is_for_and_what_it_must_not_know() -> None:
    """In the first thing that one reads of it, with each of its modules named."""
    for path in sorted((SRC / "db").glob("*/__init__.py")):
        said = ast.get_docstring(ast.parse(path.read_text())) or ""
        named = {module.stem for module in path.parent.glob("*.py")} - {"__init__"}
        assert {name for name in named if f"``{name}``" not in said} == set(), path
        assert "must not know" in said or "no handler loads" in said or "must not decide" in said, path


def test_only_connection_events_listens_to_sqlalchemy() -> None:
    """One place says what happens on which event."""
    listeners = {p.name for p in modules("db") if any(n.startswith("sqlalchemy.event") for n in imported(p))}
    assert listeners == {"connection_events.py"}
