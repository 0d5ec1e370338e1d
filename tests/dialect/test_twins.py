"""Whatever is done in whatever order, this dialect and the stock one give, raise and leave the same.

``TWINS_EXAMPLES`` is the number of programs of the slow test, 5,000 by default.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from sqlalchemy import create_engine, make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import greenlet_spawn

import db
from db import aio

from .programs import PROGRAMS
from .twins import DELIBERATE, Side, Twins, play
from .verbs import MARKS, WORK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres

    from .conftest import Use

pytestmark = [
    pytest.mark.usefixtures("quiet"),
    # What was open when its connection was killed is closed by nobody.
    pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning"),
]

COMMON = 60
MANY = int(os.environ.get("TWINS_EXAMPLES", "5000"))
SHARDS = 2  # each sync and async, so that two processes are busy to the end
LIMIT_S = 110.0  # of each shard: what a slow machine has not played by then is left out
# Random, and yet the same each time: a difference is the dialect's and not the day's.
PLAIN = settings(
    deadline=None,
    database=None,
    print_blob=False,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)

# Sessions of one role in one database, but for the one that asks.
OTHERS = "pg_stat_activity WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()"
PREPARED = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"


class Keeper:
    """A connection beside those of one side, to see what is committed, and to end what is going on."""

    def __init__(self, url: str) -> None:
        self._conn = psycopg.connect(
            make_url(url).set(drivername="postgresql").render_as_string(False), autocommit=True
        )

    def close(self) -> None:
        self._conn.close()

    def kill(self) -> None:
        """Returns when they are gone, which the server's own wait learns some 0.1 s later."""
        while self._conn.execute(f"SELECT pg_terminate_backend(pid) FROM {OTHERS}").fetchall():
            time.sleep(0.001)

    def clear(self) -> None:
        self.kill()
        for (gid,) in self._conn.execute(PREPARED).fetchall():
            self._conn.execute(psycopg.sql.SQL("ROLLBACK PREPARED {}").format(gid))
        self._conn.execute("DELETE FROM marks")

    def rows(self) -> list[tuple[object, ...]]:
        return self._conn.execute("SELECT n, note FROM marks ORDER BY n").fetchall()


class Pair:
    """Two databases that hold the same, and a side on each."""

    def __init__(self, ours: Side, stock: Side, keepers: tuple[Keeper, Keeper]) -> None:
        self._sides = ours, stock
        self._keepers = keepers

    def twins(self) -> Twins:
        """Begin anew, whatever the last program has left open."""
        for side, keeper in zip(self._sides, self._keepers, strict=True):
            side.forget()
            side.engine.dispose()
            keeper.clear()
        return Twins(*self._sides)

    def play(self, program: list[str]) -> None:
        play(self.twins(), program)
        self.compare_rows()

    def compare_rows(self) -> None:
        ours, stock = (keeper.rows() for keeper in self._keepers)
        assert ours == stock, (ours, stock)


@pytest.fixture
def databases(database: Database, postgres: Postgres) -> Iterator[tuple[str, str]]:
    """The URLs of two with the same table, one of them the test's."""
    other = f"{database.name}_stock"
    postgres.create_database(other, owner=database.owner)
    urls = database.url("owner"), database.url("owner").replace(database.name, other)
    for url in urls:
        engine = create_engine(url)
        with engine.begin() as conn:
            MARKS.create(conn)
            # What a prepared transaction holds is held until somebody ends it.
            conn.exec_driver_sql(f'ALTER DATABASE "{make_url(url).database}" SET lock_timeout = 200')
        engine.dispose()
    yield urls
    postgres.drop_database(other)


@pytest.fixture
def pair(databases: tuple[str, str], use: Use) -> Iterator[Pair]:
    """The sync dialects."""
    use()
    stock = create_engine(databases[1], pool_size=1, max_overflow=0)
    with keepers(databases) as both:
        ours = Side(db.engine(), name="ours", kill=both[0].kill, unit=db.begin)
        yield Pair(ours, Side(stock, name="stock", kill=both[1].kill), both)
    stock.dispose()


@contextmanager
def keepers(urls: tuple[str, str]) -> Iterator[tuple[Keeper, Keeper]]:
    both = Keeper(urls[0]), Keeper(urls[1])
    yield both
    for keeper in both:
        keeper.close()


@pytest.fixture
def on_loop(databases: tuple[str, str], use: Use) -> Iterator[Callable[[list[str]], None]]:
    """The async dialects: plays a program on them, on one event loop."""
    use()
    with keepers(databases) as both, asyncio.Runner() as runner:
        stock = create_async_engine(databases[1], pool_size=1, max_overflow=0).sync_engine
        engine = aio.engine().sync_engine
        ours = Side(engine, name="ours", kill=both[0].kill, is_async=True, unit=db.begin)
        pair = Pair(ours, Side(stock, name="stock", kill=both[1].kill, is_async=True), both)
        yield lambda program: runner.run(greenlet_spawn(pair.play, program))
        runner.run(greenlet_spawn(stock.dispose))
        runner.run(greenlet_spawn(db.dispose))


def all_alike(play: Callable[[list[str]], None], *, programs: int, number: int = 0) -> None:
    """Play so many programs, the same ones for each ``number``. The shortest that shows a difference is printed."""
    ends_at = time.monotonic() + LIMIT_S

    @seed(number)
    @settings(PLAIN, max_examples=programs)
    @given(PROGRAMS)
    def check(program: list[str]) -> None:
        if time.monotonic() > ends_at:
            return
        try:
            play(program)
        except AssertionError as error:
            error.add_note(f"{program} (seed {number})")
            raise

    check()


def test_each_difference_that_is_allowed_for_is_on_the_page() -> None:
    """By the page's own words: what a user cannot read of is none."""
    page = " ".join((Path(__file__).parents[2] / "docs/reference/wire.md").read_text().split())
    assert [words for words in DELIBERATE if words not in page] == []


def test_any_program_does_as_with_the_stock_dialect(pair: Pair) -> None:
    """Results, errors with their statement and parameters, the state after each step, and the rows at the end."""
    all_alike(pair.play, programs=COMMON)


def test_any_program_does_as_with_the_stock_dialect_on_an_event_loop(on_loop: Callable[[list[str]], None]) -> None:
    """Likewise, with what psycopg's async connections have."""
    all_alike(on_loop, programs=COMMON)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 1 + SHARDS))
def test_thousands_of_programs_do_as_with_the_stock_dialect(number: int, pair: Pair) -> None:
    """Others, and many more."""
    all_alike(pair.play, programs=MANY // SHARDS // 2, number=number)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 1 + SHARDS))
def test_thousands_of_programs_do_as_with_the_stock_dialect_on_an_event_loop(
    number: int, on_loop: Callable[[list[str]], None]
) -> None:
    """Likewise."""
    all_alike(on_loop, programs=MANY // SHARDS // 2, number=number)


@pytest.mark.slow
@pytest.mark.parametrize("nested", [False, True], ids=["", "in a savepoint"])
@pytest.mark.parametrize("first", sorted(set(WORK) - {"copy"}))  # what the driver does by itself is not sent again
def test_each_shape_of_statement_is_sent_again_when_the_kept_connection_was_dead(
    first: str, nested: bool, pair: Pair
) -> None:
    """And gives or raises what it does on a fresh one, and leaves the same behind."""
    twins = pair.twins()
    before = ["insert", "commit", "close", "open"]
    for name in [*before, "begin_nested"] if nested else before:
        twins.step(name)
    twins.kill(then=first)
    for name in ["release", "select", "commit"]:
        twins.step(name)
    twins.finish()
    pair.compare_rows()
