"""Blocks for ``with`` that say so when they are taken for something else: for the connection that they give, above all.

``db.begin().execute(...)`` would be an AttributeError about a class of contextlib's, and a bare ``db.begin()`` would do
nothing, silently.
"""

from __future__ import annotations

import functools
import warnings
from contextlib import _AsyncGeneratorContextManager, _GeneratorContextManager
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

P = ParamSpec("P")
T = TypeVar("T")


class NotABlockError(TypeError, AttributeError):
    """A block was used without ``with``, or with the wrong one of the two."""


class Block(_GeneratorContextManager[Any]):
    """What a function under ``block`` gives."""

    def __getattr__(self, name: str) -> NoReturn:
        raise NotABlockError(f"{called(self)} gives a block, which has no {name!r}: {_with(self)}")

    def __await__(self) -> NoReturn:
        raise NotABlockError(f"{called(self)} gives a block, and nothing to await: {_with(self)}")

    def __aenter__(self) -> NoReturn:
        raise NotABlockError(f"{called(self)} gives a plain block: {_with(self)}, or take db.aio")

    def __aexit__(self, *_: object) -> NoReturn:
        raise NotABlockError(f"{called(self)} gives a plain block: {_with(self)}, or take db.aio")

    def __del__(self) -> None:
        _warn_if_unused(self)


class AsyncBlock(_AsyncGeneratorContextManager[Any]):
    """What a function under ``async_block`` gives."""

    def __getattr__(self, name: str) -> NoReturn:
        raise NotABlockError(f"{called(self)} gives a block, which has no {name!r}: async {_with(self)}")

    def __await__(self) -> NoReturn:
        raise NotABlockError(f"{called(self)} gives a block, and nothing to await: async {_with(self)}")

    def __enter__(self) -> NoReturn:
        raise NotABlockError(f"{called(self)} gives a block for async def: async {_with(self)}")

    def __exit__(self, *_: object) -> NoReturn:
        raise NotABlockError(f"{called(self)} gives a block for async def: async {_with(self)}")

    def __del__(self) -> None:
        _warn_if_unused(self)


def block(fn: Callable[P, Iterator[T]]) -> Callable[P, AbstractContextManager[T]]:
    """``contextlib.contextmanager``, whose blocks know what they are taken for."""

    @functools.wraps(fn)
    def helper(*args: P.args, **kwargs: P.kwargs) -> AbstractContextManager[T]:
        return Block(cast("Callable[P, Generator[T]]", fn), args, kwargs)

    return helper


def async_block(fn: Callable[P, AsyncIterator[T]]) -> Callable[P, AbstractAsyncContextManager[T]]:
    """The same for ``contextlib.asynccontextmanager``."""

    @functools.wraps(fn)
    def helper(*args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[T]:
        return AsyncBlock(cast("Callable[P, AsyncGenerator[T]]", fn), args, kwargs)

    return helper


def called(of: Block | AsyncBlock) -> str:
    """The call that gave it, as users write it."""
    gen: Any = of.gen
    code = gen.ag_code if isinstance(of, AsyncBlock) else gen.gi_code
    return f"db.{'aio.' if isinstance(of, AsyncBlock) else ''}{code.co_name}()"


def _with(of: Block | AsyncBlock) -> str:
    return f"with {called(of)} as …"


def _warn_if_unused(of: Block | AsyncBlock) -> None:
    # contextlib forgets the function when the block is entered.
    if "func" in vars(of):
        warnings.warn(f"{called(of)} was never entered, so it did nothing: {_with(of)}", RuntimeWarning, stacklevel=2)
