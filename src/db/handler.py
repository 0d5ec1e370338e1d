"""``@invocation``: what surrounds one call of a handler."""

from __future__ import annotations

import functools
import itertools
import time
from typing import TYPE_CHECKING, Any, TypeVar

from . import runtime
from .invocation import Invocation, current_invocation
from .lifecycle import Tally, emit, warn_of_leak

if TYPE_CHECKING:
    from collections.abc import Callable

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
        cold = next(_calls) == 0
        token = current_invocation.set(Invocation.from_context(context, cold=cold, now=time.time()))
        runtime_before = runtime.peek()
        before = runtime_before.tally.copy() if runtime_before is not None else Tally()
        try:
            return handler(event, context)
        finally:
            now = runtime.peek()
            if now is not None:
                # A runtime that this call built, or replaced, began from nothing.
                emit(now.tally.since(before if now is runtime_before else Tally()))
                if left := now.checked_out():
                    warn_of_leak(left)
            current_invocation.reset(token)

    return call
