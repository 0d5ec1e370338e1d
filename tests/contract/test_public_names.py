"""The public face of the package."""

from __future__ import annotations

import inspect
import re
import types
from pathlib import Path

import db
import db.asgi
from db import aio


def test_the_public_names_are_these() -> None:
    """Sorted; a new one is a promise."""
    assert db.__all__ == [
        "AlreadyDoneError",
        "CapacityError",
        "ConfigurationError",
        "CredentialsError",
        "Database",
        "DbError",
        "DeadlineError",
        "InvalidKeyError",
        "KeyReusedError",
        "OutcomeUnknownError",
        "Settings",
        "TenantError",
        "Verdict",
        "batch",
        "begin",
        "carry",
        "check",
        "configure",
        "copy_rows",
        "dispose",
        "engine",
        "fetch",
        "idempotent",
        "invocation",
        "once",
        "prime",
        "purge_once",
        "read",
        "reflect",
        "run",
        "scope",
        "session",
        "sqlstate",
        "status",
        "verdict",
        "write",
    ]


def test_nothing_else_leaks() -> None:
    """Only submodules stand beside them."""
    public = {name for name in vars(db) if not name.startswith("_")}
    others = {name for name in public - set(db.__all__) if not isinstance(getattr(db, name), types.ModuleType)}
    assert others == set()


def test_every_public_name_says_what_it_promises() -> None:
    """In a docstring of its own."""
    assert [name for name in db.__all__ if not inspect.getdoc(getattr(db, name))] == []


def test_the_page_of_public_names_has_each_of_them() -> None:
    """Those of ``db``, ``db.aio`` and ``db.asgi``; and none that is gone."""
    page = (Path(__file__).parents[2] / "docs" / "reference" / "api.md").read_text()
    for prefix, module in (("db", db), ("aio", aio), (r"db\.asgi", db.asgi)):
        named = set(re.findall(rf"`{prefix}\.(\w+)`", page))
        others = {"aio", "asgi", "migrations", "powertools", "errors", "settings"} if module is db else set()
        assert named - others == set(module.__all__) - {"__version__"}
