"""The public face of the package."""

from __future__ import annotations

import inspect
import types

import db


def test_the_public_names_are_these() -> None:
    """Sorted; a new one is a promise."""
    assert db.__all__ == [
        "AlreadyDoneError",
        "CapacityError",
        "ConfigurationError",
        "CredentialsError",
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
        "configure",
        "copy_rows",
        "dispose",
        "engine",
        "fetch",
        "idempotent",
        "invocation",
        "once",
        "purge_once",
        "read",
        "reflect",
        "run",
        "scope",
        "session",
        "sqlstate",
        "status",
        "verdict",
    ]


def test_nothing_else_leaks() -> None:
    """Only submodules stand beside them."""
    public = {name for name in vars(db) if not name.startswith("_")}
    others = {name for name in public - set(db.__all__) if not isinstance(getattr(db, name), types.ModuleType)}
    assert others == set()


def test_every_public_name_says_what_it_promises() -> None:
    """In a docstring of its own."""
    assert [name for name in db.__all__ if not inspect.getdoc(getattr(db, name))] == []
