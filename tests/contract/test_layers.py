"""Imports point down: from handlers and devkit to db, and within db from the upper rows to the lower ones."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"

# From the ground up. A module imports only from rows above its own here.
ROWS = [
    {"errors", "boarding", "fingerprint", "sqlcomment"},
    {"settings", "deadline", "metrics", "unit", "crowding", "timebox", "pipeline", "repeats"},
    {"invocation", "retry", "scope", "waiting", "flight", "names", "tracing"},
    {"connections", "credentials", "opening", "statements"},
    {"asyncpg_driver", "dialect", "connector", "delivery", "notices"},
    {"lifecycle", "readers"},
    {"engine"},
    {"runtime", "loop"},
    {"shutdown", "snapshot"},
    {"transaction", "handler", "records"},
    {"bulk", "reflection", "once", "batch"},
    {"idempotency", "powertools"},
    {"aio"},
    {"migrations"},
]
ROW_OF = {name: number for number, row in enumerate(ROWS) for name in row}


def imported(path: Path) -> set[str]:
    """The absolute names of all that ``path`` imports, wherever in the file, for types alone too."""
    package = path.relative_to(SRC).parent.parts
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def modules(package: str) -> list[Path]:
    return sorted((SRC / package).rglob("*.py"))


def owner(path: Path) -> str:
    """The row's name for a file of db: its module, or its subpackage."""
    return path.relative_to(SRC / "db").parts[0].removesuffix(".py")


@pytest.mark.parametrize(
    ("package", "forbidden"), [("db", {"handlers", "devkit"}), ("handlers", {"devkit"}), ("devkit", {"handlers"})]
)
def test_packages_import_in_one_direction(package: str, forbidden: set[str]) -> None:
    """What ships knows nothing of what tests it, and the layer nothing of the feature."""
    found = {(p.name, name) for p in modules(package) for name in imported(p) if name.split(".")[0] in forbidden}
    assert found == set()


def test_every_module_of_db_has_a_row() -> None:
    """A new module is given its place before anything may import it."""
    assert {owner(p) for p in modules("db")} - {"__init__"} == set(ROW_OF)


def test_no_module_of_db_imports_from_its_own_row_or_above() -> None:
    """So there is no circle either."""
    upward = set()
    for path in modules("db"):
        name = owner(path)
        for target in imported(path):
            parts = target.split(".")
            below = parts[1] if parts[0] == "db" and len(parts) > 1 else name
            if name != "__init__" and below in ROW_OF and below != name and ROW_OF[below] >= ROW_OF[name]:
                upward.add((name, target))
    assert upward == set()


def test_only_lifecycle_listens_to_sqlalchemy() -> None:
    """One place says what happens on which event."""
    listeners = {p.name for p in modules("db") if any(n.startswith("sqlalchemy.event") for n in imported(p))}
    assert listeners == {"lifecycle.py"}


@pytest.mark.parametrize("path", modules("db"), ids=lambda p: p.name)
def test_no_module_of_db_is_imported_by_a_name_that_the_package_gives_to_something_else(path: Path) -> None:
    """``db.scope`` is the function: ``from . import scope`` would give one or the other, by the order of imports."""
    shadowed = {"batch", "engine", "invocation", "once", "scope"}
    assert not {f"db.{name}" for name in shadowed} & imported(path) or path.name == "__init__.py"
