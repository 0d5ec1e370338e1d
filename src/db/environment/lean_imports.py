"""Imports at less: without the garbage collector, and without modules that another one loads and nobody asks of.

SQLAlchemy's dialects for PostgreSQL load each other, those of drivers that are not installed as well. Python's own way
to put a module off (``importlib.util.LazyLoader``) leaves it where it is: under its name, as an attribute of its
package, loaded by the first who asks anything of it. Whoever imported one of them before has what they had.
"""

from __future__ import annotations

import gc
import os
import sys
from contextlib import contextmanager
from importlib.machinery import PathFinder
from importlib.util import LazyLoader
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from importlib.machinery import ModuleSpec

DIALECTS = "sqlalchemy.dialects.postgresql"
# Each is imported by `from . import it`, once, and has no part in what its package does when it is loaded.
PUT_OFF = frozenset(f"{DIALECTS}.{name}" for name in ("asyncpg", "pg8000", "psycopg2", "psycopg2cffi"))


class _PutsOff:
    """Finds the modules of ``PUT_OFF`` where they are, and has them loaded by who first uses them."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: object = None) -> ModuleSpec | None:  # noqa: ARG004 - a finder's signature
        spec = PathFinder.find_spec(name, path) if name in PUT_OFF else None
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


@contextmanager
def lean_imports() -> Iterator[None]:
    """Import in the block what is large: next to nothing of it is garbage, so none is looked for meanwhile.

    In Lambda nor is it afterwards: what is there at the end of the block is as old as the process will be.
    ``gc.unfreeze()`` takes that back.
    """
    collects = gc.isenabled()
    gc.disable()
    sys.meta_path.insert(0, _PutsOff)
    try:
        yield
    finally:
        sys.meta_path.remove(_PutsOff)
        if collects and "AWS_LAMBDA_RUNTIME_API" in os.environ:
            gc.freeze()
        if collects:
            gc.enable()
