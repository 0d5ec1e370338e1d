"""``begin``, ``read``, ``fetch``, ``write``, ``session``, ``run`` and ``engine``, for ``async def``."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar, TypeVarTuple, Unpack, cast, overload

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.util import greenlet_spawn

from db.environment.process import DEFAULT, checked_role
from db.transactions.begin import begin_on as _begin_on
from db.transactions.begin import session_on as _session_on
from db.transactions.blocks import async_block, by_name
from db.transactions.callables import awaited_connection
from db.transactions.read import fetch_on as _fetch_on
from db.transactions.read import read_on as _read_on
from db.transactions.run import run_on as _run_on
from db.transactions.write import write_on as _write_on

from .greenlets import as_plain, in_greenlets, proxied

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy import CursorResult, Executable, Result
    from sqlalchemy.sql.selectable import TypedReturnsRows

    from db.environment.process import Holder
    from db.transactions.unit_of_work import Isolation

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")
AsyncSessionT = TypeVar("AsyncSessionT", bound=AsyncSession)


@by_name("db.aio.begin")
def begin(
    *, tenant: str | None = None, isolation: Isolation | None = None
) -> AbstractAsyncContextManager[AsyncConnection]:
    """A transaction on the writer: commits when the block ends, rolls back when it raises.

    Gives an ordinary ``sqlalchemy.ext.asyncio.AsyncConnection``. All else is as ``db.begin``. A task that is cancelled
    in the block rolls back; one that is cancelled while COMMIT is under way raises OutcomeUnknownError.
    """
    return begin_on(DEFAULT, tenant=tenant, isolation=isolation)


@async_block
async def begin_on(
    holder: Holder, *, tenant: str | None = None, isolation: Isolation | None = None
) -> AsyncIterator[AsyncConnection]:
    """``begin``, on the database of ``holder``."""
    async with in_greenlets(_begin_on(holder, tenant=tenant, isolation=isolation)) as conn:
        yield proxied(conn)


@by_name("db.aio.read")
def read(
    *, tenant: str | None = None, snapshot: bool = False, fresh: bool = False
) -> AbstractAsyncContextManager[AsyncConnection]:
    """A read-only transaction on the reader, or on the writer where there is no reader endpoint.

    Gives an ordinary ``sqlalchemy.ext.asyncio.AsyncConnection``. All else is as ``db.read``.
    """
    return read_on(DEFAULT, tenant=tenant, snapshot=snapshot, fresh=fresh)


@async_block
async def read_on(
    holder: Holder, *, tenant: str | None = None, snapshot: bool = False, fresh: bool = False
) -> AsyncIterator[AsyncConnection]:
    """``read``, on the database of ``holder``."""
    async with in_greenlets(_read_on(holder, tenant=tenant, snapshot=snapshot, fresh=fresh)) as conn:
        yield proxied(conn)


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
    return await fetch_on(DEFAULT, *statements, tenant=tenant, fresh=fresh)


async def fetch_on(
    holder: Holder, *statements: Executable, tenant: str | None = None, fresh: bool = False
) -> list[Result[*tuple[Any, ...]]]:
    """``fetch``, on the database of ``holder``."""
    return await greenlet_spawn(_fetch_on, holder, *statements, tenant=tenant, fresh=fresh)


@overload
async def write(
    *statements: TypedReturnsRows[*Ts], tenant: str | None = None, isolation: Isolation | None = None
) -> list[CursorResult[*Ts]]: ...


@overload
async def write(
    *statements: Executable, tenant: str | None = None, isolation: Isolation | None = None
) -> list[CursorResult[*tuple[Any, ...]]]: ...


async def write(
    *statements: Executable, tenant: str | None = None, isolation: Isolation | None = None
) -> list[CursorResult[*tuple[Any, ...]]]:
    """All of ``statements`` in one transaction on the writer, or none, from BEGIN to COMMIT in one round trip.

    All is as ``db.write``; the rows are there, so the results are the plain ones. With DB_ASYNC_DRIVER=asyncpg, which
    has no flights, each statement takes a trip, and COMMIT another one.
    """
    return await write_on(DEFAULT, *statements, tenant=tenant, isolation=isolation)


async def write_on(
    holder: Holder, *statements: Executable, tenant: str | None = None, isolation: Isolation | None = None
) -> list[CursorResult[*tuple[Any, ...]]]:
    """``write``, on the database of ``holder``."""
    return await greenlet_spawn(_write_on, holder, *statements, tenant=tenant, isolation=isolation)


@overload
def session(
    *,
    tenant: str | None = None,
    isolation: Isolation | None = None,
    tx: AsyncConnection | None = None,
    read_only: bool = False,
    class_: None = None,
) -> AbstractAsyncContextManager[AsyncSession]: ...
@overload
def session(
    *,
    tenant: str | None = None,
    isolation: Isolation | None = None,
    tx: AsyncConnection | None = None,
    read_only: bool = False,
    class_: type[AsyncSessionT],
) -> AbstractAsyncContextManager[AsyncSessionT]: ...
@by_name("db.aio.session")
def session(
    *,
    tenant: str | None = None,
    isolation: Isolation | None = None,
    tx: AsyncConnection | None = None,
    read_only: bool = False,
    class_: type[AsyncSession] | None = None,
) -> AbstractAsyncContextManager[AsyncSession]:
    """A ``sqlalchemy.orm.Session`` inside ``begin``: flushed and committed when the block ends.

    Wrapped, as ``sqlalchemy.ext.asyncio.AsyncSession``, or as ``class_``. All else is as ``db.session``.
    """
    return session_on(DEFAULT, tenant=tenant, isolation=isolation, tx=tx, read_only=read_only, class_=class_)


@async_block
async def session_on(
    holder: Holder,
    *,
    tenant: str | None = None,
    isolation: Isolation | None = None,
    tx: AsyncConnection | None = None,
    read_only: bool = False,
    class_: type[AsyncSession] | None = None,
) -> AsyncIterator[AsyncSession]:
    """``session``, on the database of ``holder``."""
    kind = class_ or AsyncSession
    plain = _session_on(
        holder,
        tenant=tenant,
        isolation=isolation,
        tx=awaited_connection(tx, call=f"{holder.called}.aio.session") if tx is not None else None,
        read_only=read_only,
        class_=kind.sync_session_class,
    )
    async with in_greenlets(plain) as orm:
        yield kind(sync_session_class=cast("Any", lambda **_: orm))


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
    return await run_on(DEFAULT, fn, *args, tenant=tenant, isolation=isolation, **kwargs)


async def run_on(
    holder: Holder,
    fn: Callable[..., Awaitable[T]],
    /,
    *args: Any,
    tenant: str | None = None,
    isolation: Isolation | None = None,
    **kwargs: Any,
) -> T:
    """``run``, on the database of ``holder``."""
    plain = as_plain(fn, call=f"{holder.called}.aio.run")
    work = functools.partial(_run_on, holder, plain, *args, tenant=tenant, isolation=isolation, **kwargs)
    return await greenlet_spawn(work)


def engine(role: Literal["writer", "reader"] = "writer") -> AsyncEngine:
    """The plain SQLAlchemy Engine, for a library that wants one: ``"writer"`` (default) or ``"reader"``.

    Wrapped, as ``sqlalchemy.ext.asyncio.AsyncEngine``. All else is as ``db.engine``.
    """
    return engine_on(DEFAULT, role)


def engine_on(holder: Holder, role: Literal["writer", "reader"] = "writer") -> AsyncEngine:
    """``engine``, of the database of ``holder``."""
    return AsyncEngine(holder.current().engine(checked_role(role), asynchronous=True))
