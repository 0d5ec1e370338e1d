"""``AsyncDatabase``: all that ``db.aio`` has for the default database, for one beside it.

Nothing is decided here: each call is that of ``db.aio``, with another holder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar, TypeVarTuple, Unpack, overload

from db.transactions.blocks import by_name
from db.work.database import Database as PlainDatabase
from db.work.database import holder_of
from db.work.once import DAY_S

from .idempotency import idempotent_on, once_on, purge_once_on
from .loads import batch_on, copy_rows_on, reflect_on
from .tasks import gather_on
from .units import begin_on, engine_on, fetch_on, read_on, run_on, session_on, write_on

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
    from sqlalchemy import CursorResult, Executable, MetaData, Result, Table
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
    from sqlalchemy.sql.selectable import TypedReturnsRows

    from db.environment.handler_decorator import Handler
    from db.transactions.unit_of_work import Isolation
    from db.work.batch import ModelT, RecordT
    from db.work.copy_plan import Row

    from .idempotency import AsyncOnce
    from .units import AsyncSessionT

    class Database(PlainDatabase):
        """``db.Database`` as a type checker sees it: the room that it is in cannot name what is in this one."""

        @property
        def aio(self) -> AsyncDatabase: ...


P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")
EventT = TypeVar("EventT")
ContextT = TypeVar("ContextT")


class AsyncDatabase:
    """What ``aio`` of a ``db.Database`` is: ``db.aio``, on that database."""

    def __init__(self, database: PlainDatabase) -> None:
        self._holder = holder_of(database)

    def __repr__(self) -> str:
        return f"<aio of db.Database {self._holder.called!r}>"

    @by_name("Database.aio.begin", places=1)
    def begin(
        self, *, tenant: str | None = None, isolation: Isolation | None = None
    ) -> AbstractAsyncContextManager[AsyncConnection]:
        """``db.aio.begin``, on this database."""
        return begin_on(self._holder, tenant=tenant, isolation=isolation)

    @by_name("Database.aio.read", places=1)
    def read(
        self, *, tenant: str | None = None, snapshot: bool = False, fresh: bool = False
    ) -> AbstractAsyncContextManager[AsyncConnection]:
        """``db.aio.read``, on this database."""
        return read_on(self._holder, tenant=tenant, snapshot=snapshot, fresh=fresh)

    @overload
    async def fetch(
        self, *statements: TypedReturnsRows[*Ts], tenant: str | None = None, fresh: bool = False
    ) -> list[Result[*Ts]]: ...

    @overload
    async def fetch(
        self, *statements: Executable, tenant: str | None = None, fresh: bool = False
    ) -> list[Result[*tuple[Any, ...]]]: ...

    async def fetch(
        self, *statements: Executable, tenant: str | None = None, fresh: bool = False
    ) -> list[Result[*tuple[Any, ...]]]:
        """``db.aio.fetch``, on this database."""
        return await fetch_on(self._holder, *statements, tenant=tenant, fresh=fresh)

    @overload
    async def write(
        self, *statements: TypedReturnsRows[*Ts], tenant: str | None = None, isolation: Isolation | None = None
    ) -> list[CursorResult[*Ts]]: ...

    @overload
    async def write(
        self, *statements: Executable, tenant: str | None = None, isolation: Isolation | None = None
    ) -> list[CursorResult[*tuple[Any, ...]]]: ...

    async def write(
        self, *statements: Executable, tenant: str | None = None, isolation: Isolation | None = None
    ) -> list[CursorResult[*tuple[Any, ...]]]:
        """``db.aio.write``, on this database."""
        return await write_on(self._holder, *statements, tenant=tenant, isolation=isolation)

    @overload
    def session(
        self,
        *,
        tenant: str | None = None,
        isolation: Isolation | None = None,
        tx: AsyncConnection | None = None,
        read_only: bool = False,
        class_: None = None,
    ) -> AbstractAsyncContextManager[AsyncSession]: ...

    @overload
    def session(
        self,
        *,
        tenant: str | None = None,
        isolation: Isolation | None = None,
        tx: AsyncConnection | None = None,
        read_only: bool = False,
        class_: type[AsyncSessionT],
    ) -> AbstractAsyncContextManager[AsyncSessionT]: ...

    @by_name("Database.aio.session", places=1)
    def session(
        self,
        *,
        tenant: str | None = None,
        isolation: Isolation | None = None,
        tx: AsyncConnection | None = None,
        read_only: bool = False,
        class_: type[AsyncSession] | None = None,
    ) -> AbstractAsyncContextManager[AsyncSession]:
        """``db.aio.session``, on this database."""
        return session_on(self._holder, tenant=tenant, isolation=isolation, tx=tx, read_only=read_only, class_=class_)

    @overload
    async def run(
        self,
        fn: Callable[[AsyncConnection, Unpack[Ts]], Awaitable[T]],
        *args: *Ts,
        tenant: str | None = None,
        isolation: Isolation | None = None,
    ) -> T: ...

    @overload
    async def run(
        self,
        fn: Callable[Concatenate[AsyncConnection, ...], Awaitable[T]],
        *,
        tenant: str | None,
        isolation: Isolation | None = None,
        **kwargs: Any,
    ) -> T: ...

    @overload
    async def run(
        self,
        fn: Callable[Concatenate[AsyncConnection, ...], Awaitable[T]],
        *,
        tenant: str | None = None,
        isolation: Isolation | None,
        **kwargs: Any,
    ) -> T: ...

    @overload
    async def run(
        self, fn: Callable[Concatenate[AsyncConnection, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T: ...

    async def run(  # type: ignore[misc]  # mypy misses Unpack in it
        self,
        fn: Callable[..., Awaitable[T]],
        *args: Any,
        tenant: str | None = None,
        isolation: Isolation | None = None,
        **kwargs: Any,
    ) -> T:
        """``db.aio.run``, on this database."""
        return await run_on(self._holder, fn, *args, tenant=tenant, isolation=isolation, **kwargs)

    def engine(self, role: Literal["writer", "reader"] = "writer") -> AsyncEngine:
        """``db.aio.engine``, on this database."""
        return engine_on(self._holder, role)

    def once(
        self,
        key: str,
        *,
        tenant: str | None = None,
        payload: Any = None,
        expires_in_s: float = DAY_S,
        isolation: Isolation | None = None,
        tx: AsyncConnection | None = None,
    ) -> AsyncOnce:
        """``db.aio.once``, on this database."""
        return once_on(
            self._holder, key, tenant=tenant, payload=payload, expires_in_s=expires_in_s, isolation=isolation, tx=tx
        )

    @by_name("Database.aio.idempotent", places=1)
    def idempotent(
        self,
        *,
        key: str,
        payload: str | None = None,
        tenant: str | None = None,
        expires_in_s: float = DAY_S,
        name: str | None = None,
    ) -> Callable[
        [Callable[[AsyncConnection, EventT, ContextT], Awaitable[T]]], Handler[EventT, ContextT, Coroutine[Any, Any, T]]
    ]:
        """``db.aio.idempotent``, on this database."""
        return idempotent_on(
            self._holder, key=key, payload=payload, tenant=tenant, expires_in_s=expires_in_s, name=name
        )

    async def purge_once(self, *, limit: int = 10_000) -> int:
        """``db.aio.purge_once``, on this database."""
        return await purge_once_on(self._holder, limit=limit)

    @overload
    async def batch(
        self,
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
        self,
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
        self,
        event: Mapping[str, Any],
        record_handler: Callable[[AsyncConnection, Any], Awaitable[object]],
        *,
        tenant: str | Callable[[Any], str | None] | None = None,
        model: Any = None,
        isolation: Isolation | None = None,
        skip_group_on_error: bool = True,
        raise_on_entire_batch_failure: bool = False,
    ) -> PartialItemFailureResponse:
        """``db.aio.batch``, on this database."""
        return await batch_on(
            self._holder,
            event,
            record_handler,
            tenant=tenant,
            model=model,
            isolation=isolation,
            skip_group_on_error=skip_group_on_error,
            raise_on_entire_batch_failure=raise_on_entire_batch_failure,
        )

    async def copy_rows(
        self,
        table: Table | str,
        rows: Iterable[Row],
        *,
        columns: Sequence[str] | None = None,
        tenant: str | None = None,
        tx: AsyncConnection | None = None,
        progress: Callable[[int], object] | None = None,
        chunk_rows: int | None = None,
        binary: bool = False,
    ) -> int:
        """``db.aio.copy_rows``, on this database."""
        return await copy_rows_on(
            self._holder,
            table,
            rows,
            columns=columns,
            tenant=tenant,
            tx=tx,
            progress=progress,
            chunk_rows=chunk_rows,
            binary=binary,
        )

    async def reflect(
        self,
        *,
        schema: str | None = None,
        only: Sequence[str] | None = None,
        views: bool = False,
        snapshot: str | Path | None = None,
    ) -> MetaData:
        """``db.aio.reflect``, on this database."""
        return await reflect_on(self._holder, schema=schema, only=only, views=views, snapshot=snapshot)

    async def gather(self, *awaitables: Awaitable[T], limit: int | None = None) -> list[T]:
        """``db.aio.gather``, on this database."""
        return await gather_on(self._holder, *awaitables, limit=limit)
