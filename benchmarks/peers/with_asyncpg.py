"""asyncpg, with its own pool."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import asyncpg

from benchmarks.works import NOTE, TENANT, statement_timeout

from .peer import ALL, Peer, Samples

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

READ = "SELECT hits FROM notes WHERE id = $1"
WRITE = "UPDATE notes SET hits = hits + 1 WHERE id = $1"
BOUND_READ = "SELECT hits FROM tenant_notes WHERE id = $1"
BOUND_WRITE = "UPDATE tenant_notes SET hits = hits + 1 WHERE id = $1"


class AsyncPg(Peer):
    """A pool, and a transaction on a connection of it: https://magicstack.github.io/asyncpg/current/usage.html

    One connection, as an environment serves one event at a time. Outside of a transaction it is in autocommit, so one
    read that is bound by nothing needs none.
    """

    name = "asyncpg"
    offers = ALL
    packages = ("asyncpg",)
    pool: Any

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._runner = asyncio.Runner()

    def open(self) -> None:
        self._runner.run(self._open())

    def close(self) -> None:
        self._runner.run(self.pool.close())

    def measured(self, run: Callable[[], Any], times: int) -> Samples:
        # One entry into the loop for all of them: a program that uses asyncpg lives in there.
        return self._runner.run(_measured(run, times))

    async def first(self) -> None:
        await self._open()
        self._is_open = True
        await self.write()

    async def _open(self) -> None:
        self.pool = await asyncpg.create_pool(self.url, min_size=1, max_size=1)

    async def nothing(self) -> None:
        async with self.pool.acquire() as connection, connection.transaction():
            pass

    async def read(self) -> Any:
        return await self.pool.fetchval(READ, NOTE)

    async def write(self) -> None:
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute(WRITE, NOTE)

    async def five(self) -> Any:
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.fetchval(READ, NOTE)
            await connection.execute(WRITE, NOTE)
            await connection.fetchval(READ, NOTE)
            await connection.execute(WRITE, NOTE)
            return await connection.fetchval(READ, NOTE)

    async def bound_read(self) -> Any:
        async with self.pool.acquire() as connection, connection.transaction(readonly=True):
            await self._bind(connection)
            return await connection.fetchval(BOUND_READ, NOTE)

    async def bound_write(self) -> None:
        async with self.pool.acquire() as connection, connection.transaction():
            await self._bind(connection)
            await connection.execute(BOUND_WRITE, NOTE)

    async def unpooled(self) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            async with connection.transaction():
                await self._bind(connection)
                await connection.execute(BOUND_WRITE, NOTE)
        finally:
            await connection.close()

    async def _bind(self, connection: Any) -> None:
        await connection.execute("SELECT set_config('app.tenant_id', $1, true)", TENANT)
        await connection.execute("SELECT set_config('statement_timeout', $1, true)", statement_timeout(self.context))


async def _measured(run: Callable[[], Awaitable[Any]], times: int) -> Samples:
    """The twin of ``peer.measured``."""
    samples = Samples()
    for _ in range(times):
        wall, cpu = time.perf_counter_ns(), time.process_time_ns()
        samples.value = await run()
        cpu, wall = time.process_time_ns() - cpu, time.perf_counter_ns() - wall
        samples.wall_us.append(wall / 1000)
        samples.cpu_us.append(cpu / 1000)
    return samples
