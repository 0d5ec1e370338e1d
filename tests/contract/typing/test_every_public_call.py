"""The user's module that the type checkers read leaves no public call out."""

from __future__ import annotations

import ast
from pathlib import Path
from types import FunctionType

import pytest

import db
import db.asgi
from db import aio, errors, settings
from db.environment import prometheus
from db.migrations import operations

MODULE = Path(__file__).with_name("every_public_call.py")


def functions_of(module: object) -> set[str]:
    """The public functions that are its own, or its package's."""
    here = module.__name__  # type: ignore[attr-defined]
    return {
        name
        for name, value in vars(module).items()
        if isinstance(value, FunctionType)
        and f"{value.__module__}.".startswith(f"{here}.")
        and not name.startswith("_")
    }


# The calls of errors that db does not give under its own name, and those that only the layer itself makes.
INTERNAL = {
    "claim",
    "first_flight_verdict",
    "host_problem",
    "in_words_of",
    "is_in_words",
    "is_of_rate",
    "is_of_rules",
    "port_problem",
    "ran_nowhere",
    "single",
    "unread",
}
PUBLIC = {
    "db": set(db.__all__),
    "aio": set(aio.__all__),
    "db.asgi": set(db.asgi.__all__),
    "operations": functions_of(operations),
    "prometheus": set(prometheus.__all__),
    "db.errors": functions_of(errors) - set(db.__all__) - INTERNAL,
    "db.settings": functions_of(settings) - INTERNAL,
}


def used(prefix: str) -> set[str]:
    """The attributes of ``prefix`` that the module asks for."""
    nodes = ast.walk(ast.parse(MODULE.read_text()))
    return {node.attr for node in nodes if isinstance(node, ast.Attribute) and ast.unparse(node.value) == prefix}


@pytest.mark.parametrize("prefix", PUBLIC)
def test_every_public_call_is_made(prefix: str) -> None:
    """A new one is typed before it is released."""
    assert PUBLIC[prefix] - used(prefix) == set()
