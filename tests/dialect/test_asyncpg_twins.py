"""Whatever a unit of work does on asyncpg, it gives, raises and leaves what SQLAlchemy's own dialect for it does.

Of what a unit may do: docs/use/aio.md lists what it may not. Where ours would not notice that its connection has died,
only ours dies. ``TWINS_EXAMPLES`` is the number of programs of the slow test, 5,000 by default.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from sqlalchemy import exc, insert, make_url, select, text
from sqlalchemy.ext.asyncio import create_async_engine

from db import aio
from db.environment import event_loop

from .test_twins import Keeper, databases
from .verbs import MARKS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy.ext.asyncio import AsyncConnection

    from .conftest import Use

    Step = Callable[["Player"], Awaitable[Any]]

__all__ = ["databases"]

pytestmark = pytest.mark.usefixtures("quiet")

COMMON = 60
MANY = int(os.environ.get("TWINS_EXAMPLES", "5000"))
PLAIN = settings(
    deadline=None,
    database=None,
    print_blob=False,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
# How the two differ, in the words of docs/use/aio.md.
SWALLOWED = "the refusal to commit after a swallowed failure"
REPLACED = "a dead connection that is replaced up to the answer to the first statement"
NAMES = "Errors of the server have the names that SQLAlchemy gives them on psycopg"


class Player:
    """Plays a program over one connection, and notes what comes of each step."""

    def __init__(self, conn: AsyncConnection) -> None:
        self.conn = conn
        self.savepoints: list[Any] = []
        self.blocks: list[Any] = []
        self.next = 0

    @property
    async def driver(self) -> Any:
        return (await self.conn.get_raw_connection()).driver_connection

    def rows(self, count: int) -> list[dict[str, int]]:
        self.next += count
        return [{"n": n} for n in range(self.next - count, self.next)]

    async def one(self) -> Any:
        return (await self.conn.execute(insert(MARKS), self.rows(1)[0])).rowcount

    async def many(self) -> Any:
        return (await self.conn.execute(text("INSERT INTO marks (n) VALUES (:n)"), self.rows(3))).rowcount

    async def returning(self) -> Any:
        return (await self.conn.execute(insert(MARKS).returning(MARKS.c.n), self.rows(3))).scalars().all()

    async def update(self) -> Any:
        return (await self.conn.execute(text("UPDATE marks SET note = 'seen' WHERE note IS NULL"))).rowcount

    async def select(self) -> Any:
        return (await self.conn.execute(select(MARKS).order_by(MARKS.c.n))).all()

    async def stream(self) -> Any:
        async with self.conn.stream(select(MARKS.c.n).order_by(MARKS.c.n)) as rows:
            return [*(await rows.fetchmany(2)), *(await rows.fetchall())]

    async def stream_a_failure(self) -> Any:
        async with self.conn.stream(text("SELECT 1 / (3 - n) FROM generate_series(1, 60) n")) as rows:
            return await rows.fetchall()

    async def fail(self) -> Any:
        return (await self.conn.execute(text("SELECT 1 / 0"))).all()

    async def fail_to_parse(self) -> Any:
        return await self.conn.execute(text("SELECT missing"))

    async def violate(self) -> Any:
        return await self.conn.execute(text("INSERT INTO marks (n) VALUES (7000), (7000)"))

    async def begin_nested(self) -> Any:
        self.savepoints.append(await self.conn.begin_nested())

    async def release(self) -> Any:
        if self.savepoints:
            await self.savepoints.pop().commit()

    async def undo(self) -> Any:
        if self.savepoints:
            await self.savepoints.pop().rollback()

    async def driver_executes(self) -> Any:
        (row,) = self.rows(1)
        return await (await self.driver).execute("INSERT INTO marks (n) VALUES ($1)", row["n"])

    async def driver_fetches(self) -> Any:
        return [tuple(row) for row in await (await self.driver).fetch("SELECT n FROM marks ORDER BY n")]

    async def driver_copies(self) -> Any:
        records = [(row["n"],) for row in self.rows(2)]
        return await (await self.driver).copy_records_to_table("marks", records=records, columns=["n"])

    async def driver_fails(self) -> Any:
        return await (await self.driver).execute("SELECT 1 / 0")

    async def drivers_block(self) -> Any:
        driver = await self.driver
        async with driver.transaction():
            return await driver.fetchval("INSERT INTO marks (n) VALUES ($1) RETURNING n", self.rows(1)[0]["n"])

    async def drivers_block_undone(self) -> Any:
        block = (await self.driver).transaction()
        await block.start()
        found = await self.select()
        await block.rollback()
        return found


STEPS: dict[str, Step] = {name: step for name, step in vars(Player).items() if not name.startswith("_")}
for no_step in ("driver", "rows"):
    del STEPS[no_step]
QUIET = {"begin_nested", "release", "undo"}  # after these, nothing has been done yet
ENDS = ("commit", "rollback", "raise")


@dataclass(frozen=True)
class Program:
    """What is done in a unit of work, or with ``plain`` over the engine, and how it ends."""

    steps: list[str]
    end: str
    plain: bool


PROGRAMS = st.builds(
    Program,
    st.lists(st.sampled_from([*sorted(STEPS), "kill"]), max_size=8),
    st.sampled_from(ENDS),
    st.booleans(),
)


class OwnError(Exception):
    """What ends a block that is to be undone."""


async def observed(player: Player, name: str) -> tuple[Any, ...]:
    """What a step gives or raises, and the state it leaves.

    An error by its SQLSTATE: by names, most are DBAPIError or the driver's with the stock dialect.
    """
    try:
        came: tuple[Any, ...] = ("gave", await STEPS[name](player))
    except exc.DBAPIError as error:
        came = ("raised", getattr(error.orig, "sqlstate", None))
    except exc.SQLAlchemyError as error:
        came = (type(error).__name__,)
    except Exception as error:  # noqa: BLE001 - asyncpg's own
        came = ("raised", getattr(error, "sqlstate", None))
    conn = player.conn
    return (*came, conn.in_transaction(), conn.in_nested_transaction(), conn.invalidated)


async def played(
    block: AbstractAsyncContextManager[AsyncConnection], program: Program, kill: Callable[[], None], *, replays: bool
) -> list[Any]:
    """What came of each step, and of the block's end; once a connection is lost, that it is.

    With ``replays``, the connection is killed as well where nothing was done over it.
    """
    found: list[Any] = []
    nothing_done = True
    is_lost = False
    try:
        async with block as conn:
            player = Player(conn)
            if not (program.plain or replays):
                await conn.execute(text("SELECT 1"))  # else the driver's statements go ahead of its BEGIN
            for at, name in enumerate(program.steps):
                if name != "kill":
                    found.append(await observed(player, name))
                    nothing_done = nothing_done and name in QUIET
                elif not nothing_done:
                    kill()
                    is_lost = True
                    await player.select()
                elif replays and not _is_the_drivers(program.steps[at:]):
                    kill()
            if program.end == "raise":
                raise OwnError
            if program.end == "rollback":
                await conn.rollback()
    except exc.DBAPIError:
        return [*found, "lost" if is_lost else "refused"]  # NAMES
    except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
        return [*found, "lost" if is_lost else type(error).__name__]
    return [*found, "done"]


def _is_the_drivers(steps: list[str]) -> bool:
    """Whether the first of ``steps`` that does something goes over the driver, whose connection is not replaced."""
    return next((step for step in steps if step not in {*QUIET, "kill"}), "").startswith("driver")


class Pair:
    """Two databases that hold the same, and an engine on each."""

    def __init__(self, urls: tuple[str, str]) -> None:
        self.keepers = Keeper(urls[0]), Keeper(urls[1])
        self._stock = create_async_engine(make_url(urls[1]).set(drivername="postgresql+asyncpg"), pool_size=1)

    def play(self, program: Program) -> None:
        for engine, keeper in zip((aio.engine(), self._stock), self.keepers, strict=True):
            event_loop.run(engine.dispose())
            keeper.clear()
        ours_kept, stock_kept = self.keepers
        block = aio.engine().begin() if program.plain else aio.begin()
        ours = event_loop.run(played(block, program, ours_kept.kill, replays=True))
        stock = event_loop.run(played(self._stock.begin(), program, stock_kept.kill, replays=False))
        if not program.plain and ours[-1] == "PendingRollbackError":
            assert any(step[0] == "raised" for step in stock[:-1])
            ours[-1] = "done"  # SWALLOWED: the server makes a rollback of that COMMIT
        assert ours == stock, (ours, stock)
        assert ours_kept.rows() == stock_kept.rows()

    def close(self) -> None:
        for keeper in self.keepers:
            keeper.close()
        event_loop.run(self._stock.dispose())


@pytest.fixture
def pair(databases: tuple[str, str], use: Use) -> Iterator[Pair]:
    use(async_driver="asyncpg", pool_pre_ping=False)
    made = Pair(databases)
    yield made
    made.close()


def all_alike(pair: Pair, *, programs: int, number: int = 0) -> None:
    """Play so many programs, the same ones for each ``number``. The shortest that shows a difference is printed."""

    @seed(number)
    @settings(PLAIN, max_examples=programs)
    @given(PROGRAMS)
    def check(program: Program) -> None:
        try:
            pair.play(program)
        except AssertionError as error:
            error.add_note(f"{program} (seed {number})")
            raise

    check()


def test_each_difference_is_on_the_page() -> None:
    """By its own words."""
    page = " ".join((Path(__file__).parents[2] / "docs/use/aio.md").read_text().split())
    assert [words for words in (SWALLOWED, REPLACED, NAMES) if words not in page] == []


def test_any_unit_does_as_with_the_stock_dialect(pair: Pair) -> None:
    """Results, errors with their SQLSTATE, the state after each step, and the rows at the end."""
    all_alike(pair, programs=COMMON)


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2])
def test_thousands_of_units_do_as_with_the_stock_dialect(number: int, pair: Pair) -> None:
    """Others, and many more."""
    all_alike(pair, programs=MANY // 4, number=number)
