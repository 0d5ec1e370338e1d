"""Functions and connections that users hand in, and whether they are of the kind that is wanted.

A coroutine that nobody awaits and a generator that nobody runs have done nothing, and committing that would say that
they had. So each result is looked at before the transaction ends.
"""

from __future__ import annotations

import inspect
from contextlib import _AsyncGeneratorContextManager, _GeneratorContextManager
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection

from db.environment.process import owner_of

from .blocks import AsyncBlock, Block, called

if TYPE_CHECKING:
    from collections.abc import Callable

    from db.environment.process import Holder

T = TypeVar("T")


class WrongKindError(TypeError):
    """A function, or a connection, of another kind than the call is for. Nothing was committed."""


def require_function(fn: Any, *, call: str) -> None:
    """Raise WrongKindError where ``fn`` cannot be called."""
    if not callable(fn):
        if inspect.iscoroutine(fn):
            fn.close()  # it would be warned of
        raise WrongKindError(
            f"{call} takes a function, which it calls itself, and was given {type(fn).__name__}: "
            "write its name, without calling it"
        )


def require_plain(fn: Callable[..., Any], *, call: str) -> None:
    """Raise WrongKindError where ``fn`` is known not to do its work when it is called."""
    require_function(fn, call=call)
    if inspect.iscoroutinefunction(fn):
        raise WrongKindError(_awaitable(fn, call))
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise WrongKindError(_generator(fn, call))


def done(result: T, fn: Callable[..., Any], *, call: str) -> T:
    """``result``, which ``fn`` gave to ``call``. Raises WrongKindError where it is work that has not been done."""
    if isinstance(result, GeneratorType | AsyncGeneratorType):
        raise WrongKindError(_generator(fn, call))
    if isinstance(result, Block | _GeneratorContextManager | _AsyncGeneratorContextManager):
        raise WrongKindError(_block(fn, call))
    if inspect.isawaitable(result):
        if hasattr(type(result), "__aenter__"):
            raise WrongKindError(_block(fn, call))  # what db.once gives, which says so when it is awaited
        if inspect.iscoroutine(result):
            result.close()  # it would be warned of
        raise WrongKindError(_awaitable(fn, call))
    return result


def awaitable(result: T, fn: Callable[..., Any], *, call: str) -> T:
    """``result``, which ``fn`` gave to ``call``. Raises WrongKindError where it cannot be awaited."""
    if isinstance(result, GeneratorType | AsyncGeneratorType):
        raise WrongKindError(_generator(fn, call))
    if not inspect.isawaitable(result) or isinstance(result, Block | AsyncBlock):
        raise WrongKindError(
            f"{call} awaits what {named(fn)} gives, and that is {type(result).__name__}: make it async def, "
            f"or take {call.replace('aio.', '')}"
        )
    return result


def plain_connection(tx: Any, *, call: str) -> Connection:
    """``tx``, which was given to ``call``. Raises WrongKindError where it is no ``sqlalchemy.Connection``."""
    if isinstance(tx, Connection):
        return tx
    if isinstance(tx, Block | AsyncBlock):
        raise WrongKindError(f"tx of {call} is the block of {called(tx)}, and not the connection that it gives")
    if isinstance(getattr(tx, "sync_connection", None), Connection):
        raise WrongKindError(f"tx of {call} is a connection for async def: take {_awaited(call)}")
    hint = ": take session.connection()" if hasattr(tx, "connection") else ""
    raise WrongKindError(f"tx of {call} is a sqlalchemy.Connection, not {type(tx).__name__}{hint}")


def own_connection(holder: Holder, tx: Any, *, call: str) -> Connection:
    """``tx``, as ``plain_connection``. Raises WrongKindError, too, where it is of another database than ``holder``."""
    conn = plain_connection(tx, call=call)
    owner = owner_of(conn)
    if owner is not None and owner is not holder:
        name = ("aio." if conn.dialect.is_async else "") + call.partition(".")[2]
        raise WrongKindError(
            f"tx of {holder.called}.{name} is a connection of {_named(owner)}, and what is done on {_named(holder)} "
            f"does not commit with it: take {owner.called}.{name}"
        )
    return conn


def _named(holder: Holder) -> str:
    return "the default database" if holder.database is None else f"the database {holder.database!r}"


def awaited_connection(tx: Any, *, call: str) -> Connection:
    """The plain connection below ``tx``. Raises WrongKindError where ``tx`` is no AsyncConnection."""
    below = getattr(tx, "sync_connection", None) if not isinstance(tx, Block | AsyncBlock) else None
    if isinstance(below, Connection):
        return below
    if isinstance(tx, Connection):
        raise WrongKindError(f"tx of {call} is a plain connection: take {call.replace('aio.', '')}")
    if isinstance(tx, Block | AsyncBlock):
        raise WrongKindError(f"tx of {call} is the block of {called(tx)}, and not the connection that it gives")
    raise WrongKindError(f"tx of {call} is a sqlalchemy.ext.asyncio.AsyncConnection, not {type(tx).__name__}")


def said_by_tx(call: str, names: str) -> str:
    """In words, that what ``tx`` has said cannot be said to ``call`` again."""
    return f"{call}(…, tx=tx) works in a transaction that has begun: {names} were said there, so leave them out here"


def named(fn: Callable[..., Any]) -> str:
    """A function by its name."""
    return getattr(fn, "__qualname__", None) or type(fn).__name__


def _awaited(call: str) -> str:
    """The twin of ``call`` for ``async def``: ``db.aio.run`` of ``db.run``."""
    database, _, name = call.partition(".")
    return f"{database}.aio.{name}"


def _awaitable(fn: Callable[..., Any], call: str) -> str:
    return f"{named(fn)} has to be awaited, which {call} does not: take {_awaited(call)}"


def _block(fn: Callable[..., Any], call: str) -> str:
    return f"{named(fn)} gave {call} a block that nobody entered: use it with `with` inside of it"


def _generator(fn: Callable[..., Any], call: str) -> str:
    return f"{named(fn)} gave {call} a generator, of which nothing has run: let it return a list, or drop its yield"
