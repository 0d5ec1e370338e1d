"""``prime``: what the first units of work would do but for the server, done while the module is loaded."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

from sqlalchemy import ClauseElement
from sqlalchemy.engine.interfaces import CacheStats
from sqlalchemy.sql.compiler import WARN_LINTING

from db.environment.process import DEFAULT

if TYPE_CHECKING:
    from sqlalchemy import Engine, Executable

    from db.environment.process import Holder
    from db.environment.runtime import Runtime

    Parameters: TypeAlias = Mapping[str, Any] | Sequence[Mapping[str, Any]]
    Statement: TypeAlias = Executable | tuple[Executable, Parameters]


class Primed(TypedDict):
    """What ``prime`` did."""

    engines: int
    compiled: int  # statements that no engine had compiled before, each for each engine
    modules: int  # that were loaded for it


def prime(*statements: Statement) -> Primed:
    """Make ready all that the first units of work need and that takes no connection, and say what that was.

    The engines of writer and reader are made, with what they import to fetch a secret or to sign a token, and each
    statement is compiled into the cache that executing it looks in. To be called where the module is loaded, after
    ``db.configure``: it never connects, so what it makes may be in a snapshot. ``db.aio`` has engines of its own, which
    are primed where it has been imported.

    A statement is SQLAlchemy's: ``select(...)``, ``insert(...)``, ``text(...)``. One that is executed with parameters
    comes with such, as their names are part of what is compiled: ``(insert(orders), {"id": 0})``, or a list of two
    where it is executed with many. The values are not looked at.

    Raises TypeError for anything else; ConfigurationError where a setting is wrong, and on MySQL and MariaDB, for which
    SQLAlchemy writes a statement as the server's version asks.
    """
    return prime_on(DEFAULT, *statements)


def prime_on(holder: Holder, *statements: Statement) -> Primed:
    """``prime``, on the database of ``holder``."""
    call = f"{holder.called}.prime"
    given = [_taken_apart(one, call) for one in statements]
    before = len(sys.modules)
    with holder.named():
        now = holder.current()
        now.settings.engine_kind.require("prime", call)
        engines = _engines(now)
    codecs.lookup("idna")  # with which Python looks up the name of any host
    compiled = sum(_compiled(engine, *one) for engine in engines for one in given)
    return {"engines": len(engines), "compiled": compiled, "modules": len(sys.modules) - before}


def _engines(now: Runtime) -> list[Engine]:
    can_async = "db.aio" in sys.modules and "aio" not in now.settings.engine_kind.lacks
    kinds = (False, True) if can_async else (False,)
    return list({now.engine(role, asynchronous=kind): None for role in ("writer", "reader") for kind in kinds})


def _taken_apart(given: object, call: str) -> tuple[ClauseElement, list[str], bool]:
    """A statement, the names of its parameters in the order of the cache, and whether it is executed with many."""
    statement, parameters = given if isinstance(given, tuple) and len(given) == 2 else (given, {})  # noqa: PLR2004
    if not isinstance(statement, ClauseElement) or not statement.supports_execution:
        raise TypeError(
            f"{call} takes statements such as select(...) and text(...), or one with its parameters "
            f"(statement, {{...}}), not a {type(statement).__name__}"
        )
    several = [parameters] if isinstance(parameters, Mapping) else parameters
    if not isinstance(several, Sequence) or not all(isinstance(one, Mapping) for one in several):
        raise TypeError(f"{call} takes parameters as a dict, or as a list of dicts")
    return statement, sorted(several[0]) if several else [], len(several) > 1


def _compiled(engine: Engine, statement: ClauseElement, names: list[str], many: bool) -> bool:
    """Have ``engine`` hold ``statement`` as executing it would leave it; whether it was not there before."""
    *_, hit = statement._compile_w_cache(  # noqa: SLF001 - what Connection.execute calls; there is no public way
        dialect=engine.dialect,
        compiled_cache=engine._compiled_cache,  # noqa: SLF001 - likewise
        column_keys=names,
        for_executemany=many,
        schema_translate_map=None,
        linting=engine.dialect.compiler_linting | WARN_LINTING,
    )
    return hit is CacheStats.CACHE_MISS
