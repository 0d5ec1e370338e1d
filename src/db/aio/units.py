"""``begin``, ``read``, ``fetch``, ``session``, ``run`` and ``engine``, for ``async def``."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar, TypeVarTuple, Unpack, cast, overload

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.util import greenlet_spawn

from db.environment import process
from db.transactions.begin import begin as _begin
from db.transactions.begin import session as _session
from db.transactions.blocks import async_block
from db.transactions.callables import awaited_connection
from db.transactions.read import fetch as _fetch
from db.transactions.read import read as _read
from db.transactions.run import run as _run

from .greenlets import as_plain, in_greenlets, proxied

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy import Executable, Result
    from sqlalchemy.sql.selectable import TypedReturnsRows

    from db.transactions.unit_of_work import Isolation

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")
AsyncSessionT = TypeVar("AsyncSessionT", bound=AsyncSession)


@async_block
async def begin(*, tenant: str | None = None, isolation: Isolation | None = None) -> AsyncIterator[AsyncConnection]:
    """A transaction on the writer: commits when the block ends, rolls back when it raises.

    Gives an ordinary ``sqlalchemy.ext.asyncio.AsyncConnection``. All else is as ``db.begin``. A task that is cancelled
    in the block rolls back; one that is cancelled while COMMIT is under way raises OutcomeUnknownError.
    """
    async with in_greenlets(_begin(tenant=tenant, isolation=isolation)) as conn:
        yield proxied(conn)


@async_block
async def read(
    *, tenant: str | None = None, snapshot: bool = False, fresh: bool = False
) -> AsyncIterator[AsyncConnection]:
    """A read-only transaction on the reader, or on the writer where there is no reader endpoint.

    Gives an ordinary ``sqlalchemy.ext.asyncio.AsyncConnection``. All else is as ``db.read``.
    """
    async with in_greenlets(_read(tenant=tenant, snapshot=snapshot, fresh=fresh)) as conn:
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
    return await greenlet_spawn(_fetch, *statements, tenant=tenant, fresh=fresh)


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
@async_block
async def session(
    *,
    tenant: str | None = None,
    isolation: Isolation | None = None,
    tx: AsyncConnection | None = None,
    read_only: bool = False,
    class_: type[AsyncSession] | None = None,
) -> AsyncIterator[AsyncSession]:
    """A ``sqlalchemy.orm.Session`` inside ``begin``: flushed and committed when the block ends.

    Wrapped, as ``sqlalchemy.ext.asyncio.AsyncSession``, or as ``class_``. All else is as ``db.session``.
    """
    kind = class_ or AsyncSession
    plain = _session(
        tenant=tenant,
        isolation=isolation,
        tx=awaited_connection(tx, call="db.aio.session") if tx is not None else None,
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
    work = functools.partial(_run, as_plain(fn, call="db.aio.run"), *args, tenant=tenant, isolation=isolation, **kwargs)
    return await greenlet_spawn(work)


def engine(role: Literal["writer", "reader"] = "writer") -> AsyncEngine:
    """The plain SQLAlchemy Engine, for a library that wants one: ``"writer"`` (default) or ``"reader"``.

    Wrapped, as ``sqlalchemy.ext.asyncio.AsyncEngine``. All else is as ``db.engine``.
    """
    return AsyncEngine(process.current().engine(process.checked_role(role), asynchronous=True))
