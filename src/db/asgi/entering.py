"""A plain ``with`` block, entered and left by a coroutine, in other threads: the event loop goes on meanwhile.

What the block binds to its context, so that a unit of work within sees it, is bound in the coroutine's: a thread has a
copy. The threads are of this module's own. An application's threads may all be waiting for the connection that the
block holds, and then there would be none left to give it back in.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractContextManager

T = TypeVar("T")

# Those who enter may wait for a connection. Who leaves gives one back, and must not stand behind them.
_ENTERING, _LEAVING = 32, 8
_executors: tuple[ThreadPoolExecutor, ThreadPoolExecutor] | None = None


def _forget() -> None:
    global _executors  # noqa: PLW0603 - a thread of the parent's is not in this process
    _executors = None


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork either
    os.register_at_fork(after_in_child=_forget)


def _threads() -> tuple[ThreadPoolExecutor, ThreadPoolExecutor]:
    global _executors  # noqa: PLW0603 - the process's own
    if _executors is None:
        _executors = (ThreadPoolExecutor(_ENTERING, "db-enter"), ThreadPoolExecutor(_LEAVING, "db-leave"))
    return _executors


@asynccontextmanager
async def entered(block: AbstractContextManager[T]) -> AsyncIterator[T]:
    """``block``, as one for ``async with``. A task that is cancelled goes on when the thread is done."""
    to_enter, to_leave = _threads()
    try:
        given = await _in_thread(to_enter, block.__enter__)
    except _CancelledWithin as cancelled:
        if cancelled.failure is None:
            await _left(to_leave, block, cancelled.reason)
        raise cancelled.reason from None
    try:
        yield given
    except BaseException as error:
        if not await _left(to_leave, block, error):
            raise
    else:
        await _left(to_leave, block, None)


async def _left(threads: ThreadPoolExecutor, block: AbstractContextManager[T], error: BaseException | None) -> bool:
    def leave() -> bool | None:
        if error is None:
            return block.__exit__(None, None, None)
        return block.__exit__(type(error), error, error.__traceback__)

    try:
        return bool(await _in_thread(threads, leave))
    except _CancelledWithin as cancelled:
        raise (cancelled.failure or cancelled.reason) from None


class _CancelledWithin(BaseException):
    """The task was cancelled while the thread was at work, which came to its end all the same, or to ``failure``."""

    def __init__(self, reason: asyncio.CancelledError, failure: BaseException | None) -> None:
        self.reason, self.failure = reason, failure
        super().__init__(reason)


async def _in_thread(threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    context = contextvars.copy_context()
    done = asyncio.get_running_loop().run_in_executor(threads, context.run, work)
    reason: asyncio.CancelledError | None = None
    while not done.done():
        try:
            await asyncio.wait([done])
        except asyncio.CancelledError as error:  # whoever cancels by scopes does so again and again
            reason = error
    if reason is not None:
        raise _CancelledWithin(reason, done.exception())
    _bind_as_in(context)
    return done.result()


def _bind_as_in(context: contextvars.Context) -> None:
    """Give each variable the value that it has in ``context``."""
    for variable, value in context.items():
        with contextlib.suppress(LookupError):
            if variable.get() is value:
                continue
        variable.set(value)
