"""Dependencies: units of work that a framework opens for a route, and ends when the route has returned.

Each is an async generator function without parameters, as FastAPI's ``Depends`` and Litestar's ``Provide`` take it.
Async for plain connections, too: a framework runs a plain generator in threads, each with a context of its own, and a
unit inside of it would not know that it is one, and wait for the connection that this one has.

Who takes the same one twice in a request is given the same unit. Two that differ are two units, one inside of the
other, and the second is refused at once where there is no connection left for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncGenerator  # noqa: TC003 - Litestar reads the annotations
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from sqlalchemy import Connection  # noqa: TC002 - likewise

from db.errors import DOCUMENTATION, ConfigurationError
from db.transactions.begin import begin
from db.transactions.open_units import join, open_units
from db.transactions.read import read

from .entering import entered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from sqlalchemy.ext.asyncio import AsyncConnection

    from db.wire.commit_outcome import Unit
else:
    AsyncConnection = Any  # it brings the ORM, which only db.aio needs

T = TypeVar("T")

_TOO_LATE = (
    "the answer begins before the transaction has ended: were its COMMIT to fail, the client would have been told of "
    'success. Take the dependency as Depends(…, scope="function"), or end the block before the answer '
    f"({DOCUMENTATION}use/asgi/#dependencies)"
)


async def transaction() -> AsyncGenerator[AsyncConnection, None]:
    """``aio.begin()``: commits when the route has returned, rolls back when it has raised.

    With FastAPI ``Depends(db.asgi.transaction, scope="function")``, so that COMMIT comes before the answer.
    """
    from db import aio

    async with _shared(transaction, aio.begin) as tx:
        yield tx


async def reading() -> AsyncGenerator[AsyncConnection, None]:
    """``aio.read()``. What a response streams may be read over it, where the framework leaves it open for that long."""
    from db import aio

    async with _shared(reading, aio.read) as conn:
        yield conn


async def plain_transaction() -> AsyncGenerator[Connection, None]:
    """``db.begin()``, for a route that is no coroutine function; else as ``transaction``."""
    async with _shared(plain_transaction, begin) as tx:
        yield tx


async def plain_reading() -> AsyncGenerator[Connection, None]:
    """``db.read()``, for a route that is no coroutine function; else as ``reading``."""
    async with _shared(plain_reading, read) as conn:
        yield conn


@overload
def dependency(block: Callable[[], AbstractAsyncContextManager[T]]) -> Callable[[], AsyncGenerator[T, None]]: ...
@overload
def dependency(block: Callable[[], AbstractContextManager[T]]) -> Callable[[], AsyncGenerator[T, None]]: ...
def dependency(block: Callable[[], Any]) -> Callable[[], AsyncGenerator[Any, None]]:
    """A dependency of what ``block()`` gives: ``dependency(aio.session)``, or a function that calls it with arguments.

    A plain block is entered and left in another thread. Raises TypeError for a block that has been made already.
    """
    # A block of contextlib's can be called, as a decorator.
    if not callable(block) or isinstance(block, AbstractContextManager | AbstractAsyncContextManager):
        raise TypeError("db.asgi.dependency takes a function that gives a block, such as db.session, uncalled")

    async def provide() -> AsyncGenerator[Any, None]:
        async with _shared(provide, block) as given:
            yield given

    return provide


class Units:
    """What the dependencies of one request have open."""

    def __init__(self) -> None:
        self._around = open_units()  # a test may call the application inside of a unit of its own
        self._blocks: dict[object, _Block] = {}
        self._opened: list[Unit] = []
        self._one_at_a_time = asyncio.Lock()

    @asynccontextmanager
    async def shared(self, name: object, block: Callable[[], Any]) -> AsyncIterator[Any]:
        """What ``block()`` gives; what is open already under that ``name``, where it is."""
        async with self._one_at_a_time:
            kept = self._blocks.get(name)
            if kept is None:
                kept = await self._entered(block)
                self._blocks[name] = kept
            kept.holders += 1
        try:
            yield kept.given
        except BaseException as error:
            kept.error = kept.error or error
            await self._leave(name, kept)
            raise
        else:
            await self._leave(name, kept)
            if kept.error is not None:  # somebody has kept the error to himself, and all of it is undone
                raise kept.error

    async def _entered(self, block: Callable[[], Any]) -> _Block:
        # Litestar enters several at a time, each in a task of its own, which does not see what the others have opened.
        join(self._opened)
        before = open_units()
        stack = contextlib.AsyncExitStack()
        given = await stack.enter_async_context(_as_async(block()))
        self._opened += [unit for unit in open_units() if unit not in before]
        return _Block(given, stack)

    async def _leave(self, name: object, kept: _Block) -> None:
        kept.holders -= 1
        if not kept.holders and self._blocks.pop(name, None) is kept:
            await kept.leave(kept.error)  # whoever failed first decides

    async def end(self) -> None:
        """Undo what nobody has ended: Litestar forgets what it has entered where it cannot enter the next one."""
        while self._blocks:
            _, kept = self._blocks.popitem()
            await kept.leave(_AbandonedError())

    def refuse_to_answer(self) -> None:
        """Raise ConfigurationError where a transaction that writes is open: its COMMIT would come after the answer."""
        if any(unit.open and not unit.read_only for unit in {*open_units(), *self._opened} - {*self._around}):
            raise ConfigurationError([_TOO_LATE])


class _AbandonedError(Exception):
    """Has a block rolled back. Never leaves this module."""


class _Block:
    def __init__(self, given: Any, stack: contextlib.AsyncExitStack) -> None:
        self.given, self._stack = given, stack
        self.holders = 0
        self.error: BaseException | None = None

    async def leave(self, error: BaseException | None) -> None:
        await self._stack.__aexit__(type(error) if error else None, error, error.__traceback__ if error else None)


of_request: contextvars.ContextVar[Units | None] = contextvars.ContextVar("db_asgi_units", default=None)


@contextlib.contextmanager
def none_shared() -> Iterator[None]:
    """Without the units of this context's request for the length of the block: they are another's."""
    token = of_request.set(None)
    try:
        yield
    finally:
        of_request.reset(token)


@asynccontextmanager
async def _shared(name: object, block: Callable[[], Any]) -> AsyncIterator[Any]:
    async with (of_request.get() or Units()).shared(name, block) as given:
        yield given


def _as_async(block: Any) -> AbstractAsyncContextManager[Any]:
    # Those of ``db`` have methods for the other kind, too, which say what they are.
    if getattr(type(block), "_is_awaited", hasattr(block, "__aenter__")):
        return cast("AbstractAsyncContextManager[Any]", block)
    return entered(block)
