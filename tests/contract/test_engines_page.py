"""What an engine can is said once, in the code; the page agrees."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import db
from db import aio, migrations
from db.migrations import operations
from db.settings import Settings, fields
from db.settings.engines.kinds import CAPABILITIES, EngineKind, all_kinds
from devkit.engines_table import (
    CALLS,
    calls_as_markdown,
    capabilities_as_markdown,
    scenarios_as_markdown,
    settings_as_markdown,
)

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "engines.md"


@pytest.mark.parametrize(
    "table", [calls_as_markdown, scenarios_as_markdown, capabilities_as_markdown, settings_as_markdown]
)
def test_the_documented_tables_are_the_codes(table: object) -> None:
    """docs/reference/engines.md holds what ``python -m devkit engines`` prints."""
    assert callable(table)
    assert table() in PAGE.read_text()


@pytest.mark.parametrize("kind", all_kinds(), ids=lambda kind: kind.name)
def test_an_engine_says_of_each_capability_how_it_is_kept_or_why_not(kind: EngineKind) -> None:
    """None is forgotten, and none is both."""
    assert sorted([*kind.can, *kind.lacks]) == sorted(CAPABILITIES)
    assert all([*kind.can.values(), *kind.lacks.values()])
    assert kind.differs.keys() <= CALLS.keys()
    assert kind.unserved.keys() <= {field.name for field in fields()}


def test_the_table_has_every_public_call() -> None:
    """A new one has a row before it is released."""
    named = {call.partition("(")[0] for call in CALLS}
    faces = {"db": db.__all__, "aio": aio.__all__, "migrations": migrations.__all__}
    public = {f"{face}.{name}" for face, names in faces.items() for name in names if name[0].islower()}
    public |= {f"operations.{name}" for name, made in vars(operations).items() if _is_operation(name, made)}
    # What runs nothing, and what Alembic calls.
    without = {"migrations.config", "migrations.locked_connection", "operations.is_features"}
    assert public - without - named == set()


def _is_operation(name: str, made: object) -> bool:
    return callable(made) and name[0].islower() and getattr(made, "__module__", None) == operations.__name__


def test_no_module_compares_the_name_of_an_engine() -> None:
    """They ask its object; what is of one dialect alone is in the rooms that speak it."""
    src = Path(db.__file__).parent
    speaks = {src / "settings" / "engines", src / "wire"}
    compares = re.compile(r"(dialect\.name|get_backend_name\(\)|kind\.name) ([=!]=|in) |is_sqlite|is_postgres")
    asking = [path for path in src.rglob("*.py") if path.parent not in speaks]
    assert [path.relative_to(src) for path in asking if compares.search(path.read_text())] == []


@pytest.mark.parametrize("name", ["mssql", "oracle", "cockroachdb"])
def test_an_engine_without_an_object_is_refused_by_its_name(name: str) -> None:
    """Whether or not its driver is installed: its promises would be nobody's."""
    with pytest.raises(db.ConfigurationError, match=f"DB_URL names {name}: db speaks PostgreSQL"):
        Settings(url=f"{name}://u:p@h/d")
