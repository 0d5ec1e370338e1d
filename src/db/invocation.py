"""The invocation that is running: its request id, its deadline, and whether it is the process's first.

It goes from the handler to whatever logs or cuts a timeout without passing through the functions in between.
"""

from __future__ import annotations

import contextlib
import contextvars
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .deadline import Deadline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .deadline import LambdaContext


@dataclass(frozen=True)
class Invocation:
    """One call of the handler. Outside of one, ``NONE`` stands in: no request id, no deadline."""

    request_id: str | None
    deadline: Deadline | None
    cold: bool

    @classmethod
    def from_context(cls, context: LambdaContext | None, *, cold: bool, now: float) -> Invocation:
        """``context`` may be None, as unit tests call handlers; then there is no deadline."""
        if context is None:
            return cls(request_id=None, deadline=None, cold=cold)
        return cls(request_id=context.aws_request_id, deadline=Deadline.from_context(context, now=now), cold=cold)


NONE = Invocation(request_id=None, deadline=None, cold=False)

_bound: contextvars.ContextVar[Invocation | None] = contextvars.ContextVar("db_invocation", default=None)
# The one begun last. A thread that the handler starts has none bound, and an environment serves one event at a time.
_last = NONE


def current_invocation() -> Invocation:
    """The invocation of this context, or of the process where this is a thread of its handler's; NONE outside one."""
    return _bound.get() or _last


@contextlib.contextmanager
def running(invocation: Invocation) -> Iterator[None]:
    """Make ``invocation`` the current one for the length of the block."""
    global _last  # noqa: PLW0603 - what threads without a context of their own fall back on
    token, before, _last = _bound.set(invocation), _last, invocation
    try:
        yield
    finally:
        _last = before
        _bound.reset(token)
