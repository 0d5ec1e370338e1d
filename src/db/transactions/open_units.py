"""Which units of work a context has open, and whether there is a connection left for one more inside of them."""

from __future__ import annotations

import contextvars
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from db.environment import process
from db.errors import ConfigurationError
from db.pool.pools import StaticQueuePool, capacity
from db.wire.commit_outcome import coming

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy import Engine

    from db.wire.commit_outcome import Unit


# The units of this context. Those that have ended are passed over, so they may end in any order, as generators do.
_units: contextvars.ContextVar[tuple[Unit, ...]] = contextvars.ContextVar("db_units", default=())


def _forget() -> None:
    _units.set(())


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork either
    # Those that were open are the parent's, and so is what they hold.
    os.register_at_fork(after_in_child=_forget)


def open_units() -> tuple[Unit, ...]:
    """The units of this context that have not ended."""
    return tuple(unit for unit in _units.get() if unit.open)


@contextmanager
def no_units() -> Iterator[None]:
    """Without the units of this context for the length of the block: they are another's, by whom it was begun."""
    token = _units.set(())
    try:
        yield
    finally:
        _units.reset(token)


def join(units: Iterable[Unit]) -> None:
    """Have this context see ``units``, too: what another task has opened for it."""
    here = open_units()
    _units.set((*here, *(unit for unit in units if unit.open and unit not in here)))


process.look_for_units_by(lambda runtime: any(runtime.has(unit.engine) for unit in open_units()))


def begin_inside(unit: Unit) -> None:
    """Open ``unit`` in this context. Raises ConfigurationError where it could only wait for those around it."""
    around_it = [other for other in _units.get() if other.open]
    if around_it:
        _require_room(unit.engine, sum(other.engine is unit.engine for other in around_it))
    _units.set((*around_it, unit))
    coming.unit = unit


def _require_room(engine: Engine | None, around: int) -> None:
    if engine is None or around < capacity(engine):
        return
    more = "raise DB_ASYNC_CONNECTIONS" if engine.dialect.is_async else "raise DB_POOL_SIZE"
    if isinstance(engine.pool, StaticQueuePool):
        more = engine.pool.more
    others = "another" if around == 1 else f"{around} others"
    problem = (
        f"a unit of work inside of {others} of its context needs a connection of its own and the pool has none "
        f"left: use the outer one's, or {more}"
    )
    raise ConfigurationError([problem])
