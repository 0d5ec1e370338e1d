"""Fixtures for tests of ``db.aio``: those of the tests on the embedded server, an event loop, and both twins as one."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

import db
from db import aio
from db.environment import event_loop
from tests.postgres.conftest import Lines, Use, ledger, lines, use
from tests.postgres.fix_once import effects

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sqlalchemy import Connection, Executable, Result

__all__ = ["Lines", "Twin", "Use", "effects", "ledger", "lines", "use"]


@pytest.fixture(autouse=True)
def closed_loop(use: Use) -> Iterator[None]:
    """Each test begins on a loop of its own."""
    yield
    db.dispose()
    event_loop.close()


class Awaited:
    """A plain connection behind the face of an AsyncConnection."""

    def __init__(self, conn: Connection) -> None:
        self.sync_connection = conn

    async def execute(self, statement: Executable, parameters: Any = None) -> Result[Any]:
        return self.sync_connection.execute(statement, parameters)

    async def scalar(self, statement: Executable, parameters: Any = None) -> Any:
        return self.sync_connection.scalar(statement, parameters)

    async def commit(self) -> None:
        self.sync_connection.commit()

    @asynccontextmanager
    async def begin_nested(self) -> AsyncIterator[None]:
        with self.sync_connection.begin_nested():
            yield


class Twin:
    """One of the twins, behind the face of ``db.aio``."""

    def __init__(self, name: str, *, driver: str = "psycopg") -> None:
        self.name = name
        self.driver = driver

    def begin(self, **arguments: Any) -> AbstractAsyncContextManager[Any]:
        return aio.begin(**arguments) if self.name == "aio" else self._entered(db.begin, arguments)

    def read(self, **arguments: Any) -> AbstractAsyncContextManager[Any]:
        return aio.read(**arguments) if self.name == "aio" else self._entered(db.read, arguments)

    async def fetch(self, *statements: Any, **arguments: Any) -> list[Result[Any]]:
        return await aio.fetch(*statements, **arguments) if self.name == "aio" else db.fetch(*statements, **arguments)

    async def write(self, *statements: Any, **arguments: Any) -> list[Any]:
        if self.name == "aio":
            return list(await aio.write(*statements, **arguments))
        return list(db.write(*statements, **arguments))

    async def run(self, fn: Any, *args: Any, **arguments: Any) -> Any:
        if self.name == "aio":
            return await aio.run(fn, *args, **arguments)
        return db.run(lambda tx, *more: _driven(fn(Awaited(tx), *more)), *args, **arguments)

    @asynccontextmanager
    async def _entered(self, unit: Any, arguments: Any) -> AsyncIterator[Awaited]:
        with unit(**arguments) as conn:
            yield Awaited(conn)


def _driven(coroutine: Any) -> Any:
    """What a coroutine returns that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waited")


@pytest.fixture(params=["db", "aio"])
def twin(request: pytest.FixtureRequest) -> Twin:
    return Twin(request.param)
