"""Waiting no longer than there is time, for something that knows no time limit of its own.

``connect_timeout`` is none: libpq and psycopg count it in whole seconds from two up, for each address anew, and the
resolver's own 5 to 20 s come on top.
"""

from __future__ import annotations

import contextvars
import threading
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Overdue(Exception):  # noqa: N818 - says what it is
    """It was not done in time."""


def within(limit_s: float, work: Callable[[], T], *, discard: Callable[[T], object]) -> T:
    """What ``work()`` returns or raises; Overdue when it takes longer than ``limit_s``.

    It runs in a thread of its own, which cannot be stopped: what it comes to later is given to ``discard``.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            if outcome.set_running_or_notify_cancel():
                outcome.set_exception(error)
        else:
            # From here on it can no longer be cancelled, so just one side has the result.
            if outcome.set_running_or_notify_cancel():
                outcome.set_result(result)
            else:
                discard(result)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name="db-connect", daemon=True)
    try:
        thread.start()
        wait((outcome,), limit_s)
    except BaseException:  # SystemExit out of a signal handler, say
        if not outcome.cancel() and outcome.exception() is None:
            discard(outcome.result())
        raise
    if outcome.cancel():
        raise Overdue
    return outcome.result()
