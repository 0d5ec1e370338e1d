"""The same for ``async def`` handlers: each unit of work of ``db`` as a coroutine or an ``async with`` block.

    import db
    from db import aio

    @db.invocation
    async def handler(event, context):
        async with aio.begin(tenant="t1") as tx:
            await tx.execute(insert(orders).values(...))

Nothing is decided here: the plain functions run in greenlets, where whatever waits lets the event loop go on meanwhile
(``timing.waiting``). So arguments, promises and errors are those of ``db``. What waits for nothing has no twin:
``db.scope``, ``db.status``, ``db.dispose`` and the errors serve both. Not imported with ``db``, as it loads greenlet
and the ORM.
"""

from __future__ import annotations

import asyncio
import functools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar, TypeVarTuple, Unpack, cast, overload

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.util import await_, greenlet_spawn

from .environment import process
from .transactions.begin import begin as _begin
from .transactions.begin import session as _session
from .transactions.open_units import open_units
from .transactions.read import fetch as _fetch
from .transactions.read import read as _read
from .transactions.run import run as _run
from .work.batch import ModelT, RecordT
from .work.batch import batch as _batch
from .work.copy_rows import copy_rows as _copy_rows
from .work.idempotent import idempotent as _idempotent
from .work.once import DAY_S
from .work.once import once as _once
from .work.once_records import purge_once as _purge_once
from .work.reflect import reflect as _reflect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path
    from types import TracebackType

    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
    from sqlalchemy import Connection, Executable, MetaData, Result, Table
    from sqlalchemy.sql.selectable import TypedReturnsRows

    from .environment.handler_decorator import Handler
    from .transactions.unit_of_work import Isolation
    from .work.copy_rows import Row
    from .work.once import Once

__all__ = [
    "batch",
    "begin",
    "copy_rows",
    "engine",
    "fetch",
    "gather",
    "idempotent",
    "once",
    "purge_once",
    "read",
    "reflect",
    "run",
    "session",
]

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")
EventT = TypeVar("EventT")
ContextT = TypeVar("ContextT")


@asynccontextmanager
async def begin(*, tenant: str | None = None, isolation: Isolation | None = None) -> AsyncIterator[AsyncConnection]:
    """A transaction on the writer: commits when the block ends, rolls back when it raises.

    Gives an ordinary ``sqlalchemy.ext.asyncio.AsyncConnection``. All else is as ``db.begin``. A task that is cancelled
    in the block rolls back; one that is cancelled while COMMIT is under way raises OutcomeUnknownError.
    """
    async with _in_greenlets(_begin(tenant=tenant, isolation=isolation)) as conn:
        yield _proxy(conn)


@asynccontextmanager
async def read(
    *, tenant: str | None = None, snapshot: bool = False, fresh: bool = False
) -> AsyncIterator[AsyncConnection]:
    """A read-only transaction on the reader, or on the writer where there is no reader endpoint.

    Gives an ordinary ``sqlalchemy.ext.asyncio.AsyncConnection``. All else is as ``db.read``.
    """
    async with _in_greenlets(_read(tenant=tenant, snapshot=snapshot, fresh=fresh)) as conn:
        yield _proxy(conn)


@overload
async def fetch(
    *statements: TypedReturnsRows[*Ts], tenant: str | None = None, fresh: bool = False
) -> list[Result[*Ts]]: ...
@overload
async def fetch(
    *statements: Executable, tenant: str | None = None, fresh: bool = False
) -> list[Result[*tuple[Any, ...]]]: ...
async def fetch(
    *statements: Executable, tenant: str | None = None, fresh: bool = False
) -> list[Result[*tuple[Any, ...]]]:
    """The results of independent reads, in their order, from one round trip.

    All is as ``db.fetch``. The rows are there, so the results are the plain ones.
    """
    return await greenlet_spawn(_fetch, *statements, tenant=tenant, fresh=fresh)


@asynccontextmanager
async def session(*, tenant: str | None = None, isolation: Isolation | None = None) -> AsyncIterator[AsyncSession]:
    """A ``sqlalchemy.orm.Session`` inside ``begin``: flushed and committed when the block ends.

    Wrapped, as ``sqlalchemy.ext.asyncio.AsyncSession``. All else is as ``db.session``.
    """
    async with _in_greenlets(_session(tenant=tenant, isolation=isolation)) as orm:
        yield AsyncSession(sync_session_class=cast("Any", lambda **_: orm))


@overload
async def run(
    fn: Callable[[AsyncConnection, Unpack[Ts]], Awaitable[T]],
    *args: *Ts,
    tenant: str | None = None,
    isolation: Isolation | None = None,
) -> T: ...
@overload
async def run(
    fn: Callable[Concatenate[AsyncConnection, ...], Awaitable[T]],
    *,
    tenant: str | None,
    isolation: Isolation | None = None,
    **kwargs: Any,
) -> T: ...
@overload
async def run(
    fn: Callable[Concatenate[AsyncConnection, ...], Awaitable[T]],
    *,
    tenant: str | None = None,
    isolation: Isolation | None,
    **kwargs: Any,
) -> T: ...
@overload
async def run(fn: Callable[Concatenate[AsyncConnection, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T: ...
async def run(  # type: ignore[misc]  # mypy misses Unpack in it
    fn: Callable[..., Awaitable[T]],
    *args: Any,
    tenant: str | None = None,
    isolation: Isolation | None = None,
    **kwargs: Any,
) -> T:
    """``fn(tx, *args, **kwargs)`` in a transaction, run again from the start where that is safe; returns its result.

    ``fn`` is a coroutine function. All else is as ``db.run``.
    """
    work = functools.partial(_run, _plain(fn), *args, tenant=tenant, isolation=isolation, **kwargs)
    return await greenlet_spawn(work)


async def gather(*awaitables: Awaitable[T], limit: int | None = None) -> list[T]:
    """The results of all ``awaitables``, in their order; no more than ``limit`` of them run at a time.

    ``limit`` is DB_ASYNC_CONNECTIONS unless given, less what the units of work around it hold, so that none waits for a
    connection. Each is a task of its own, which sees tenant and deadline of the caller. The first error cancels the
    others and is raised when they have ended: unlike after ``asyncio.gather``, nothing is left running. Raises
    ValueError for a ``limit`` below 1.
    """
    failed = False

    async def in_turn(awaitable: Awaitable[T]) -> T:
        nonlocal failed
        async with places:
            if failed:
                raise asyncio.CancelledError  # which it is about to be told
            try:
                return await awaitable
            except BaseException:
                failed = True
                raise

    try:
        places = asyncio.Semaphore(_checked(limit) if limit is not None else _free_connections())
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(in_turn(awaitable)) for awaitable in awaitables]
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
    else:
        return [task.result() for task in tasks]
    finally:
        for awaitable in awaitables:
            if asyncio.iscoroutine(awaitable):
                awaitable.close()  # one that never had its turn would be warned of
    raise first


def once(
    key: str,
    *,
    tenant: str | None = None,
    payload: Any = None,
    expires_in_s: float = DAY_S,
    isolation: Isolation | None = None,
    tx: AsyncConnection | None = None,
) -> AsyncOnce:
    """Work that takes place at most once per key and tenant, in one transaction with the record of it.

    ``await aio.once(key).run(fn, *args)`` for a coroutine function, or ``async with aio.once(key) as tx``. All else is
    as ``db.once``.
    """
    return AsyncOnce(
        _once(
            key,
            tenant=tenant,
            payload=payload,
            expires_in_s=expires_in_s,
            isolation=isolation,
            tx=tx.sync_connection if tx is not None else None,
        )
    )


class AsyncOnce:
    """What ``aio.once`` gives: a block to enter, or ``run`` for a coroutine function.

    ``result`` and ``replayed`` are those of what ``db.once`` gives.
    """

    def __init__(self, plain: Once) -> None:
        self._plain = plain

    @property
    def key(self) -> str:
        return self._plain.key

    @property
    def replayed(self) -> bool:
        return self._plain.replayed

    @property
    def result(self) -> Any:
        return self._plain.result

    @result.setter
    def result(self, value: Any) -> None:
        self._plain.result = value

    async def __aenter__(self) -> AsyncConnection:
        """A transaction that holds the key. Raises AlreadyDoneError where the work has been done."""
        return _proxy(await greenlet_spawn(self._plain.__enter__))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Store the result and commit; roll back what raises, the record included."""
        return await greenlet_spawn(self._plain.__exit__, kind, error, traceback)

    async def run(
        self, fn: Callable[Concatenate[AsyncConnection, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """``fn(tx, *args, **kwargs)`` once; gives what it returned, then and ever after.

        ``fn`` is a coroutine function. All else is as for what ``db.once`` gives.
        """
        return await greenlet_spawn(functools.partial(self._plain.run, _plain(fn), *args, **kwargs))


async def purge_once(*, limit: int = 10_000) -> int:
    """Delete the expired records that this login may see, ``limit`` to a transaction; gives how many.

    All is as ``db.purge_once``.
    """
    return await greenlet_spawn(_purge_once, limit=limit)


def idempotent(
    *,
    key: str,
    payload: str | None = None,
    tenant: str | None = None,
    expires_in_s: float = DAY_S,
    name: str | None = None,
) -> Callable[
    [Callable[[AsyncConnection, EventT, ContextT], Awaitable[T]]], Handler[EventT, ContextT, Coroutine[Any, Any, T]]
]:
    """Make ``handler(event, context)`` of ``fn(tx, event, context)``, which runs at most once for each key.

    Both are coroutine functions. All else is as ``db.idempotent``.
    """
    decorate_plain = _idempotent(key=key, payload=payload, tenant=tenant, expires_in_s=expires_in_s, name=name)

    def decorate(
        fn: Callable[[AsyncConnection, EventT, ContextT], Awaitable[T]],
    ) -> Handler[EventT, ContextT, Coroutine[Any, Any, T]]:
        plain = decorate_plain(_plain(fn))

        @functools.wraps(fn)
        async def handler(event: EventT, context: Any = None) -> T:
            return await greenlet_spawn(plain, event, context)

        return handler

    return decorate


@overload
async def batch(
    event: Mapping[str, Any],
    record_handler: Callable[[AsyncConnection, RecordT], Awaitable[object]],
    *,
    tenant: str | Callable[[RecordT], str | None] | None = None,
    model: None = None,
    isolation: Isolation | None = None,
    skip_group_on_error: bool = True,
    raise_on_entire_batch_failure: bool = False,
) -> PartialItemFailureResponse: ...
@overload
async def batch(
    event: Mapping[str, Any],
    record_handler: Callable[[AsyncConnection, ModelT], Awaitable[object]],
    *,
    tenant: str | Callable[[ModelT], str | None] | None = None,
    model: type[ModelT],
    isolation: Isolation | None = None,
    skip_group_on_error: bool = True,
    raise_on_entire_batch_failure: bool = False,
) -> PartialItemFailureResponse: ...
async def batch(
    event: Mapping[str, Any],
    record_handler: Callable[[AsyncConnection, Any], Awaitable[object]],
    *,
    tenant: str | Callable[[Any], str | None] | None = None,
    model: Any = None,
    isolation: Isolation | None = None,
    skip_group_on_error: bool = True,
    raise_on_entire_batch_failure: bool = False,
) -> PartialItemFailureResponse:
    """Call ``record_handler(tx, record)`` for each record of ``event``, all in one transaction; gives what has failed.

    ``record_handler`` is a coroutine function, and has finished one record when it is called for the next. All else is
    as ``db.batch``.
    """
    work = functools.partial(
        _batch,
        event,
        _plain(record_handler),
        tenant=tenant,
        model=model,
        isolation=isolation,
        skip_group_on_error=skip_group_on_error,
        raise_on_entire_batch_failure=raise_on_entire_batch_failure,
    )
    return await greenlet_spawn(work)


async def copy_rows(
    table: Table | str,
    rows: Iterable[Row],
    *,
    columns: Sequence[str] | None = None,
    tenant: str | None = None,
    tx: AsyncConnection | None = None,
    progress: Callable[[int], object] | None = None,
) -> int:
    """Load ``rows`` into ``table`` over COPY, all of them or none; returns how many.

    The event loop goes on while the server is waited for, not while ``rows`` are read and encoded. With
    DB_ASYNC_DRIVER=asyncpg it raises ConfigurationError. All else is as ``db.copy_rows``.
    """
    work = functools.partial(
        _copy_rows,
        table,
        rows,
        columns=columns,
        tenant=tenant,
        tx=tx.sync_connection if tx is not None else None,
        progress=progress,
    )
    return await greenlet_spawn(work)


async def reflect(
    *,
    schema: str | None = None,
    only: Sequence[str] | None = None,
    views: bool = False,
    snapshot: str | Path | None = None,
) -> MetaData:
    """The tables of ``schema`` (the default one unless named) as the database has them: all, or ``only`` those named.

    All is as ``db.reflect``, which gives the same objects.
    """
    return await greenlet_spawn(_reflect, schema=schema, only=only, views=views, snapshot=snapshot)


def engine(role: Literal["writer", "reader"] = "writer") -> AsyncEngine:
    """The plain SQLAlchemy Engine, for a library that wants one: ``"writer"`` (default) or ``"reader"``.

    Wrapped, as ``sqlalchemy.ext.asyncio.AsyncEngine``. All else is as ``db.engine``.
    """
    return AsyncEngine(process.current().engine(role, asynchronous=True))


@asynccontextmanager
async def _in_greenlets(block: AbstractContextManager[T]) -> AsyncIterator[T]:
    """``block``, entered and left in greenlets."""
    entered = await greenlet_spawn(block.__enter__)
    try:
        yield entered
    except BaseException as error:
        if not await greenlet_spawn(block.__exit__, type(error), error, error.__traceback__):
            raise
    else:
        await greenlet_spawn(block.__exit__, None, None, None)


def _proxy(conn: Connection) -> AsyncConnection:
    return AsyncConnection(AsyncEngine(conn.engine), conn)


def _plain(fn: Callable[Concatenate[AsyncConnection, P], Awaitable[T]]) -> Callable[Concatenate[Connection, P], T]:
    """``fn(tx, ...)`` for a plain function that calls it in a greenlet, with a plain connection."""

    @functools.wraps(fn)
    def call(tx: Connection, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await_(fn(_proxy(tx), *args, **kwargs))

    return call


def _checked(limit: int) -> int:
    if limit < 1:
        raise ValueError(f"limit is {limit}: nothing would ever run")
    return limit


def _free_connections() -> int:
    held = sum(unit.engine.dialect.is_async for unit in open_units() if unit.engine is not None)
    return max(process.current().settings.async_connections - held, 1)
