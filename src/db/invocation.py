"""The invocation that is running: its request id, its deadline, and whether it is the process's first.

A context variable carries it from the handler to whatever logs or cuts a timeout, so no function in between has to.
"""

from __future__ import annotations

import contextvars
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .deadline import Deadline

if TYPE_CHECKING:
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
current_invocation: contextvars.ContextVar[Invocation] = contextvars.ContextVar("db_invocation", default=NONE)
