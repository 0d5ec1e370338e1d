"""``gather``: several tasks of one invocation, no more at a time than there are connections for."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, TypeVar

from db.environment.process import DEFAULT
from db.transactions.open_units import open_units

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from db.environment.process import Holder

T = TypeVar("T")


async def gather(*awaitables: Awaitable[T], limit: int | None = None) -> list[T]:
    """The results of all ``awaitables``, in their order; no more than ``limit`` of them run at a time.

    ``limit`` is DB_ASYNC_CONNECTIONS unless given, less what the units of work around it hold, so that none waits for a
    connection. Each is a task of its own, which sees tenant and deadline of the caller. The first error cancels the
    others and is raised when they have ended: unlike after ``asyncio.gather``, nothing is left running. Raises
    ValueError for a ``limit`` below 1.
    """
    return await gather_on(DEFAULT, *awaitables, limit=limit)


async def gather_on(holder: Holder, *awaitables: Awaitable[T], limit: int | None = None) -> list[T]:
    """``gather``, with as many as the database of ``holder`` has connections for."""
    for awaitable in awaitables:
        if not inspect.isawaitable(awaitable):
            raise TypeError(f"gather takes awaitables, such as what a coroutine function gives: not {awaitable!r}")
    failed = False

    async def in_turn(awaitable: Awaitable[T]) -> T:
        nonlocal failed
        async with places:
            if failed:
                raise asyncio.CancelledError  # which it is about to be told
            try:
                return await awaitable
            except BaseException:
                failed = True
                raise

    try:
        places = asyncio.Semaphore(_checked(limit) if limit is not None else _free_connections(holder))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(in_turn(awaitable)) for awaitable in awaitables]
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
    else:
        return [task.result() for task in tasks]
    finally:
        for awaitable in awaitables:
            if asyncio.iscoroutine(awaitable):
                awaitable.close()  # one that never had its turn would be warned of
    raise first


def _checked(limit: int) -> int:
    if limit < 1:
        raise ValueError(f"limit is {limit}: nothing would ever run")
    return limit


def _free_connections(holder: Holder) -> int:
    now = holder.current()
    around = (unit.engine for unit in open_units() if unit.engine is not None and now.has(unit.engine))
    held = sum(engine.dialect.is_async for engine in around)
    return max(now.settings.async_connections - held, 1)
