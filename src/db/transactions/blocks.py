"""Blocks for ``with`` that say so when they are taken for something else: for the connection that they give, above all.

``db.begin().execute(...)`` would be an AttributeError about a class of contextlib's, and a bare ``db.begin()`` would do
nothing, silently.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from contextlib import _AsyncGeneratorContextManager, _GeneratorContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, NoReturn, ParamSpec, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from db.environment.process import Holder

P = ParamSpec("P")
T = TypeVar("T")


class NotABlockError(TypeError, AttributeError):
    """A block was used without ``with``, or with the wrong one of the two."""


class Block:
    """A block of ``with``, and what it says where it is taken for something else."""

    __slots__ = ()
    _is_awaited: ClassVar = False  # though it has the methods of the other kind, which say what it is
    holder: Holder  # of its database
    call_name: str  # of the public function that gave it

    def __getattr__(self, name: str) -> NoReturn:
        raise NotABlockError(f"{called(self)} gives a block, which has no {name!r}: {with_it(self)}")

    def __await__(self) -> NoReturn:
        raise NotABlockError(f"{called(self)} gives a block, and nothing to await: {with_it(self)}")

    def __aenter__(self) -> NoReturn:
        raise NotABlockError(f"{called(self)} gives a plain block: {with_it(self)}, or take db.aio")

    def __aexit__(self, *_: object) -> NoReturn:
        raise NotABlockError(f"{called(self)} gives a plain block: {with_it(self)}, or take db.aio")


class _GeneratorBlock(Block, _GeneratorContextManager[Any]):
    """What a function under ``block`` gives."""


class AsyncBlock(_AsyncGeneratorContextManager[Any]):
    """What a function under ``async_block`` gives."""

    _is_awaited: ClassVar = True
    holder: Holder
    call_name: str

    def __getattr__(self, name: str) -> NoReturn:
        raise NotABlockError(f"{called(self)} gives a block, which has no {name!r}: {with_it(self)}")

    def __await__(self) -> NoReturn:
        raise NotABlockError(f"{called(self)} gives a block, and nothing to await: {with_it(self)}")

    def __enter__(self) -> NoReturn:
        raise NotABlockError(f"{called(self)} gives a block for async def: {with_it(self)}")

    def __exit__(self, *_: object) -> NoReturn:
        raise NotABlockError(f"{called(self)} gives a block for async def: {with_it(self)}")


# A signal's handler may raise wherever Python code runs, and what it raises in a ``__del__`` is printed and lost: an
# alarm among it. So no block of a generator's that was entered has one, only these, which cease to be when they are.


class _UnusedBlock(_GeneratorBlock):
    """A block that nobody has entered yet."""

    def __enter__(self) -> Any:
        self.__class__ = _GeneratorBlock  # type: ignore[assignment]  # it has no state of its own
        return _GeneratorBlock.__enter__(self)

    def __del__(self) -> None:
        if "func" in vars(self):  # it has been made: not where its arguments were refused
            warn_of_unused(called(self), with_it(self))


class _UnusedAsyncBlock(AsyncBlock):
    """Likewise for ``async with``."""

    async def __aenter__(self) -> Any:
        self.__class__ = AsyncBlock  # type: ignore[assignment] # its own base, of the same layout
        return await AsyncBlock.__aenter__(self)

    def __del__(self) -> None:
        if "func" in vars(self):  # it has been made: not where its arguments were refused
            warn_of_unused(called(self), with_it(self))


def block(
    fn: Callable[Concatenate[Holder, P], Iterator[T]],
) -> Callable[Concatenate[Holder, P], AbstractContextManager[T]]:
    """``contextlib.contextmanager``, whose blocks know what they are taken for. ``fn`` is ``<public name>_on``."""

    name = fn.__name__.removesuffix("_on")

    @functools.wraps(fn)
    def helper(holder: Holder, /, *args: P.args, **kwargs: P.kwargs) -> AbstractContextManager[T]:
        made = _UnusedBlock(cast("Callable[..., Generator[T]]", fn), (holder, *args), kwargs)
        made.holder, made.call_name = holder, name
        return made

    return helper


def async_block(
    fn: Callable[Concatenate[Holder, P], AsyncIterator[T]],
) -> Callable[Concatenate[Holder, P], AbstractAsyncContextManager[T]]:
    """The same for ``contextlib.asynccontextmanager``."""

    name = fn.__name__.removesuffix("_on")

    @functools.wraps(fn)
    def helper(holder: Holder, /, *args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[T]:
        made = _UnusedAsyncBlock(cast("Callable[..., AsyncGenerator[T]]", fn), (holder, *args), kwargs)
        made.holder, made.call_name = holder, name
        return made

    return helper


def called(of: Block | AsyncBlock) -> str:
    """The call that gave it, as users write it."""
    return f"{of.holder.called}.{'aio.' if isinstance(of, AsyncBlock) else ''}{of.call_name}()"


def warn_of_unused(call: str, remedy: str) -> None:
    """Warn, from a ``__del__``, of what ``call`` gave and nobody entered."""
    warnings.warn(f"{call} was never entered, so it did nothing: {remedy}", RuntimeWarning, stacklevel=3)


def by_name(call: str, *, places: int = 0) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Have a function, which users call ``call``, say so where more than ``places`` arguments come by position."""

    def decorate(fn: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(fn)
        def checked(*args: P.args, **kwargs: P.kwargs) -> T:
            if args[places:]:
                raise TypeError(_by_name(fn, call))
            return fn(*args, **kwargs)

        return checked

    return decorate


def _by_name(fn: Callable[..., Any], call: str) -> str:
    parameters = inspect.signature(fn).parameters.values()
    names = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]
    return f"{call} takes its arguments by name, as in {call}({names[0]}=…): {', '.join(names)}"


def with_it(of: Block | AsyncBlock) -> str:
    """How it is meant to be used."""
    return f"{'async ' if isinstance(of, AsyncBlock) else ''}with {called(of)} as …"
