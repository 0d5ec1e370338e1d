"""``once`` and ``idempotent``, for ``async def``; and ``purge_once``."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Concatenate, NoReturn, ParamSpec, TypeVar

from sqlalchemy.util import greenlet_spawn

from db.transactions.blocks import NotABlockError, by_name, warn_of_unused
from db.transactions.callables import awaited_connection
from db.work.idempotent import idempotent as _idempotent
from db.work.once import DAY_S, Once
from db.work.once_records import purge_once as _purge_once

from .greenlets import as_plain, proxied

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from types import TracebackType

    from sqlalchemy.ext.asyncio import AsyncConnection

    from db.environment.handler_decorator import Handler
    from db.transactions.unit_of_work import Isolation

P = ParamSpec("P")
T = TypeVar("T")
EventT = TypeVar("EventT")
ContextT = TypeVar("ContextT")
_WITH = "async with db.aio.once(key) as tx, or await db.aio.once(key).run(fn)"


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
    work = AsyncOnce(
        Once(
            key,
            tenant=tenant,
            payload=payload,
            expires_in_s=expires_in_s,
            isolation=isolation,
            tx=awaited_connection(tx, call="db.aio.once") if tx is not None else None,
        )
    )
    work.__class__ = _UnusedAsyncOnce
    return work


class AsyncOnce:
    """What ``aio.once`` gives: a block to enter, or ``run`` for a coroutine function.

    ``result`` and ``replayed`` are those of what ``db.once`` gives.
    """

    def __init__(self, plain: Once) -> None:
        self.as_plain = plain

    @property
    def key(self) -> str:
        return self.as_plain.key

    @property
    def replayed(self) -> bool:
        return self.as_plain.replayed

    @property
    def result(self) -> Any:
        return self.as_plain.result

    @result.setter
    def result(self, value: Any) -> None:
        self.as_plain.result = value

    async def __aenter__(self) -> AsyncConnection:
        """A transaction that holds the key. Raises AlreadyDoneError where the work has been done."""
        self.__class__ = AsyncOnce
        return proxied(await greenlet_spawn(self.as_plain.__enter__))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Store the result and commit; roll back what raises, the record included."""
        return await greenlet_spawn(self.as_plain.__exit__, kind, error, traceback)

    async def run(
        self, fn: Callable[Concatenate[AsyncConnection, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """``fn(tx, *args, **kwargs)`` once; gives what it returned, then and ever after.

        ``fn`` is a coroutine function. All else is as for what ``db.once`` gives.
        """
        self.__class__ = AsyncOnce
        return await greenlet_spawn(
            functools.partial(self.as_plain.run, as_plain(fn, call="db.aio.once"), *args, **kwargs)
        )

    if not TYPE_CHECKING:  # to a type checker they are mistakes as they stand

        def __getattr__(self, name: str) -> NoReturn:
            raise NotABlockError(f"db.aio.once() gives a block, which has no {name!r}: {_WITH}")

        def __await__(self) -> NoReturn:
            raise NotABlockError(f"db.aio.once() gives a block, and nothing to await: {_WITH}")

        def __enter__(self) -> NoReturn:
            raise NotABlockError(f"db.aio.once() gives a block for async def: {_WITH}, or take db.once")

        def __exit__(self, *_: object) -> NoReturn:
            self.__enter__()


class _UnusedAsyncOnce(AsyncOnce):
    """One that nobody has used yet. Only this has a ``__del__``: see ``transactions.blocks``."""

    def __del__(self) -> None:
        warn_of_unused("db.aio.once()", _WITH)


async def purge_once(*, limit: int = 10_000) -> int:
    """Delete the expired records that this login may see, ``limit`` to a transaction; gives how many.

    All is as ``db.purge_once``.
    """
    return await greenlet_spawn(_purge_once, limit=limit)


@by_name("db.aio.idempotent")
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
        plain = decorate_plain(as_plain(fn, call="db.aio.idempotent"))

        @functools.wraps(fn)
        async def handler(event: EventT, context: Any = None) -> T:
            return await greenlet_spawn(plain, event, context)

        return handler

    return decorate
