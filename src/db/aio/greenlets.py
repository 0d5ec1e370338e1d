"""The plain functions of ``db``, run in greenlets: a block entered there, and a coroutine function called from there.

Whatever waits in them lets the event loop go on meanwhile (``timing.waiting``).
"""

from __future__ import annotations

import functools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.util import await_, greenlet_spawn

from db.transactions.callables import awaitable, require_function

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection

P = ParamSpec("P")
T = TypeVar("T")


@asynccontextmanager
async def in_greenlets(block: AbstractContextManager[T]) -> AsyncIterator[T]:
    """``block``, entered and left in greenlets."""
    entered = await greenlet_spawn(block.__enter__)
    try:
        yield entered
    except BaseException as error:
        if not await greenlet_spawn(block.__exit__, type(error), error, error.__traceback__):
            raise
    else:
        await greenlet_spawn(block.__exit__, None, None, None)


def proxied(conn: Connection) -> AsyncConnection:
    return AsyncConnection(AsyncEngine(conn.engine), conn)


def as_plain(
    fn: Callable[Concatenate[AsyncConnection, P], Awaitable[T]], *, call: str
) -> Callable[Concatenate[Connection, P], T]:
    """``fn(tx, ...)``, given to ``call``, for a plain function that calls it in a greenlet, with a plain connection.

    Raises WrongKindError where it gives nothing to await.
    """
    require_function(fn, call=call)

    @functools.wraps(fn)
    def plain(tx: Connection, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await_(awaitable(fn(proxied(tx), *args, **kwargs), fn, call=call))

    return plain
