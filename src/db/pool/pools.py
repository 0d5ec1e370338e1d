"""Pool classes, which of them the settings ask for, and how many connections one can have in use."""

from __future__ import annotations

import asyncio  # SQLAlchemy has loaded it
import gc
import math
import time
import weakref
from dataclasses import dataclass
from threading import RLock, active_count, current_thread, get_ident, main_thread
from typing import TYPE_CHECKING, Any

from sqlalchemy import exc
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool, Pool, QueuePool
from sqlalchemy.pool.base import _ConnectionFairy, _ConnectionRecord
from sqlalchemy.util.queue import AsyncAdaptedQueue, Empty, Full, Queue

from db.errors import ConfigurationError, claim
from db.settings import PREFIX
from db.telemetry.connection_events import RETURNED_AT, TAKEN_AT, TAKEN_FROM, TAKEN_IN
from db.telemetry.holders import in_words, is_running_here, task_now
from db.telemetry.log import warn_of_lost_loop, warn_of_pool_wait
from db.timing.deadline import usable_s
from db.timing.invocation import current_invocation
from db.wire.commit_outcome import FOR, coming
from db.wire.session_leftovers import IN_HANDS, LEFT, SessionLeftError

from .keeping import may_serve
from .switchover import serves_until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Engine
    from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

    from db.settings import Settings
    from db.telemetry.metrics import Waits


# Whose hands a record is in: a thread's by its identity; absent where it is idle.
_TAKEN_BY = "db_taken_by"
_CONNECTING, _DROPPED, _DISPOSED = -1, -2, -3
# Some of a queue's waits are what it is for. This one is long enough to have opened a connection instead.
_LONG_WAIT_S = 0.1


class StaleConnectionError(Exception):
    """Why a pooled connection was dropped unasked. Never raised.

    It was idle for longer than DB_POOL_IDLE_S, it only stood in for a reader, or its server may be the wrong one.
    """


class _Shelf(Queue["ConnectionPoolEntry"]):
    """SQLAlchemy's queue as its pools use it: nobody waits for room, and hardly ever somebody for a connection.

    So neither a return nor a checkout has to tell those who might; what guards both is the same lock. Under it, what is
    taken is noted as in this thread's hands, so that nobody finds it in neither place.
    """

    waiting = 0  # for a connection; what a signal's handler leaves too many of is told in vain

    def get(self, block: bool = True, timeout: float | None = None) -> ConnectionPoolEntry:
        with self.mutex:  # an RLock, so waiting gives it up
            if self.queue:
                record = self.queue.pop() if self.use_lifo else self.queue.popleft()
            elif not block:
                raise Empty
            else:
                try:
                    self.waiting += 1
                    record = super().get(timeout=timeout)
                finally:
                    self.waiting -= 1
            record.__dict__[_TAKEN_BY] = get_ident()
            return record

    def put(self, item: ConnectionPoolEntry, block: bool = True, timeout: float | None = None) -> None:  # noqa: ARG002 - the queue's signature
        with self.mutex:
            if 0 < self.maxsize <= len(self.queue):
                raise Full
            self.queue.append(item)
            if self.waiting:
                self.not_empty.notify()


class IdleAwareQueuePool(QueuePool):
    """QueuePool that also replaces a connection which was idle for ``idle_s``, by wall clock.

    ``pool_recycle`` counts from the connect, so a socket that a NAT gateway forgot during a freeze passes it.

    Its room is what its records leave of it. QueuePool counts up and down instead, and an exception that a signal
    handler raises while a record is in no hands takes a place for good.

    Who holds all of it and comes for more would wait for itself, and is refused at once. A connection on whose session
    its last user left something is replaced as well.
    """

    _queue_class = _Shelf
    more = "raise DB_POOL_SIZE or DB_MAX_OVERFLOW"  # what gives it more room
    waits: Waits | None  # who is told of those that wait

    def __init__(
        self,
        creator: Any,
        idle_s: float = math.inf,
        reserve_s: float = 0.0,
        database: str | None = None,
        prefix: str = PREFIX,
        **kwargs: Any,
    ) -> None:
        # Not keyword-only: create_engine() finds a pool's arguments by reading its positional ones.
        super().__init__(creator, **kwargs)
        # QueuePool's is no RLock. From Python 3.14 on, a signal's exception may strike where `with` has taken the lock
        # and does not know it yet: the thread would wait for itself at its next connection. Its queue's is one already.
        self._overflow_lock = RLock()  # type: ignore[assignment]  # as above
        self._idle_s = idle_s
        self._reserve_s = reserve_s
        self._database, self._prefix = database, prefix
        self.waits = None
        # Weak, so that one which nobody holds any more is not counted.
        self._records: weakref.WeakSet[ConnectionPoolEntry] = weakref.WeakSet()

    def connect(self) -> PoolProxiedConnection:
        """QueuePool's. What the pool's listeners have said by now is the connection's own; what follows, its user's."""
        measure = self.waits.measure if self.waits is not None else None
        began = time.perf_counter() if measure is not None else 0.0
        try:
            checkout = _ConnectionFairy._checkout(self)  # noqa: SLF001 - all of QueuePool's; super() were a call for each
        except Exception as error:  # an engine may be used within a block of another database, or within none
            claim(error, database=self._database, prefix=self._prefix)
            raise
        if (record := checkout._connection_record) is not None:  # noqa: SLF001 - what a pool is made of
            record.info[IN_HANDS] = True
        if measure is not None:
            measure(time.perf_counter() - began)
        return checkout

    def _do_get(self) -> ConnectionPoolEntry:
        # What an earlier one left there, or one that comes for another pool, has nothing to do with this checkout.
        unit, coming.unit = coming.unit, None
        if unit is not None and (not unit.open or unit.engine is None or unit.engine.pool is not self):
            unit = None
        record = self._taken()
        if record is None and (record := self._added() or self._swept()) is None:
            record = self._waited_for()
        try:
            record.__dict__[FOR] = unit
            info = record.info
            if RETURNED_AT in info:
                until = getattr(record.dbapi_connection, "serves_until", None)  # psycopg's has it itself
                if until is None:
                    until = serves_until(record.driver_connection)
                if not may_serve(
                    now=time.time(),
                    # SQLAlchemy would see to the age as well, but behind the mark that a new connection needs.
                    connected_at=record.starttime,  # type: ignore[attr-defined]  # of the record itself
                    returned_at=info[RETURNED_AT],
                    idle_s=self._idle_s,
                    recycle_s=self._recycle,
                    until=until,
                ):
                    record.invalidate(StaleConnectionError())
                    self._connect(record)
        except BaseException:  # a signal's handler raised: nobody else knows yet that the record is out
            self._do_return_conn(record)
            raise
        return record

    def _waited_for(self) -> ConnectionPoolEntry:
        """What somebody gives back within ``pool_timeout`` and the time of the invocation."""
        if self._is_held_here():
            problem = (
                "this very thread or task holds every connection of the pool, and would wait for itself: all are in "
                f"use, by {self._held()}. Use that one (tx, or db.session(tx=tx)), close it first, or {self.more}"
            )
            raise ConfigurationError([problem])
        deadline, now = current_invocation().deadline, time.time()
        limit_s = usable_s(deadline, now=now, reserve_s=self._reserve_s, at_most_s=self._timeout)
        began = time.monotonic()
        # It may have been given back and closed, or lost, while this one waited.
        waits = self.waits
        waiter = waits.begin() if waits is not None else None
        try:
            record = self._taken(within_s=limit_s) or self._added()
        finally:
            if waits is not None and waiter is not None:
                waits.end(waiter)
        if record is not None:
            if (waited_s := time.monotonic() - began) >= _LONG_WAIT_S:
                warn_of_pool_wait(waited_s, more=self.more, database=self._database)
            return record
        if waits is not None:
            waits.timed_out()
        raise exc.TimeoutError(
            f"QueuePool limit of size {self.size()} overflow {self._max_overflow} reached, and no connection came back "
            f"in {limit_s:.1f} s (DB_POOL_TIMEOUT_S, or what the invocation had left): all are in use, by "
            f"{self._held()}",
            code="3o7r",
        )

    def _held(self) -> str:
        """By whom, since when and where from."""
        now = time.time()
        return "; ".join(
            in_words(one.info.get(TAKEN_AT, now), self._holder(one), one.info.get(TAKEN_FROM), now=now)
            for one in list(self._records)
        )

    def _holder(self, record: ConnectionPoolEntry) -> Any:
        """The thread, by its identity."""
        return vars(record).get(_TAKEN_BY)

    def _is_held_here(self) -> bool:
        """Whether all is in the hands of whoever comes, so that nobody gives one back while it waits.

        What a thread of a pool of threads took, another one may give back, as where a framework enters and leaves a
        block by threads of its own: only where the code that took it still runs, it certainly does not.
        """
        records, here = list(self._records), {get_ident()}
        if active_count() == 1:
            here.add(_CONNECTING)
        if not records or any(self._holder(one) not in here for one in records):
            return False
        if active_count() == 1 or current_thread() is main_thread():
            return True
        return all(is_running_here(one.info.get(TAKEN_FROM)) for one in records)

    def _taken(self, *, within_s: float | None = None) -> ConnectionPoolEntry | None:
        """What is idle, or will be ``within_s``; from then on in the hands of whoever asks."""
        try:
            return self._pool.get(within_s is not None, within_s)
        except Empty:
            return None

    def _added(self) -> ConnectionPoolEntry | None:
        """A new record, connected; None where there is no room for it."""
        with self._overflow_lock:
            for lost in [record for record in self._records if self._is_lost(record)]:
                self._drop(lost)
            if len(self._records) >= self.size() + self._max_overflow:
                return None
            record = _ConnectionRecord(self, connect=False)
            vars(record)[_TAKEN_BY] = get_ident()
            self._records.add(record)
            self._overflow = len(self._records) - self.size()  # for those who ask how many are in use
        try:
            self._connect(record)
        except BaseException:
            self._drop(record)
            raise
        return record

    @staticmethod
    def _connect(record: Any) -> None:
        vars(record)[_TAKEN_BY] = _CONNECTING  # a listener that comes for another must not take it for lost
        record.get_connection()
        vars(record)[_TAKEN_BY] = get_ident()

    def _swept(self) -> ConnectionPoolEntry | None:
        """What an exception held that nobody holds any more, in a cycle with what it struck in."""
        if active_count() > 1 and not self._is_held_here():
            return None  # another thread may give one back, and has to be waited for anyway
        gc.collect()
        return self._taken() or self._added()

    def _is_lost(self, record: ConnectionPoolEntry) -> bool:
        """Whether nobody will give ``record`` back: this thread comes for another, or the unit that had it has ended.

        An exception that is still held holds what it struck in, so the record may be there for long.
        """
        if record.in_use:
            return self._is_left(record)
        with self._pool.mutex:  # type: ignore[attr-defined]  # so nobody is between the queue and the mark
            taken_by = vars(record).get(_TAKEN_BY)
            waiting = self._pool.queue  # type: ignore[attr-defined]  # QueuePool's own queue, not the interface of one
            return taken_by in {None, get_ident()} and record not in waiting

    @staticmethod
    def _is_left(record: Any) -> bool:
        unit = vars(record).get(FOR)
        return unit is not None and not unit.open

    def _drop(self, record: Any) -> None:
        """Close ``record``, and count it no more; whoever gives it back yet finds that it is not taken."""
        vars(record)[_TAKEN_BY] = _DROPPED
        record.fairy_ref = None  # a checkout that nobody gave back has nothing to clean up any more
        self._records.discard(record)
        self._overflow = len(self._records) - self.size()
        record.close()

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        try:
            # The driver's connection has it, below SQLAlchemy's adapter where there is one; asyncpg's adapter itself.
            parked = getattr(record.dbapi_connection, "parked", None)
            if parked is not None or (parked := getattr(record.driver_connection, "parked", None)) is not None:
                parked()
            if LEFT in record.info:
                record.invalidate(SessionLeftError())
        finally:  # whatever a signal's handler raises there
            taken_by = record.__dict__.pop(_TAKEN_BY, None)
            if taken_by == _DISPOSED:
                record.close()
            elif taken_by != _DROPPED:
                try:
                    self._pool.put(record, block=False)
                except Full:
                    self._drop(record)

    def close_idle(self) -> None:
        """Close what nobody uses. What is in use stays, and comes back."""
        while (record := self._taken()) is not None:
            self._drop(record)

    def dispose(self) -> None:
        super().dispose()
        for record in list(self._records):
            vars(record)[_TAKEN_BY] = _DISPOSED  # closed when it comes back
        self._records = weakref.WeakSet()  # what is in use counts no more, as in QueuePool

    def recreate(self) -> IdleAwareQueuePool:
        pool = super().recreate()
        assert isinstance(pool, IdleAwareQueuePool)  # noqa: S101 - QueuePool recreates its own class
        pool._idle_s, pool._reserve_s = self._idle_s, self._reserve_s  # noqa: SLF001 - the same class
        pool._database, pool._prefix = self._database, self._prefix  # noqa: SLF001 - likewise
        pool.waits = self.waits
        return pool


class StaticQueuePool(IdleAwareQueuePool):
    """One connection that is never replaced, and is one user's at a time: of a database that lives in it.

    SQLAlchemy's StaticPool gives it to all who come, and what one of them commits, or rolls back, is the others' too.
    """

    more = "take a database in a file (DB_URL=sqlite:///file): this one lives in one connection, or DB_POOL=static"


class AsyncIdleAwareQueuePool(IdleAwareQueuePool, AsyncAdaptedQueuePool):
    """The same for connections that are bound to an event loop. It serves the one that it first meets.

    When that has been closed, what the pool kept is of no use any more and it begins anew on the next one. On a second
    loop beside the first it raises ConfigurationError.
    """

    _queue_class = AsyncAdaptedQueue  # type: ignore[assignment]  # the other of the two that QueuePool has
    _loop: asyncio.AbstractEventLoop | None = None
    more = "raise DB_ASYNC_CONNECTIONS"

    def _do_get(self) -> ConnectionPoolEntry:
        self._stay_on(asyncio.get_running_loop())
        return super()._do_get()

    def _swept(self) -> ConnectionPoolEntry | None:
        return super()._swept() if self._is_held_here() else None  # another task may give one back

    def _holder(self, record: ConnectionPoolEntry) -> Any:
        """The task."""
        return record.info.get(TAKEN_IN)

    def _is_held_here(self) -> bool:
        records, here = list(self._records), task_now()
        return here is not None and bool(records) and all(self._holder(one) is here for one in records)

    def _is_lost(self, record: ConnectionPoolEntry) -> bool:
        # A task that waits for a connect, or a close, is in no thread's hands.
        return self._is_left(record) if record.in_use else False

    def _stay_on(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not None and self._loop is not loop:
            if not self._loop.is_closed():
                problem = (
                    "the connections of db.aio belong to another event loop, which is still open: make the handler "
                    "async def instead of calling asyncio.run() in it, or use db.begin() here"
                )
                raise ConfigurationError([problem])
            warn_of_lost_loop()
            self.dispose()
            self._pool = self._queue_class(self._pool.maxsize, self._pool.use_lifo)
        self._loop = loop


@dataclass(frozen=True, eq=False, repr=False, match_args=False)
class PoolPlan:
    """A pool class and the arguments to ``create_engine`` that go with it."""

    pool_class: type[Pool]
    arguments: Mapping[str, Any]


def plan_pool(settings: Settings, *, asynchronous: bool = False) -> PoolPlan:
    """The pool that ``settings`` ask for. A database that lives in one connection gets that and keeps it."""
    url = settings.url
    of_all = {
        "reserve_s": settings.deadline_reserve_s,
        "database": settings.database,
        "prefix": settings.prefix,
    }
    if settings.pool == "static" or (url is not None and settings.engine_kind.in_one_connection(url)):
        return PoolPlan(
            StaticQueuePool,
            {
                "pool_size": 1,
                "max_overflow": 0,
                "pool_timeout": settings.pool_timeout_s,
                **of_all,
            },
        )
    if settings.pool == "null":
        return PoolPlan(NullPool, {})
    return PoolPlan(
        AsyncIdleAwareQueuePool if asynchronous else IdleAwareQueuePool,
        {
            "pool_size": settings.async_connections if asynchronous else settings.pool_size,
            "max_overflow": 0 if asynchronous else settings.max_overflow,
            "pool_timeout": settings.pool_timeout_s,
            "pool_recycle": settings.pool_recycle_s,
            "pool_pre_ping": settings.pool_pre_ping,
            "idle_s": settings.pool_idle_s,
            **of_all,
        },
    )


def tell_of_waits(engine: Engine, waits: Waits) -> None:
    """Have the engine's pool tell ``waits`` who waits for a connection; one that opens each has nobody wait."""
    if isinstance(engine.pool, IdleAwareQueuePool):
        engine.pool.waits = waits


def capacity(engine: Engine) -> float:
    """How many connections the engine's pool can have checked out at once."""
    match engine.pool:
        case QueuePool() as pool:
            return pool.size() + pool._max_overflow  # noqa: SLF001 - it has no public name
    return math.inf
