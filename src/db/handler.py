"""``@invocation``: what surrounds one call of a handler."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import itertools
import time
from typing import TYPE_CHECKING, Any, TypeVar

from . import runtime
from .invocation import Invocation, running
from .lifecycle import warn_of_leak
from .metrics import Tally, emit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

_calls = itertools.count()


def invocation(handler: Callable[[Any, Any], T]) -> Callable[[Any, Any], T]:
    """Bind deadline, request id and cold or warm to each call of ``handler(event, context)``; report at its end.

    What the handler did with the database is printed as metrics (EMF) when it returns or raises, and a connection
    that it left checked out is warned of. ``context`` may be None, as in unit tests: then there is no deadline. Raises
    nothing of its own: the settings are read where the handler first uses the database, and can answer for them.
    """

    @functools.wraps(handler)
    def call(event: Any, context: Any = None) -> T:
        invocation = Invocation.from_context(context, cold=next(_calls) == 0, now=time.time())
        # A context of its own: what the handler leaves bound, a tenant above all, must not meet the next invocation.
        return contextvars.copy_context().run(_call, handler, event, context, invocation)

    return call


def _call(handler: Callable[[Any, Any], T], event: Any, context: Any, invocation: Invocation) -> T:
    with running(invocation), _reported():
        return handler(event, context)


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    runtime_before = runtime.peek()
    before = runtime_before.tally.copy() if runtime_before is not None else Tally()
    try:
        yield
    finally:
        now = runtime.peek()
        if now is not None:
            # A runtime that this call built, or replaced, began from nothing.
            emit(now.tally.since(before if now is runtime_before else Tally()))
            if left := now.checked_out():
                warn_of_leak(left)
