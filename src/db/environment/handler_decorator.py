"""``@invocation``: what surrounds one call of a handler, or one request to a server (``served``)."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from db.telemetry.log import warn_of_leak, warn_of_no_invocation, warn_of_repeats
from db.telemetry.metrics import TO_EMF, Tally, emit
from db.telemetry.repeated_statements import repeats_so_far
from db.timing.invocation import NONE, Invocation, current_invocation, running

from . import event_loop, process, sigterm, snapstart, warm

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from types import FrameType

    from .runtime import Runtime

T = TypeVar("T")
SelfT = TypeVar("SelfT")
EventT = TypeVar("EventT")
ContextT = TypeVar("ContextT")
T_co = TypeVar("T_co", covariant=True)
EventT_contra = TypeVar("EventT_contra", contravariant=True)
ContextT_contra = TypeVar("ContextT_contra", contravariant=True)

_cold = True  # until the first call
may_be_forgotten = "AWS_LAMBDA_RUNTIME_API" in os.environ  # the decorator; until the first call, or until it was said
_reports: list[_Report] = []  # of the calls that run now


class Handler(Protocol[EventT_contra, ContextT_contra, T_co]):
    """What Lambda calls. A test may leave the context away; it is None then, whatever type the function names."""

    def __call__(self, event: EventT_contra, context: ContextT_contra = ...) -> T_co: ...


class Decorator(Protocol):
    """What ``invocation()`` gives."""

    @overload
    def __call__(
        self, handler: Callable[[EventT, ContextT], Coroutine[Any, Any, T]]
    ) -> Handler[EventT, ContextT, T]: ...
    @overload
    def __call__(self, handler: Callable[[EventT, ContextT], T]) -> Handler[EventT, ContextT, T]: ...


@overload
def invocation() -> Decorator: ...
@overload
def invocation(handler: Callable[[EventT, ContextT], Coroutine[Any, Any, T]]) -> Handler[EventT, ContextT, T]: ...
@overload
def invocation(handler: Callable[[EventT, ContextT], T]) -> Handler[EventT, ContextT, T]: ...
@overload
def invocation(
    handler: Callable[[SelfT, EventT, ContextT], Coroutine[Any, Any, T]],
) -> Callable[[SelfT, EventT, ContextT], T]: ...
@overload
def invocation(handler: Callable[[SelfT, EventT, ContextT], T]) -> Callable[[SelfT, EventT, ContextT], T]: ...
def invocation(handler: Callable[..., Any] | None = None) -> Any:
    """Bind deadline, request id and cold or warm to each call of ``handler(event, context)``; report at its end.

    What the handler did with the database is printed as metrics (EMF) when it returns or raises, and a connection
    that it left checked out is warned of. ``context`` may be None, ``{}`` or any part of Lambda's, as in unit tests:
    without its time there is no deadline. Raises nothing of its own: the settings are read where the handler first uses
    the database, and can answer for them.

    The handler may be a function, a method, or any object that is called with event and context, such as Mangum's. A
    class method or a static one is decorated first: ``@classmethod`` stands above. ``@db.invocation()`` is the same.
    Under ``@durable_execution`` the deadline is that of the Lambda context which the durable one holds.

    An ``async def`` handler is run to its end on the event loop of this process, which outlives the call: Lambda wants
    an answer, not a coroutine.

    Inside Lambda, decorating the first handler also prepares for the environment's end (DB_SHUTDOWN_HOOK) and for
    SnapStart, and connects where DB_WARM says so: decorate where the module is loaded. See
    https://serverless-data-access.github.io/serverless-data-access/run/lifecycle/
    """
    if handler is None:
        return invocation
    if not callable(handler):
        raise TypeError(
            f"db.invocation decorates a function that is called with event and context, not {_said(handler)}"
        )
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        raise TypeError(
            f"db.invocation decorates what gives Lambda an answer, and {getattr(handler, '__name__', 'this')} is a "
            "generator function, of which nothing would run: let it return, and drop its yield"
        )
    sigterm.install(_report_running)
    snapstart.install(_begin_anew)
    if not _lambda_calls():  # a module that an event loads has no Init
        warm.connect_in_init(handler)

    @functools.wraps(handler)
    def call(event: Any, context: Any = None, *more: Any, **named: Any) -> Any:
        # A method is given what it is bound to before the event.
        *bound, event, context = (event, context, *more)
        invocation = Invocation.from_context(context, cold=is_first_call(), now=time.time())
        work = functools.partial(handler, *bound, event, context, **named)
        # A context of its own: what the handler leaves bound, a tenant above all, must not meet the next invocation.
        return contextvars.copy_context().run(_call, work, invocation)

    return call


def _said(given: object) -> str:
    if isinstance(given, classmethod):
        return "a class method: write @classmethod above it"
    return f"a {type(given).__name__}"


def _call(work: Callable[[], Any], invocation: Invocation) -> Any:
    with served(invocation):
        answer = work()
        return event_loop.run(answer) if inspect.iscoroutine(answer) else answer


@contextlib.contextmanager
def served(invocation: Invocation, *, alone: bool = True) -> Iterator[None]:
    """Make ``invocation`` the current one for the length of the block, and settle and report what it did at its end.

    Not ``alone``, others may be served meanwhile, by other tasks.
    """
    with running(invocation, alone=alone), _reported():
        yield


def is_first_call() -> bool:
    """Whether the invocation that begins is this environment's first; the next one is not."""
    global _cold, may_be_forgotten
    first, _cold, may_be_forgotten = _cold, False, False
    return first


def is_in_a_call() -> bool:
    """Whether an invocation is running, bound or not, and the environment lives on when it ends."""
    return current_invocation() is not NONE or _lambda_calls()


def look_for_forgotten() -> None:
    """Say, once a process, that a unit of work runs in an invocation that nobody bound. Init has none to bind."""
    global may_be_forgotten  # noqa: PLW0603 - it is said once a process
    if current_invocation() is NONE and _lambda_calls():
        may_be_forgotten = False
        warn_of_no_invocation()


def _lambda_calls() -> bool:
    """Whether Lambda's runtime has called the handler, and does not load it just now."""
    if "_X_AMZN_TRACE_ID" in os.environ:  # set for each call, where the request is traced
        return True
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - what sys has for it
    while frame is not None and frame.f_code.co_name != "handle_event_request":
        frame = frame.f_back
    return frame is not None


def _begin_anew() -> None:
    """The next call is this environment's first, whatever ran before the snapshot."""
    global _cold  # noqa: PLW0603 - the process has one first call
    _cold = True


class _Report:
    """What the database did in one call: the difference between then and now."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self._before = {runtime: runtime.tally for runtime in process.runtimes()}

    def emit(self) -> None:
        for now in process.runtimes():
            # A runtime that this call built, or replaced, began from nothing.
            if now.settings.metrics in TO_EMF:
                emit(now.tally.since(self._before.get(now, Tally())), now.settings.database)
            for other in _reports:
                other.goes_on_from(now)

    def goes_on_from(self, now: Runtime) -> None:
        """Another call, which ran at the same time, has told what was done so far: this one tells the rest."""
        self._before[now] = now.tally


def _after_fork() -> None:
    """In a forked child: what its parent did in the call is the parent's to report, and not counted here any more.

    Calls of other threads did not come along, and never end here: none of the child's would be the last that runs.
    """
    _reports[:] = [report for report in _reports if report.thread == threading.get_ident()]
    for report in _reports:
        for now in process.runtimes():
            report.goes_on_from(now)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork either
    os.register_at_fork(after_in_child=_after_fork)  # behind that of ``process``, as that is imported first


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
        if now := process.runtimes():
            _end_of_invocation(now)
            report.emit()
            if not _reports:  # else the last of them does
                process.flush_metrics()


def _end_of_invocation(at_work: list[Runtime]) -> None:
    """What is to be settled before the environment is frozen."""
    for now in at_work:
        database = now.settings.database
        # What is out while others are served may well be theirs.
        if not _reports and (left := now.checked_out()):
            warn_of_leak(left, database=database)
        now.end_of_invocation()
        warn_of_repeats(repeats_so_far(database), budget=now.settings.statement_repeats, database=database)


def _report_running() -> None:
    """Report the calls that will not come to their end."""
    for report in _reports:
        report.emit()
