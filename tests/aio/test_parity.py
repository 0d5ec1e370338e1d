"""``db.aio`` has what ``db`` has, under the same names, with the same arguments and the same promises."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any, get_overloads

import pytest

import db
from db import aio
from db.aio.idempotency import AsyncOnce
from db.work.once import Once

SRC = Path(__file__).parents[2] / "src"
# What waits for nothing, or wraps the handler as a whole: one serves both.
SHARED = {
    "Database",
    "Settings",
    "Verdict",
    "carry",
    "check",
    "configure",
    "dispose",
    "invocation",
    "prime",
    "scope",
    "sqlstate",
    "status",
    "verdict",
}
# What only concurrency needs.
OWN = {"gather"}
ERRORS = {name for name in db.__all__ if name.endswith("Error")}
TWINS = sorted(set(db.__all__) - SHARED - ERRORS)


def first_paragraph(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").partition("\n\n")[0]


def parameters(thing: Any) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(thing).parameters.values()]


class Plain(ast.NodeTransformer):
    """An annotation of a coroutine function as the plain twin has it: what is awaited is given."""

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(node.id.removeprefix("Async").replace("AbstractAsync", "Abstract"))

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        match self.generic_visit(node):
            case ast.Subscript(value=ast.Name(id="Awaitable"), slice=given):
                return given
            case ast.Subscript(value=ast.Name(id="Coroutine"), slice=ast.Tuple(elts=[_, _, given])):
                return given
            case other:
                return other


def typed(thing: Any) -> list[dict[str, str]]:
    """What a checker reads of ``thing``, as the plain twin has it: all annotations of each overload, and of itself."""
    return [
        {name: ast.unparse(Plain().visit(ast.parse(text))) for name, text in inspect.get_annotations(one).items()}
        for one in (*get_overloads(thing), inspect.unwrap(thing))
    ]


def test_every_unit_of_work_has_a_twin() -> None:
    """And nothing else is there but what only concurrency needs."""
    assert aio.__all__ == sorted({*TWINS, *OWN})


@pytest.mark.parametrize("name", TWINS)
def test_twins_have_the_same_parameters(name: str) -> None:
    """Names, kinds and defaults."""
    assert parameters(getattr(aio, name)) == parameters(getattr(db, name))


@pytest.mark.parametrize("name", TWINS)
def test_twins_have_the_same_types(name: str) -> None:
    """But for what is awaited, and SQLAlchemy's own twins; overload by overload."""
    assert typed(getattr(aio, name)) == typed(getattr(db, name))
    assert "return" in typed(getattr(db, name))[0]


@pytest.mark.parametrize("name", TWINS)
def test_twins_promise_the_same(name: str) -> None:
    """In the same words, to the end of the first paragraph; the rest says what differs, and where to read on."""
    assert first_paragraph(getattr(aio, name)) == first_paragraph(getattr(db, name))
    assert f"as ``db.{name}``" in (inspect.getdoc(getattr(aio, name)) or "")


def test_what_once_gives_has_a_twin_too() -> None:
    """Key, result, whether it was replayed; as a block or as a function."""
    for name in ("run",):
        assert parameters(getattr(AsyncOnce, name)) == parameters(getattr(Once, name))
        assert typed(getattr(AsyncOnce, name)) == typed(getattr(Once, name))
        assert first_paragraph(getattr(AsyncOnce, name)) == first_paragraph(getattr(Once, name))
    public = {name for name in vars(AsyncOnce) if not name.startswith("_")}
    assert public == {"key", "replayed", "result", "run"}


def test_nothing_of_it_is_loaded_before_it_is_used() -> None:
    """Neither the module, nor greenlet and the ORM, which it brings."""
    program = f"import sys; sys.path.insert(0, {str(SRC)!r}); import db; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert {"db.aio", "greenlet", "sqlalchemy.ext.asyncio", "sqlalchemy.orm"} & set(done.stdout.split()) == set()
