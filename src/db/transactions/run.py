"""``run``: a function in a transaction, run again from the start where that is safe."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, TypeVarTuple, Unpack, overload

from db.environment.process import DEFAULT
from db.errors import Verdict, verdict
from db.telemetry.log import log_retry
from db.timing.backoff import Backoff
from db.timing.deadline import usable_s
from db.timing.invocation import current_invocation
from db.timing.waiting import sleep
from db.wire.commit_outcome import Unit, unit_of

from .begin import begin_on
from .callables import done, require_function
from .unit_of_work import Isolation

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from db.environment.process import Holder
    from db.environment.runtime import Runtime

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")
ATTEMPTS = 6
BACKOFF = Backoff(attempts=ATTEMPTS)
# For a writer that is read-only while a switchover lasts, as a server that is away is waited for: the time ends it.
_READ_ONLY_BACKOFF = Backoff(base_s=0.1, cap_s=2.0, attempts=math.inf)
# What bounds run() outside an invocation, where no deadline does: as long as most failovers take.
_NO_DEADLINE_S = 30.0


# Nothing says "the parameters of fn, and two more": PEP 612 lets none stand between *args and **kwargs. Hence four:
# arguments of fn by position, beside ours; by name, beside the one of ours or the other; both, without ours.
@overload
def run(
    fn: Callable[[Connection, Unpack[Ts]], T],
    *args: *Ts,
    tenant: str | None = None,
    isolation: Isolation | None = None,
) -> T: ...
@overload
def run(
    fn: Callable[Concatenate[Connection, ...], T],
    *,
    tenant: str | None,
    isolation: Isolation | None = None,
    **kwargs: Any,
) -> T: ...
@overload
def run(
    fn: Callable[Concatenate[Connection, ...], T],
    *,
    tenant: str | None = None,
    isolation: Isolation | None,
    **kwargs: Any,
) -> T: ...
@overload
def run(fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T: ...
def run(  # type: ignore[misc]  # mypy misses Unpack in it
    fn: Callable[..., T], *args: Any, tenant: str | None = None, isolation: Isolation | None = None, **kwargs: Any
) -> T:
    """``fn(tx, *args, **kwargs)`` in a transaction, run again from the start where that is safe; returns its result.

    Safe is what has certainly not committed: serialization failure, deadlock, a connection lost before COMMIT was sent,
    a refused connect. So ``fn`` may run more than once, up to six times, with full-jitter delays, and
    only where the deadline (30 s outside an invocation) leaves 0.1 s for another attempt; its other effects should bear
    that. A writer that takes no writes, as during a switchover, is waited for beyond these six, for up to
    DB_CONNECT_WAIT_S. Raises the last attempt's error, and those of ``begin``.

    A type checker compares the arguments with the parameters of ``fn``. Beside ``tenant`` or ``isolation`` it compares
    those by position, and lets all pass that are by name; a call with both needs ``functools.partial``, or ``scope``.
    """
    return run_on(DEFAULT, fn, *args, tenant=tenant, isolation=isolation, **kwargs)


def run_on(
    holder: Holder,
    fn: Callable[..., T],
    /,
    *args: Any,
    tenant: str | None = None,
    isolation: Isolation | None = None,
    **kwargs: Any,
) -> T:
    """``run``, on the database of ``holder``."""
    call = f"{holder.called}.run"
    require_function(fn, call=call)
    now = holder.current()
    ends_at = now.clock() + retry_budget_s(now)
    read_only = _ReadOnly(now)
    attempt, counted = 1, 1
    while True:
        unit = Unit()
        try:
            with begin_on(holder, tenant=tenant, isolation=isolation) as tx:
                unit = unit_of(tx.connection)
                return done(fn(tx, *args, **kwargs), fn, call=call)
        except Exception as error:
            advice = verdict(error)
            left_s = ends_at - now.clock()
            if advice is Verdict.DISCARD_POOL:
                delay_s = read_only.delay_s(left_s)
            else:
                delay_s = BACKOFF.delay_s(advice, counted, left_s=left_s)
            # What failed after fn's own commit() must not run what is committed a second time.
            if delay_s is None or unit.committed:
                raise
            log_retry(error, attempt=attempt, delay_s=delay_s)
        if advice is Verdict.DISCARD_POOL:
            # The engine's own events have done so, but for what came over the driver's connection: they do not hear it.
            now.discard_idle()
        else:
            counted += 1
        sleep(delay_s)
        attempt += 1


class _ReadOnly:
    """How often the writer has refused to write, and since when: attempts that are not among the six."""

    def __init__(self, now: Runtime) -> None:
        self._now = now
        self._ends_at = math.inf
        self._attempts = 0

    def delay_s(self, left_s: float) -> float | None:
        """Seconds to wait for it; None where it has been waited for."""
        self._attempts += 1
        now_s = self._now.clock()
        if self._attempts == 1:
            self._ends_at = now_s + self._now.settings.connect_wait_s
        left_s = min(left_s, self._ends_at - now_s)
        return _READ_ONLY_BACKOFF.delay_s(Verdict.DISCARD_POOL, self._attempts, left_s=left_s)


def retry_budget_s(now: Runtime) -> float:
    """Seconds for which something may be tried again: the invocation's, less its reserve; 30 s outside of one."""
    deadline = current_invocation().deadline
    return usable_s(
        deadline,
        now=now.clock(),
        reserve_s=now.settings.deadline_reserve_s,
        at_most_s=_NO_DEADLINE_S if deadline is None else math.inf,
    )
