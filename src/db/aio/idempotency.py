"""``once`` and ``idempotent``, for ``async def``; and ``purge_once``."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, NoReturn, ParamSpec, TypeVar

from sqlalchemy.util import greenlet_spawn

from db.environment.process import DEFAULT
from db.transactions.blocks import NotABlockError, by_name, warn_of_unused
from db.transactions.callables import awaited_connection
from db.work.idempotent import idempotent_on as _idempotent_on
from db.work.once import DAY_S, Once
from db.work.once_records import purge_once_on as _purge_once_on

from .greenlets import as_plain, proxied

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from types import TracebackType

    from sqlalchemy.ext.asyncio import AsyncConnection

    from db.environment.handler_decorator import Handler
    from db.environment.process import Holder
    from db.transactions.unit_of_work import Isolation

P = ParamSpec("P")
T = TypeVar("T")
EventT = TypeVar("EventT")
ContextT = TypeVar("ContextT")


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
    return once_on(DEFAULT, key, tenant=tenant, payload=payload, expires_in_s=expires_in_s, isolation=isolation, tx=tx)


def once_on(
    holder: Holder,
    key: str,
    *,
    tenant: str | None = None,
    payload: Any = None,
    expires_in_s: float = DAY_S,
    isolation: Isolation | None = None,
    tx: AsyncConnection | None = None,
) -> AsyncOnce:
    """``once``, on the database of ``holder``."""
    call = f"{holder.called}.aio.once"
    plain = Once(
        holder,
        key,
        tenant=tenant,
        payload=payload,
        expires_in_s=expires_in_s,
        isolation=isolation,
        tx=awaited_connection(tx, call=call) if tx is not None else None,
    )
    work = AsyncOnce(plain, call)
    work.__class__ = _UnusedAsyncOnce
    return work


class AsyncOnce:
    """What ``aio.once`` gives: a block to enter, or ``run`` for a coroutine function.

    ``result`` and ``replayed`` are those of what ``db.once`` gives.
    """

    _is_awaited: ClassVar = True

    def __init__(self, plain: Once, call: str) -> None:
        self.as_plain = plain
        self._call = call

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
            functools.partial(self.as_plain.run, as_plain(fn, call=self._call), *args, **kwargs)
        )

    def _with(self) -> str:
        return f"async with {self._call}(key) as tx, or await {self._call}(key).run(fn)"

    if not TYPE_CHECKING:  # to a type checker they are mistakes as they stand

        def __getattr__(self, name: str) -> NoReturn:
            raise NotABlockError(f"{self._call}() gives a block, which has no {name!r}: {self._with()}")

        def __await__(self) -> NoReturn:
            raise NotABlockError(f"{self._call}() gives a block, and nothing to await: {self._with()}")

        def __enter__(self) -> NoReturn:
            raise NotABlockError(
                f"{self._call}() gives a block for async def: {self._with()}, or take {self._call.replace('aio.', '')}"
            )

        def __exit__(self, *_: object) -> NoReturn:
            self.__enter__()


class _UnusedAsyncOnce(AsyncOnce):
    """One that nobody has used yet. Only this has a ``__del__``: see ``transactions.blocks``."""

    def __del__(self) -> None:
        warn_of_unused(f"{self._call}()", self._with())


async def purge_once(*, limit: int = 10_000) -> int:
    """Delete the expired records that this login may see, ``limit`` to a transaction; gives how many.

    All is as ``db.purge_once``.
    """
    return await purge_once_on(DEFAULT, limit=limit)


async def purge_once_on(holder: Holder, *, limit: int = 10_000) -> int:
    """``purge_once``, on the database of ``holder``."""
    return await greenlet_spawn(_purge_once_on, holder, limit=limit)


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
    return idempotent_on(DEFAULT, key=key, payload=payload, tenant=tenant, expires_in_s=expires_in_s, name=name)


def idempotent_on(
    holder: Holder,
    *,
    key: str,
    payload: str | None = None,
    tenant: str | None = None,
    expires_in_s: float = DAY_S,
    name: str | None = None,
) -> Callable[
    [Callable[[AsyncConnection, EventT, ContextT], Awaitable[T]]], Handler[EventT, ContextT, Coroutine[Any, Any, T]]
]:
    """``idempotent``, on the database of ``holder``."""
    decorate_plain = _idempotent_on(
        holder, key=key, payload=payload, tenant=tenant, expires_in_s=expires_in_s, name=name
    )

    def decorate(
        fn: Callable[[AsyncConnection, EventT, ContextT], Awaitable[T]],
    ) -> Handler[EventT, ContextT, Coroutine[Any, Any, T]]:
        plain = decorate_plain(as_plain(fn, call=f"{holder.called}.aio.idempotent"))

        @functools.wraps(fn)
        async def handler(event: EventT, context: Any = None) -> T:
            return await greenlet_spawn(plain, event, context)

        return handler

    return decorate
