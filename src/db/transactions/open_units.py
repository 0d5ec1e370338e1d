"""Which units of work a context has open, and whether there is a connection left for one more inside of them."""

from __future__ import annotations

import contextvars
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from db.environment import process
from db.errors import ConfigurationError
from db.pool.pools import StaticQueuePool, capacity
from db.timing.invocation import note_write
from db.wire.commit_outcome import Unit, coming

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy import Engine

    from db.environment.process import Holder


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


@contextmanager
def unit_on(holder: Holder, engine: Engine) -> Iterator[Unit]:
    """A unit of work on ``engine``, of ``holder``. One that could only wait for those around it is refused at once."""
    around_it = open_units()
    around = sum(unit.engine is engine for unit in around_it)
    if around >= capacity(engine):
        more = "raise DB_ASYNC_CONNECTIONS" if engine.dialect.is_async else "raise DB_POOL_SIZE"
        if isinstance(engine.pool, StaticQueuePool):
            more = engine.pool.more
        others = "another" if around == 1 else f"{around} others"
        problem = (
            f"a unit of work inside of {others} of its context needs a connection of its own and the pool has none "
            f"left: use the outer one's, or {more}"
        )
        raise ConfigurationError([problem])
    unit = Unit(engine)
    try:
        _units.set((*around_it, unit))
        coming.unit = unit
        yield unit
    finally:
        unit.open = False
        if unit.committed or unit.outcome_unknown:
            note_write(holder)
