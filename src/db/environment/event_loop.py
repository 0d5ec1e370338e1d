"""The process's event loop: made when the first coroutine runs, kept between invocations, as what is bound to it is.

A connection, a lock or a client of asyncio belongs to the loop that it was made on, so a loop for each invocation, as
``asyncio.run`` makes it, would lose them all at its end.
"""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import os
import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from db.errors import OutcomeUnknownError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine, Iterator

T = TypeVar("T")

_TRIES = 3
_runner: asyncio.Runner | None = None
# Runners of the process that this one was forked from. They are kept, for a loop that is collected takes its pipe out
# of an epoll that it shares with the parent's.
_parents: list[asyncio.Runner] = []
_one_at_a_time = threading.RLock()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """What ``coroutine`` returns or raises, run on the loop of this process, in the context of the caller.

    Tasks that it leaves behind stay pending until the next run. Threads wait for each other. Raises RuntimeError within
    a running loop: there, ``await`` it.

    An exception that a signal's handler raises cancels ``coroutine``, and is raised when that has ended, whatever it
    ended with; OutcomeUnknownError where a transaction was committing meanwhile.
    """
    with _one_at_a_time:
        runner = _kept()
        main = _Main(coroutine)
        starting = main.run()
        try:
            # The runner has a context of its own, which knows neither invocation nor tenant.
            return cast("T", runner.run(starting, context=contextvars.copy_context()))
        except BaseException as error:
            if main.is_pending:
                _end(runner, main, error)
            raise
        finally:
            main.is_over = True
            if not main.is_pending:
                for one in (starting, coroutine):
                    one.close()  # where it was refused; one that has ended does not mind


@contextlib.contextmanager
def at_hand() -> Iterator[None]:
    """The loop of this process, as the current one of this thread: for who runs it with ``run_until_complete``.

    What an exception out of the loop leaves pending, such as one of a signal's handler, is cancelled and seen to its
    end, as it holds a connection. Threads wait for each other.
    """
    import asyncio

    with _one_at_a_time:
        loop = _kept().get_loop()
        asyncio.set_event_loop(loop)
        before = asyncio.all_tasks(loop)
        try:
            yield
        except BaseException:
            left = asyncio.all_tasks(loop) - before
            for task in left:
                task.cancel()
            if left and not loop.is_running():
                with contextlib.suppress(BaseException):  # another alarm: the first is the one to raise
                    loop.run_until_complete(asyncio.wait(left))
            raise


def _kept() -> asyncio.Runner:
    global _runner  # noqa: PLW0603 - the loop is the process's
    if _runner is None:
        import asyncio

        _runner = asyncio.Runner()
    return _runner


class _Main(Generic[T]):
    """A coroutine, and the task that it runs in once it does."""

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine
        self.task: asyncio.Task[Any] | None = None
        self.is_over = False

    async def run(self) -> T | None:
        import asyncio

        if self.is_over:
            return None  # the loop was left before its first step, and its task is still there
        self.task = asyncio.current_task()
        return await self._coroutine

    @property
    def is_pending(self) -> bool:
        """Whether the loop was left while it was under way."""
        return self.task is not None and not self.task.done()


def _end(runner: asyncio.Runner, main: _Main[Any], interrupted_by: BaseException) -> None:
    """Cancel what an exception out of the loop has left pending, and see it to its end: it holds a connection."""
    import asyncio

    async def ended() -> None:
        if main.task is not None:
            main.task.cancel()
            await asyncio.wait([main.task])

    for _ in range(_TRIES):
        if main.is_pending:
            with contextlib.suppress(BaseException):  # another alarm: the first is the one to raise
                runner.run(ended())
    if main.task is not None and main.task.done() and not main.task.cancelled():
        outcome = main.task.exception()
        if isinstance(outcome, OutcomeUnknownError):
            raise OutcomeUnknownError(str(outcome)) from interrupted_by


def close() -> None:
    """Cancel what is pending and close the loop; the next ``run`` makes another. Does nothing where there is none."""
    global _runner
    with _one_at_a_time:
        runner, _runner = _runner, None
        if runner is not None:
            runner.close()


def _close_at_exit() -> None:
    if _one_at_a_time.acquire(blocking=False):  # a daemon thread that runs it never lets go
        close()
        _one_at_a_time.release()


def _forget() -> None:
    global _runner, _one_at_a_time
    if _runner is not None:
        _parents.append(_runner)
    _runner, _one_at_a_time = None, threading.RLock()  # a thread that held the lock is not in this process


atexit.register(_close_at_exit)
if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork either
    os.register_at_fork(after_in_child=_forget)
