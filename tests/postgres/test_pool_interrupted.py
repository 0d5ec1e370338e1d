"""An exception that strikes anywhere, as a signal handler's does, takes no place of a pool for good."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy
from sqlalchemy import Connection, text

import db
from db import aio
from db.environment import event_loop
from db.pool import pools
from db.transactions import open_units, unit_of_work

from .conftest import Use, backend_pid

if TYPE_CHECKING:
    from types import CodeType, FrameType

    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres

SQLALCHEMY = Path(sqlalchemy.__file__).parent
POOLS = (str(SQLALCHEMY / "pool"), str(SQLALCHEMY / "util/queue.py"), pools.__file__)
# From the checkout to where the unit has its connection, and back.
UNITS = (str(SQLALCHEMY / "engine"), str(SQLALCHEMY / "log.py"), unit_of_work.__file__, open_units.__file__)
# A block that is struck where `with` calls these has not begun, or does not know that it ends: no code of its own runs
# yet. The first is warned of as one that was never entered; the second ends with the last who holds it.
_ENTER, _EXIT = unit_of_work.UnitOfWork.__enter__.__code__, unit_of_work.UnitOfWork.__exit__.__code__


class AlarmError(Exception):
    """What a signal handler raises."""


class Strike:
    """Raises AlarmError in a ``with`` block, at the ``at``-th moment, from 1, at which a signal may meet that code.

    CPython looks for signals when a function begins, and when a call of one in C has ended.
    """

    def __init__(self, at: int, code: tuple[str, ...], *, but: set[CodeType]) -> None:
        self._left = at
        self._code = code
        self._but = but

    @property
    def missed(self) -> bool:
        """Whether there were fewer moments."""
        return self._left > 0

    def __enter__(self) -> None:
        sys.setprofile(self._trace)

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _trace(self, frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call" and frame.f_code in self._but:
            return
        if event in {"call", "c_return"} and frame.f_code.co_filename.startswith(self._code):
            self._left -= 1
            if self._left == 0:
                raise AlarmError


def lose_one() -> None:
    """As an exception between a pool's queue and who asked it."""
    db.engine().pool._do_get()


def test_a_place_that_was_lost_is_there_again(use: Use, database: Database, postgres: Postgres) -> None:
    """At once; and its connection is closed before another is opened."""
    use(pool_timeout_s=0.0)
    first = backend_pid()
    lose_one()
    assert backend_pid() != first
    assert len(postgres.connections(database.name, user=database.app)) == 1
    assert db.status()["engines"]["writer"] == {"kind": "QueuePool", "size": 1, "idle": 1, "checked_out": 0}


def test_what_only_a_cycle_holds_is_free_again(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an exception that was kept in a local variable of a function that it went through."""
    monkeypatch.setattr(pools, "active_count", lambda: 1)  # no other thread could give one back
    use(pool_timeout_s=0.0)
    cycle: list[Any] = [db.engine().connect()]
    cycle.append(cycle)
    del cycle
    backend_pid()


def test_a_place_that_is_taken_stays_taken(use: Use) -> None:
    """Of two, one was lost: there is room for one more, and no others."""
    use(pool_size=1, max_overflow=1, pool_timeout_s=0.0)
    with db.begin(), db.begin():
        pass
    lose_one()
    with db.engine().connect(), db.engine().connect(), pytest.raises(db.ConfigurationError, match="wait for itself"):
        db.engine().connect()


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_what_a_unit_did_not_give_back_is_free_again(driver: str, use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exception struck where its connection was to be closed, and is still held."""
    use(pool_timeout_s=0.0, async_connections=1, async_driver=driver)

    def strike(_: Connection) -> None:
        raise AlarmError

    async def unit() -> None:
        async with aio.begin():
            pass

    held = []
    for work in (backend_pid, lambda: event_loop.run(unit())):
        with monkeypatch.context() as patched, pytest.raises((AlarmError, db.OutcomeUnknownError)) as struck:
            patched.setattr(Connection, "close", strike)
            work()
        held.append(struck)
        work()
    db.dispose()
    event_loop.close()


@pytest.mark.parametrize("code", [POOLS, UNITS], ids=["pools", "units"])
@pytest.mark.parametrize("is_held", [True, False])
@pytest.mark.parametrize("is_kept", [True, False])
def test_wherever_it_strikes_the_pool_is_whole_afterwards(
    use: Use, database: Database, postgres: Postgres, *, is_kept: bool, is_held: bool, code: tuple[str, ...]
) -> None:
    """At every moment of a checkout and a return in the pools' code, or about it; of a kept or a new connection.

    While the exception is held, so is all that it struck in.
    """
    use(pool_timeout_s=0.0)
    held: list[Exception] = []
    at, missed = 0, False
    while not missed:
        at += 1
        (backend_pid if is_kept else db.dispose)()
        strike = Strike(at, code, but={_ENTER, _EXIT} if is_held else {_ENTER})
        try:
            with strike, db.begin():
                pass
        except (AlarmError, AssertionError) as error:  # SQLAlchemy asserts that its commit() came to its end
            held += [error] if is_held else []
        missed = strike.missed
        with db.begin() as tx:
            assert tx.execute(text("SELECT :at"), {"at": str(at)}).scalar_one() == str(at)
        assert db.status()["engines"]["writer"]["checked_out"] == 0
    assert at > 20
    assert len(postgres.connections(database.name, user=database.app)) == 1
