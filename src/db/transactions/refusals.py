"""What the engine cannot do, refused in the words of the call that asked for it. Loaded where an engine lacks any."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from db.errors import ConfigurationError
from db.settings.engines.kinds import kind_named
from db.telemetry.log import warn_of_unchecked_tenants
from db.timing.waiting import on_loop

from .open_units import open_units

if TYPE_CHECKING:
    from types import FrameType

    from sqlalchemy import Engine

    from db.environment.runtime import Runtime
    from db.pool.connect_arguments import Role
    from db.settings import Settings

# Between a block's function and whoever enters it.
_IN_BETWEEN = {"contextlib", "db.transactions.blocks", "db.transactions.unit_of_work", __name__}
_ONE_WRITER = (
    "a unit of work that writes, inside of another of its context that does: {} has one writer at a time, and it would "
    "wait for itself. Use the outer one's connection (tx, or db.session(tx=tx))"
)
_ONE_FILE = (
    "a unit of work that writes, inside of another of its context that writes to the same file, as another database: "
    "{} has one writer at a time, and it would wait for itself. Give each database a file of its own"
)


def require_call(settings: Settings, *, tenant: object = None, call: str = "begin") -> None:
    """Raise ConfigurationError where the engine cannot serve ``call``: of ``db.aio``, or for a tenant."""
    kind = settings.engine_kind
    if not kind.lacks:
        return
    if on_loop():
        kind.require("aio", "db.aio")
    if tenant is not None:
        require_tenants(settings, call=call)


def require_unit(
    now: Runtime, role: Role, *, call: str, tenant: str | None, read_only: bool, isolation: str | None
) -> None:
    """The same for a unit of work; and where it would wait for one around it to end its writing."""
    require_call(now.settings, tenant=tenant, call=call)
    kind, engine = now.settings.engine_kind, now.engine(role)
    if isolation not in {None, "REPEATABLE READ"}:
        kind.require("isolation", f"{called(call)}(isolation=…)")
    if kind.has_one_writer and not read_only:
        writing = [unit.engine for unit in open_units() if unit.engine is not None and not unit.read_only]
        if engine in writing:
            raise ConfigurationError([_ONE_WRITER.format(kind.title)])
        if any(_are_of_one_file(engine, other) for other in writing):
            raise ConfigurationError([_ONE_FILE.format(kind.title)])


def _are_of_one_file(engine: Engine, other: Engine) -> bool:
    """Whether two databases are one, by how their URLs name it."""
    one, another = engine.url, other.url
    kind, others = kind_named(engine.dialect.name), kind_named(other.dialect.name)
    if kind is None or kind is not others or kind.in_one_connection(one) or kind.in_one_connection(another):
        return False
    return os.path.realpath(one.database or "") == os.path.realpath(another.database or "")


def require_tenants(settings: Settings, *, call: str = "begin") -> None:
    """Raise ConfigurationError where a unit of work has a tenant and the engine keeps none apart.

    The settings may let it pass; then it is warned of once a process.
    """
    kind = settings.engine_kind
    if "tenant" in kind.can:
        return
    if settings.sqlite_tenants == "unchecked":
        warn_of_unchecked_tenants(kind.title, prefix=settings.prefix)
        return
    kind.require("tenant", f"{called(call)}(tenant=…)")


def called(call: str) -> str:
    """The public call that the user's code has made, as it is written there; ``call``, where he has entered a block."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - there is no other way to a frame
    found = call
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        if module not in _IN_BETWEEN:
            if not module.startswith("db."):
                break
            found = frame.f_code.co_qualname.removeprefix("Database.")
        frame = frame.f_back
    return f"db.{found.partition('.')[0].lstrip('_').removesuffix('_on').lower()}"
