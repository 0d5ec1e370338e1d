"""What a cold start does not pay for: the modules that must not be there when a handler has been imported.

The handlers are those that the template names, whatever application that is. Each may load what its own source asks for
by name; it must not be made to pay for anything else.
"""

from __future__ import annotations

import ast
import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from devkit.app.project import Project

SRC = Path(__file__).parents[2] / "src"
# Each loads where it is first used: boto3 with a secret outside Lambda, the ORM with db.session, Alembic with a
# migration, the rest with what it is for.
HEAVY = {
    "alembic",
    "aws_lambda_powertools.event_handler",
    "aws_lambda_powertools.utilities.batch",
    "boto3",
    "botocore.session",
    "db.aio",
    "greenlet",
    "pydantic",
    "sqlalchemy.orm",
    "urllib3",
}
# What comes with a module that a source asks for.
BRINGS = {
    "aws_lambda_powertools.utilities.parser": {"pydantic"},
    "boto3": {"botocore.session", "urllib3"},
    "db.aio": {"greenlet"},
}
# Nothing in a source is a reason to ship these.
NEVER = {"devkit", "moto", "pytest"}

PROJECT = Project.find(SRC)
HANDLERS = sorted(
    {
        function.handler.rpartition(".")[0]
        for name, function in PROJECT.functions().items()
        if not PROJECT.template.resources[name]
        .get("Metadata", {})
        .get("HandlerInLayer")  # a layer's module is not ours
    }
)


@functools.cache
def loaded_by(module: str) -> frozenset[str]:
    """The modules in a fresh interpreter that has imported ``module``, and no more."""
    program = (
        f"import sys, json; sys.path.insert(0, {str(SRC)!r}); import {module}; print(json.dumps(list(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return frozenset(json.loads(done.stdout.splitlines()[-1]))


def asked_for(modules: frozenset[str]) -> set[str]:
    """What the sources of the handlers among ``modules`` import by name, and what that brings."""
    names: set[str] = set()
    for module in modules:
        path = SRC / module.replace(".", "/")
        source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if module.startswith("handlers."):
            for node in ast.walk(ast.parse(source.read_text())):
                if isinstance(node, ast.Import):
                    names |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names.union(*(BRINGS.get(name, set()) for name in names))


def test_the_layer_loads_nothing_that_it_may_not_need() -> None:
    """A handler that imports it pays for what it uses, when it uses it."""
    assert loaded_by("db") & (HEAVY | NEVER) == set()


@pytest.mark.parametrize("module", HANDLERS)
def test_a_handler_loads_nothing_that_it_does_not_ask_for(module: str) -> None:
    """Neither what the layer loads on use, nor what another handler is made of."""
    loaded = loaded_by(module)
    assert loaded & HEAVY <= asked_for(loaded)
    assert loaded & NEVER == set()


def test_no_module_takes_a_name_of_the_standard_library() -> None:
    """It would shadow it for everything in the same process."""
    taken = {path.stem for path in SRC.glob("*")} & sys.stdlib_module_names
    assert taken == set()
