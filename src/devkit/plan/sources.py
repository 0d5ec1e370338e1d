"""Whether a function's own code uses ``db.aio``, which holds connections of its own."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def asynchronous(code: Path, handler: str) -> str | None:
    """The module in the folder ``code`` that imports ``db.aio``, of those that ``handler`` leads to; None if none does.

    What is installed is not looked into: a library that imports it is the function's own to know of.
    """
    waiting, seen = [handler.rpartition(".")[0].replace("/", ".")], set()
    while waiting:
        name = waiting.pop()
        path = _file(code, name)
        if name in seen or path is None or name.split(".")[0] == "db":
            continue
        seen.add(name)
        imported = set(_imported(path, name))
        if any(one == "db.aio" or one.startswith("db.aio.") for one in imported):
            return name
        waiting += sorted(imported)
    return None


def _file(code: Path, module: str) -> Path | None:
    path = code / module.replace(".", "/")
    return next((one for one in (path.with_suffix(".py"), path / "__init__.py") if one.is_file()), None)


def _imported(path: Path, module: str) -> Iterator[str]:
    """All that it may import, wherever it says so: of ``from a import b``, ``a`` and ``a.b``."""
    try:
        tree = ast.parse(path.read_text())
    except (SyntaxError, ValueError):  # of another Python, or no text: the function's runtime will tell
        return
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
