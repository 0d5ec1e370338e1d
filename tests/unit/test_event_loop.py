"""The event loop of the process, and handlers that are coroutines."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import db
from db.environment import event_loop
from db.timing.invocation import current_invocation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.plugin import MakeLambdaContext

IN_A_FORK = """
import asyncio, os
from db.environment import event_loop

async def running():
    return asyncio.get_running_loop()

parents = event_loop.run(running())
if os.fork() == 0:
    event_loop.close()
    os._exit(event_loop.run(running()) is parents)
print(os.waitstatus_to_exitcode(os.wait()[1]), event_loop.run(running()) is parents)
"""


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    event_loop.close()


async def running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def test_two_invocations_of_an_async_handler_run_on_the_same_loop() -> None:
    """Or what the first has opened would be lost to the second."""

    @db.invocation
    async def handler(_event: Any, _context: Any) -> asyncio.AbstractEventLoop:
        return await running_loop()

    first, second = (handler({}, None) for _ in range(2))
    assert first is second
    assert not first.is_running()


def test_an_async_handler_has_its_invocation_bound(lambda_context: MakeLambdaContext) -> None:
    """Request id and deadline, as any other."""

    @db.invocation
    async def handler(_event: Any, _context: Any) -> tuple[str | None, bool]:
        await asyncio.sleep(0)
        return current_invocation().request_id, current_invocation().deadline is not None

    assert handler({}, lambda_context(request_id="r1")) == ("r1", True)
    assert current_invocation().request_id is None


def test_an_async_handlers_error_is_its_callers() -> None:
    """And the next one runs all the same."""

    @db.invocation
    async def handler(event: Any, _context: Any) -> int:
        return 1 // int(event)

    with pytest.raises(ZeroDivisionError):
        handler(0, None)
    assert handler(1, None) == 1


def test_a_coroutine_sees_the_variables_of_its_caller() -> None:
    """Those of now, not of when the loop was made."""
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")

    async def read() -> int:
        return variable.get()

    for value in (1, 2):
        variable.set(value)
        assert event_loop.run(read()) == value


def test_inside_a_running_loop_it_refuses() -> None:
    """A loop cannot be waited for from within; and the coroutine is not left behind unawaited."""

    async def nested() -> None:
        with pytest.raises(RuntimeError, match="running event loop"):
            event_loop.run(running_loop())

    event_loop.run(nested())


def test_closing_cancels_what_is_pending_and_the_next_run_makes_a_loop() -> None:
    """Nothing of the old one is left running."""
    ended: list[bool] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    async def leave_behind() -> asyncio.AbstractEventLoop:
        tasks.append(asyncio.ensure_future(wait()))
        await asyncio.sleep(0)
        return await running_loop()

    tasks: list[asyncio.Task[None]] = []
    first = event_loop.run(leave_behind())
    event_loop.close()
    assert (ended, first.is_closed()) == ([True], True)
    assert event_loop.run(running_loop()) is not first


def test_a_forked_child_has_a_loop_of_its_own() -> None:
    """And its parent's still works."""
    done = subprocess.run([sys.executable, "-c", IN_A_FORK], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout.split(), done.stderr) == (["0", "True"], "")
