"""``@invocation``: what surrounds one call of a handler."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
import time
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from db.telemetry.log import warn_of_leak, warn_of_repeats
from db.telemetry.metrics import Tally, emit
from db.telemetry.repeated_statements import repeats_so_far
from db.timing.invocation import Invocation, current_invocation, running

from . import event_loop, process, sigterm, snapstart

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from .process import Runtime

T = TypeVar("T")
EventT = TypeVar("EventT")
ContextT = TypeVar("ContextT")
T_co = TypeVar("T_co", covariant=True)
EventT_contra = TypeVar("EventT_contra", contravariant=True)
ContextT_contra = TypeVar("ContextT_contra", contravariant=True)

_cold = True  # until the first call
_reports: list[_Report] = []  # of the calls that run now


class Handler(Protocol[EventT_contra, ContextT_contra, T_co]):
    """What Lambda calls. A test may leave the context away; it is None then, whatever type the function names."""

    def __call__(self, event: EventT_contra, context: ContextT_contra = ...) -> T_co: ...


@overload
def invocation(handler: Callable[[EventT, ContextT], Coroutine[Any, Any, T]]) -> Handler[EventT, ContextT, T]: ...
@overload
def invocation(handler: Callable[[EventT, ContextT], T]) -> Handler[EventT, ContextT, T]: ...
def invocation(handler: Callable[[Any, Any], Any]) -> Handler[Any, Any, Any]:
    """Bind deadline, request id and cold or warm to each call of ``handler(event, context)``; report at its end.

    What the handler did with the database is printed as metrics (EMF) when it returns or raises, and a connection
    that it left checked out is warned of. ``context`` may be None, as in unit tests: then there is no deadline. Raises
    nothing of its own: the settings are read where the handler first uses the database, and can answer for them.

    An ``async def`` handler is run to its end on the event loop of this process, which outlives the call: Lambda wants
    an answer, not a coroutine.

    Inside Lambda, decorating the first handler also prepares for the environment's end (DB_SHUTDOWN_HOOK) and for
    SnapStart, so decorate where the module is loaded. See
    https://serverless-data-access.github.io/serverless-data-access/run/lifecycle/
    """
    sigterm.install(_report_running)
    snapstart.install(_begin_anew)

    @functools.wraps(handler)
    def call(event: Any, context: Any = None) -> Any:
        invocation = Invocation.from_context(context, cold=_first_call(), now=time.time())
        # A context of its own: what the handler leaves bound, a tenant above all, must not meet the next invocation.
        return contextvars.copy_context().run(_call, handler, event, context, invocation)

    return call


def _call(handler: Callable[[Any, Any], Any], event: Any, context: Any, invocation: Invocation) -> Any:
    with running(invocation), _reported():
        answer = handler(event, context)
        return event_loop.run(answer) if inspect.iscoroutine(answer) else answer


def _first_call() -> bool:
    global _cold
    first, _cold = _cold, False
    return first


def _begin_anew() -> None:
    """The next call is this environment's first, whatever ran before the snapshot."""
    global _cold  # noqa: PLW0603 - the process has one first call
    _cold = True


class _Report:
    """What the database did in one call: the difference between then and now."""

    def __init__(self) -> None:
        self._runtime = process.peek()
        self._before = self._runtime.tally.copy() if self._runtime is not None else Tally()

    def emit(self) -> None:
        now = process.peek()
        if now is not None:
            # A runtime that this call built, or replaced, began from nothing.
            emit(now.tally.since(self._before if now is self._runtime else Tally()))


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    report = _Report()
    _reports.append(report)
    try:
        yield
    finally:
        _reports.remove(report)
        for settle in current_invocation().at_end:
            settle()
        now = process.peek()
        if now is not None:
            _end_of_invocation(now)
            report.emit()


def _end_of_invocation(now: Runtime) -> None:
    """What is to be settled before the environment is frozen."""
    if left := now.checked_out():
        warn_of_leak(left)
    now.end_of_invocation()
    warn_of_repeats(repeats_so_far(), budget=now.settings.statement_repeats)


def _report_running() -> None:
    """Report the calls that will not come to their end."""
    for report in _reports:
        report.emit()
