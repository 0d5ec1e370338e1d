"""How to wait: the thread blocks, or, under an event loop, the loop goes on with its other tasks meanwhile.

What this package decides is written once, as plain functions. ``aio`` runs the same ones in greenlets, as SQLAlchemy's
asyncio extension does its own, and there whatever takes time asks here. The only module that knows the difference.
"""

from __future__ import annotations

import asyncio  # SQLAlchemy has loaded it
import contextlib
import sys
import time
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.util import await_, greenlet_spawn
from sqlalchemy.util.concurrency import in_greenlet

from . import timebox
from .timebox import Overdue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractAsyncContextManager

T = TypeVar("T")


def on_loop() -> bool:
    """Whether the caller runs in a greenlet under an event loop, so that it must not block the thread."""
    # Not loaded, it holds nobody; and asking SQLAlchemy would load it.
    return "greenlet" in sys.modules and in_greenlet()


def sleep(seconds: float) -> None:
    """Let ``seconds`` pass."""
    if on_loop():
        await_(asyncio.sleep(seconds))
    else:
        time.sleep(seconds)


def aside(work: Callable[[], T]) -> T:
    """What ``work()`` gives, which may block: under an event loop in another thread, with the caller's context."""
    return await_(asyncio.to_thread(work)) if on_loop() else work()


def within(limit_s: float, work: Callable[[], T], *, discard: Callable[[T], object]) -> T:
    """What ``work()`` returns or raises; Overdue when it takes longer than ``limit_s``.

    ``discard`` is given what comes too late. Under an event loop nothing does, as the wait itself is cancelled.
    """
    return await_(_cut_off(limit_s, work)) if on_loop() else timebox.within(limit_s, work, discard=discard)


@contextlib.contextmanager
def entered(block: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """An ``async with`` block as a plain one. Under an event loop only."""
    value = await_(block.__aenter__())
    try:
        yield value
    except BaseException as error:
        if not await_(block.__aexit__(type(error), error, error.__traceback__)):
            raise
    else:
        await_(block.__aexit__(None, None, None))


async def _cut_off(limit_s: float, work: Callable[[], T]) -> T:
    limit = asyncio.timeout(limit_s)
    try:
        async with limit:
            return await greenlet_spawn(work)
    except TimeoutError as error:
        # One that the work itself raised is its own.
        if limit.expired() and isinstance(error.__cause__, asyncio.CancelledError):
            raise Overdue from None
        raise
