"""The driver's verbs, sync and async, done by one program: what has to be awaited is, in a greenlet."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy.util import await_

if TYPE_CHECKING:
    from collections.abc import Iterator


class Hands:
    """Does what a caller of psycopg's does, who awaits it where ``is_async``."""

    def __init__(self, *, is_async: bool) -> None:
        self.is_async = is_async

    def wait(self, value: Any) -> Any:
        """``value``, or what comes of awaiting it."""
        return await_(value) if inspect.isawaitable(value) else value

    @contextmanager
    def within(self, block: Any) -> Iterator[Any]:
        """``with block`` or ``async with block``."""
        entered = self.enter(block)
        try:
            yield entered
        except BaseException as error:
            if not self.leave(block, error):
                raise
        else:
            self.leave(block, None)

    def enter(self, block: Any) -> Any:
        return await_(block.__aenter__()) if self.is_async else block.__enter__()

    def leave(self, block: Any, error: BaseException | None) -> bool:
        """Whether ``error`` was swallowed."""
        return bool(await_(block.__aexit__(*told(error))) if self.is_async else block.__exit__(*told(error)))

    def take(self, values: Any, at_most: int | None) -> list[Any]:
        """The first of an iterator's values, sync or async. Then it is closed."""
        taken: list[Any] = []
        while at_most is None or len(taken) < at_most:
            try:
                taken.append(await_(anext(values)) if self.is_async else next(values))
            except (StopIteration, StopAsyncIteration):
                return taken
        if self.is_async:
            await_(values.aclose())
        else:
            values.close()
        return taken


def told(error: BaseException | None) -> tuple[Any, Any, Any]:
    """What a ``with`` block tells its manager at the end."""
    return (None, None, None) if error is None else (type(error), error, error.__traceback__)
