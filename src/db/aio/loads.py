"""``batch``, ``copy_rows`` and ``reflect``, for ``async def``."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, overload

from sqlalchemy.util import greenlet_spawn

from db.environment.process import DEFAULT
from db.transactions.callables import awaited_connection
from db.work.batch import ModelT, RecordT
from db.work.batch import batch_on as _batch_on
from db.work.copy_rows import copy_rows_on as _copy_rows_on
from db.work.reflect import reflect_on as _reflect_on

from .greenlets import as_plain

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
    from sqlalchemy import MetaData, Table
    from sqlalchemy.ext.asyncio import AsyncConnection

    from db.environment.process import Holder
    from db.transactions.unit_of_work import Isolation
    from db.work.copy_plan import Row


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
    return await batch_on(
        DEFAULT,
        event,
        record_handler,
        tenant=tenant,
        model=model,
        isolation=isolation,
        skip_group_on_error=skip_group_on_error,
        raise_on_entire_batch_failure=raise_on_entire_batch_failure,
    )


async def batch_on(
    holder: Holder,
    event: Mapping[str, Any],
    record_handler: Callable[[AsyncConnection, Any], Awaitable[object]],
    *,
    tenant: str | Callable[[Any], str | None] | None = None,
    model: Any = None,
    isolation: Isolation | None = None,
    skip_group_on_error: bool = True,
    raise_on_entire_batch_failure: bool = False,
) -> PartialItemFailureResponse:
    """``batch``, on the database of ``holder``."""
    work = functools.partial(
        _batch_on,
        holder,
        event,
        as_plain(record_handler, call=f"{holder.called}.aio.batch"),
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
    chunk_rows: int | None = None,
    binary: bool = False,
) -> int:
    """Load ``rows`` into ``table`` over COPY, all of them or none; returns how many.

    The event loop goes on while the server is waited for, not while ``rows`` are read and encoded. With
    DB_ASYNC_DRIVER=asyncpg values are those that asyncpg encodes for the types of the columns, and an error names the
    row by its number. All else is as ``db.copy_rows``.
    """
    return await copy_rows_on(
        DEFAULT,
        table,
        rows,
        columns=columns,
        tenant=tenant,
        tx=tx,
        progress=progress,
        chunk_rows=chunk_rows,
        binary=binary,
    )


async def copy_rows_on(
    holder: Holder,
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
    """``copy_rows``, on the database of ``holder``."""
    work = functools.partial(
        _copy_rows_on,
        holder,
        table,
        rows,
        columns=columns,
        tenant=tenant,
        tx=awaited_connection(tx, call=f"{holder.called}.aio.copy_rows") if tx is not None else None,
        progress=progress,
        chunk_rows=chunk_rows,
        binary=binary,
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
    return await reflect_on(DEFAULT, schema=schema, only=only, views=views, snapshot=snapshot)


async def reflect_on(
    holder: Holder,
    *,
    schema: str | None = None,
    only: Sequence[str] | None = None,
    views: bool = False,
    snapshot: str | Path | None = None,
) -> MetaData:
    """``reflect``, on the database of ``holder``."""
    return await greenlet_spawn(_reflect_on, holder, schema=schema, only=only, views=views, snapshot=snapshot)
