"""Whoever holds the whole pool and comes for more is refused at once, and told where; who waits for others is served.

A wait would last a minute here.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import exc, text
from sqlalchemy.orm import scoped_session, sessionmaker

import db
from db import aio
from db.environment import event_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection

    from .conftest import Use

ONE = text("SELECT 1")
REFUSED = r"wait for itself: all are in use, by thread '\S+' for \d+\.\d s, from test_waits_for_itself\.py:\d+ in \S*{}"


@pytest.fixture(autouse=True)
def patient(use: Use) -> Iterator[None]:
    """One connection for each kind of engine, and a minute to wait for it."""
    use(pool_timeout_s=60.0, async_connections=1)
    yield
    db.dispose()
    event_loop.close()


@contextlib.contextmanager
def a_unit() -> Iterator[object]:
    with db.begin() as tx:
        yield tx.execute(ONE)


@contextlib.contextmanager
def a_plain_connection() -> Iterator[object]:
    with db.engine().connect() as conn:
        yield conn.execute(ONE)


@contextlib.contextmanager
def a_session_that_nobody_removed() -> Iterator[object]:
    session = scoped_session(sessionmaker(db.engine()))
    yield session.execute(ONE)
    session.remove()


@contextlib.contextmanager
def rows_by_and_by() -> Iterator[object]:
    conn = db.engine().connect()
    rows = conn.execution_options(yield_per=1).execute(text("SELECT generate_series(1, 3)"))
    yield next(rows)
    rows.close()
    conn.close()


HOLDERS = [a_unit, a_plain_connection, a_session_that_nobody_removed, rows_by_and_by]


@pytest.fixture
def another_thread() -> Iterator[None]:
    """That has nothing to do with the database, as a tracer's."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    yield
    end.set()
    thread.join()


@pytest.mark.usefixtures("another_thread")
@pytest.mark.parametrize("hold", HOLDERS)
def test_a_connection_beside_it_is_refused_with_the_place(
    hold: Callable[[], contextlib.AbstractContextManager[object]],
) -> None:
    """And nothing is lost: behind the block there is one again."""
    with hold(), pytest.raises(db.ConfigurationError, match=REFUSED.format(hold.__name__)) as refused:
        db.engine().connect()
    assert "db.session(tx=tx)" in str(refused.value)
    assert "DB_POOL_SIZE" in str(refused.value)
    assert db.verdict(refused.value) is db.Verdict.GIVE_UP
    with db.engine().connect() as conn:
        conn.execute(ONE)


@pytest.mark.parametrize("hold", HOLDERS[1:])
def test_a_unit_beside_a_plain_connection_is_refused_as_well(
    hold: Callable[[], contextlib.AbstractContextManager[object]],
) -> None:
    """With the place of that one."""
    with hold(), pytest.raises(db.ConfigurationError, match=REFUSED.format(hold.__name__)), db.begin():
        pass


def test_with_room_for_two_both_are_served(use: Use) -> None:
    """In one thread; the third is refused."""
    use(pool_timeout_s=60.0, pool_size=2)
    with db.begin() as tx, db.engine().connect() as conn:
        assert tx.scalar(ONE) == conn.scalar(ONE) == 1
        with pytest.raises(db.ConfigurationError, match="wait for itself"):
            db.engine().connect()


def test_a_thread_of_a_pool_is_refused_where_its_own_code_holds_it() -> None:
    """It is below whoever asks, so it cannot give anything back meanwhile."""

    def work() -> str:
        with db.engine().connect():
            try:
                db.engine().connect()
            except db.ConfigurationError as error:
                return str(error)
        return ""

    with ThreadPoolExecutor(1) as threads:
        assert "in test_a_thread_of_a_pool_is_refused" in threads.submit(work).result()


def test_what_another_thread_holds_is_waited_for() -> None:
    """And served when it comes back."""
    taken, wanted = threading.Event(), threading.Event()

    def hold() -> None:
        with db.engine().connect():
            taken.set()
            wanted.wait()

    def want() -> Any:
        wanted.set()
        with db.begin() as tx:
            return tx.scalar(ONE)

    with ThreadPoolExecutor(2) as threads:
        held = threads.submit(hold)
        taken.wait()
        assert threads.submit(want).result() == 1
        held.result()


def test_what_another_thread_may_give_back_is_waited_for() -> None:
    """A framework enters a block in one thread of its pool and leaves it in another: nothing of it runs meanwhile."""

    def dependency() -> Iterator[Connection]:
        with db.engine().connect() as conn:
            yield conn

    def give_back(request: Iterator[Connection]) -> None:
        wanted.wait()
        assert next(request, None) is None

    def want() -> Any:
        wanted.set()
        with db.engine().connect() as conn:
            return conn.scalar(ONE)

    wanted = threading.Event()
    request = dependency()
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        first.submit(next, request).result()
        given_back = second.submit(give_back, request)
        assert first.submit(want).result() == 1
        given_back.result()


def test_what_a_thread_took_for_another_request_is_waited_for(use: Use) -> None:
    """It enters the same code again, but not the block that it entered before, which another thread will leave."""
    use(pool_timeout_s=0.1)

    def dependency() -> Iterator[Connection]:
        with db.engine().connect() as conn:
            yield conn

    first, second = dependency(), dependency()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(next, first).result()
        with pytest.raises(exc.TimeoutError, match="no connection came back"):
            thread.submit(next, second).result()
        assert thread.submit(next, first, None).result() is None


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_a_task_is_refused_what_it_holds_itself(driver: str, use: Use) -> None:
    """A unit beside a plain connection and the other way round; a place is that of the task."""
    use(pool_timeout_s=60.0, async_connections=1, async_driver=driver)

    async def scenario() -> list[str]:
        said = []
        async with aio.begin() as tx:
            await tx.execute(ONE)
            with pytest.raises(db.ConfigurationError, match="wait for itself") as refused:
                await aio.engine().connect()
            said.append(str(refused.value))
        async with aio.engine().connect() as conn:
            await conn.execute(ONE)
            with pytest.raises(db.ConfigurationError, match="wait for itself") as refused:
                await aio.engine().connect()
            said.append(str(refused.value))
            with pytest.raises(db.ConfigurationError, match="wait for itself"):
                async with aio.begin():
                    pass
        async with aio.begin() as tx:
            assert await tx.scalar(ONE) == 1
        return said

    for said in event_loop.run(scenario()):
        assert "by task 'Task-" in said
        assert "from test_waits_for_itself.py" in said
        assert "a_task_is_refused_what_it_holds_itself" in said
        assert "DB_ASYNC_CONNECTIONS" in said


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_what_another_task_holds_is_waited_for(driver: str, use: Use) -> None:
    """Though the one that waits had it before, and it is being replaced meanwhile."""
    use(pool_timeout_s=60.0, async_connections=1, async_driver=driver)

    async def hold(taken: asyncio.Event, wanted: asyncio.Event) -> None:
        taken.set()
        async with aio.engine().connect() as conn:
            await conn.execute(ONE)
            await wanted.wait()

    async def scenario() -> Any:
        async with aio.engine().connect() as conn:
            await conn.execute(ONE)
            await conn.invalidate()
        taken, wanted = asyncio.Event(), asyncio.Event()
        holder = asyncio.create_task(hold(taken, wanted))
        await taken.wait()
        asyncio.get_running_loop().call_soon(wanted.set)
        async with aio.begin() as tx:
            answer = await tx.scalar(ONE)
        await holder
        return answer

    assert event_loop.run(scenario()) == 1
