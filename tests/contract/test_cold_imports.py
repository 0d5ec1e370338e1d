"""What a cold start does not pay for: the modules that must not be there when a handler has been imported.

The handlers are those that the template names, whatever application that is. Each may load what its own source
imports at the top, and all that comes with that; it must not be made to pay for anything else.
"""

from __future__ import annotations

import ast
import functools
import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devkit.app.project import Project

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    "db.asgi",
    "db.environment.prometheus",
    "db.settings.engines.sqlite",
    "db.telemetry.otel_metrics",
    "greenlet",
    "opentelemetry",
    "orjson",
    "prometheus_client",
    "pydantic",
    "sqlite3",
    "sqlalchemy.orm",
    "urllib3",
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


# Conditions that do not hold when Lambda imports the module.
UNMET = re.compile(r"(\w+\.)?TYPE_CHECKING|__name__ == '__main__'")


def imports_of(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """The import statements that run when the module ``node`` is imported: those in functions wait for a call."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Import() | ast.ImportFrom():
                yield child
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                pass
            case ast.If() if UNMET.fullmatch(ast.unparse(child.test)):
                yield from imports_of(ast.Module(child.orelse, type_ignores=[]))
            case _:
                yield from imports_of(child)


def asked_for(source: str, root: str) -> Iterator[str]:
    """The statements by which ``source``, when it is imported, imports what lies outside of its package ``root``."""
    for found in imports_of(ast.parse(source)):
        if isinstance(found, ast.Import):
            yield from (f"import {name.name}" for name in found.names if name.name.partition(".")[0] != root)
        elif not found.level and (found.module or "").partition(".")[0] not in {root, "__future__"}:
            yield ast.unparse(found)


@functools.cache
def loaded_by(*statements: str, folder: Path = SRC) -> frozenset[str]:
    """The modules in a fresh interpreter that has run ``statements``, and no more."""
    program = ["import contextlib, json, sys", f"sys.path.insert(0, {str(folder)!r})", *statements]
    program.append("print(json.dumps(list(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", "\n".join(program)], check=True, capture_output=True, text=True)
    return frozenset(json.loads(done.stdout.splitlines()[-1]))


def not_asked_for(module: str, folder: Path = SRC) -> frozenset[str]:
    """The heavy modules that come with ``module``, but not with what its sources, itself and its kin, ask for."""
    loaded = loaded_by(f"import {module}", folder=folder)
    if loaded.isdisjoint(HEAVY):
        return frozenset()
    root = module.partition(".")[0]
    statements: set[str] = set()
    for name in loaded:
        if name.partition(".")[0] == root:
            path = folder / name.replace(".", "/")
            source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            statements.update(asked_for(source.read_text(), root))
    # What cannot be imported is one half of a `try`, whose other half stands here as well.
    tried = (f"with contextlib.suppress(ImportError): {statement}" for statement in sorted(statements))
    return loaded & HEAVY - loaded_by(*tried, folder=folder)


@pytest.mark.parametrize("module", ["db", "aws_lambda_powertools"])
def test_the_layer_loads_nothing_that_it_may_not_need(module: str) -> None:
    """A handler that imports it pays for what it uses, when it uses it."""
    assert loaded_by(f"import {module}") & (HEAVY | NEVER) == set()


def test_what_checks_a_database_loads_nothing_that_migrates_it() -> None:
    """It is run for each function, and reads a few catalogues: Alembic would be half of its time."""
    assert loaded_by("import db.__main__") & (HEAVY | NEVER) == set()


# Modules of `db` that serve one call each, and what they alone stand on.
ONE_CALL = {f"db.work.{name}" for name in ("batch", "copy_rows", "database", "idempotent", "once", "reflect")}
LAZY = (
    "{name for name, module in sys.modules.items() if 'Lazy' in object.__getattribute__(module, '__class__').__name__}"
)


def test_a_call_that_no_handler_makes_is_not_loaded() -> None:
    """Its module comes with the name, whichever way that is asked for."""
    assert loaded_by("import db") & ONE_CALL == set()
    assert loaded_by("import db", "db.once") & ONE_CALL == {"db.work.once"}
    assert loaded_by("from db import reflect") & ONE_CALL == {"db.work.reflect"}


def test_dialects_of_other_drivers_wait_for_who_asks_for_them() -> None:
    """SQLAlchemy imports them with that of psycopg; under `db` they cost nothing, and serve who names them."""
    put_off = "from db.environment.lean_imports import PUT_OFF"
    loaded_by("import db", put_off, f"assert PUT_OFF <= {LAZY}, sys.modules")
    used = "import sqlalchemy.dialects.postgresql.pg8000 as one; assert one.dialect.driver == 'pg8000'"
    loaded_by("import db", put_off, used, f"assert {LAZY} == PUT_OFF - {{one.__name__}}")


def test_what_was_imported_before_stays_as_it_is() -> None:
    """A module that somebody has is no other one afterwards."""
    before = "import sqlalchemy.dialects.postgresql.psycopg2 as before"
    loaded_by(before, "import db", f"assert before.dialect.driver == 'psycopg2' and {LAZY} == set()")


@pytest.mark.parametrize(("variables", "frozen"), [("os.environ['AWS_LAMBDA_RUNTIME_API'] = ''", True), ("", False)])
def test_the_collector_is_as_it_was_after_the_import(variables: str, *, frozen: bool) -> None:
    """In Lambda it has nothing to look for in what is there for good. One that was off stays off."""
    loaded_by(
        "import gc, os", variables, "import db", f"assert gc.isenabled() and bool(gc.get_freeze_count()) is {frozen}"
    )
    loaded_by("import gc, os", variables, "gc.disable()", "import db", "assert not gc.isenabled()")


def test_what_serves_asgi_loads_no_framework_and_no_orm() -> None:
    """It takes what the application has loaded anyway."""
    frameworks = {"anyio", "fastapi", "litestar", "mangum", "starlette"}
    assert loaded_by("import db.asgi") & (HEAVY - {"db.asgi"} | NEVER | frameworks) == set()


@pytest.mark.parametrize("module", HANDLERS)
def test_a_handler_loads_nothing_that_it_does_not_ask_for(module: str) -> None:
    """Neither what the layer loads on use, nor what another handler is made of."""
    assert not_asked_for(module) == set()
    assert loaded_by(f"import {module}") & NEVER == set()


@pytest.mark.slow
def test_a_handler_may_ask_for_what_is_heavy(tmp_path: Path) -> None:
    """With all that this brings: the ORM, boto3 and what they stand on."""
    source = """
        from aws_lambda_powertools.utilities import parameters
        from db import aio
        from db.powertools import OncePersistenceLayer
    """
    (tmp_path / "service.py").write_text(textwrap.dedent(source))
    assert loaded_by("import service", folder=tmp_path) >= {"boto3", "greenlet", "sqlalchemy.orm"}
    assert not_asked_for("service", tmp_path) == set()


def test_an_import_in_a_function_excuses_no_earlier_one(tmp_path: Path) -> None:
    """It says that the module is not wanted yet."""
    source = """
        import importlib
        importlib.import_module("urllib3")
        def handler(event, context):
            import urllib3
    """
    (tmp_path / "service.py").write_text(textwrap.dedent(source))
    assert not_asked_for("service", tmp_path) == {"urllib3"}


@pytest.mark.parametrize(
    ("source", "statements"),
    [
        ("import boto3.session as a, json", ["import boto3.session", "import json"]),
        ("from db import aio as a, run", ["from db import aio as a, run"]),
        ("try:\n import a\nexcept ImportError:\n import b", ["import a", "import b"]),
        ("if x:\n import a\nelse:\n import b", ["import a", "import b"]),
        ("class A:\n import a\n def f(self):\n  import b", ["import a"]),
        ("def f():\n import a\nasync def g():\n import b", []),
        ("if TYPE_CHECKING:\n import a\nelse:\n import b", ["import b"]),
        ("if typing.TYPE_CHECKING:\n import a", []),
        ("if not TYPE_CHECKING:\n import a", ["import a"]),
        ('if __name__ == "__main__":\n import a', []),
        ("from __future__ import annotations\nimport service.a\nfrom service import b\nfrom . import c", []),
    ],
)
def test_what_a_source_asks_for_is_what_its_import_runs(source: str, statements: list[str]) -> None:
    """Of others: what its own package asks for stands in the sources of that."""
    assert list(asked_for(source, "service")) == statements


def test_no_module_takes_a_name_of_the_standard_library() -> None:
    """It would shadow it for everything in the same process."""
    taken = {path.stem for path in SRC.glob("*")} & sys.stdlib_module_names
    assert taken == set()
