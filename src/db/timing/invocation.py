"""The invocation that is running: its request id, its deadline, and whether it is the process's first.

It goes from the handler to whatever logs or cuts a timeout without passing through the functions in between.
"""

from __future__ import annotations

import contextlib
import contextvars
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .deadline import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(eq=False)
class Invocation:
    """One call of the handler. Outside of one, ``NONE`` stands in: no request id, no deadline."""

    request_id: str | None
    deadline: Deadline | None
    cold: bool
    is_init: bool = False  # no event's: what Init itself does stands in for one
    wrote: set[object] = field(default_factory=set)  # the databases, so that reads go where that is visible
    kept: dict[str, Any] = field(default_factory=dict)  # what rooms above keep for as long as it runs, each by its name
    at_end: list[Callable[[], None]] = field(default_factory=list)  # what rooms above have to settle when it ends

    @classmethod
    def from_context(cls, context: object, *, cold: bool, now: float) -> Invocation:
        """What ``context`` tells. A unit test may have a part of Lambda's, or ``{}``, or None, which tell less.

        A durable function's context holds Lambda's.
        """
        context = getattr(context, "lambda_context", context)
        request_id = getattr(context, "aws_request_id", None)
        return cls(
            request_id=request_id if isinstance(request_id, str) else None,
            deadline=Deadline.from_context(context, now=now),
            cold=cold,
        )


NONE = Invocation(request_id=None, deadline=None, cold=False)

_bound: contextvars.ContextVar[Invocation | None] = contextvars.ContextVar("db_invocation", default=None)
# Those that have this process to themselves: one, but for tests. A thread that the handler starts has none bound.
_running: list[Invocation] = []


def current_invocation() -> Invocation:
    """The invocation of this context; in a thread of its handler's, the process's newest; NONE outside of any."""
    return _bound.get() or (_running[-1] if _running else NONE)


def bound_invocation() -> Invocation | None:
    """The invocation that this context has bound, if any."""
    return _bound.get()


@contextlib.contextmanager
def unbound() -> Iterator[None]:
    """Bind none for the length of the block: what this context has is another's, by whom it was begun."""
    token = _bound.set(None)
    try:
        yield
    finally:
        _bound.reset(token)


def is_bound_here() -> bool:
    """Whether the invocation that runs, if any, is of this context: a thread of its handler's has none of its own."""
    return _bound.get() is not None or not _running


@contextlib.contextmanager
def running(invocation: Invocation, *, alone: bool = True) -> Iterator[None]:
    """Make ``invocation`` the current one for the length of the block.

    Unless it is ``alone`` in the process, it is so in this context only: an unbound thread may be anyone's.
    """
    token = _bound.set(invocation)
    if alone:
        _running.append(invocation)
    try:
        yield
    finally:
        if alone:
            _running.remove(invocation)
        _bound.reset(token)
