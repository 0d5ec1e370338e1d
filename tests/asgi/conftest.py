"""Fixtures for tests of ``db.asgi``: those of the tests on the embedded server, an event loop, and a client."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

import httpx
import pytest

import db
from db.environment import event_loop
from tests.postgres.conftest import Lines, Use, ledger, lines, use

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Ask", "Lines", "Use", "ledger", "lines", "use"]


class Ask(Protocol):
    """Sends requests to an application, all at once, and gives their answers. An error of its own is a 500."""

    def __call__(self, app: Any, *requests: str, **options: Any) -> list[httpx.Response]: ...


@pytest.fixture
def ask(use: Use) -> Iterator[Ask]:
    use()

    def send(app: Any, *requests: str, **options: Any) -> list[httpx.Response]:
        async def all_at_once() -> list[httpx.Response]:
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
                return await asyncio.gather(*(client.request(*one.split(" ", 1), **options) for one in requests))

        return event_loop.run(all_at_once())

    yield send
    db.dispose()
    event_loop.close()


@pytest.fixture(autouse=True)
def closed_loop() -> Iterator[None]:
    """Each test begins on a loop of its own."""
    yield
    db.dispose()
    event_loop.close()
