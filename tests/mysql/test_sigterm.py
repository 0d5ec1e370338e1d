"""The end of an environment on MariaDB: connections are closed, and what runs on them is ended on the server."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import exc, text

import db
from db import aio
from db.environment import event_loop
from db.environment.sigterm import close_connections

from .conftest import numbers

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.plugin import Database
    from devkit.servers.mariadb import MariaDb

pytestmark = pytest.mark.usefixtures("ledger")
SLEEP = text("SELECT sleep(30)")


def test_a_statement_under_way_is_ended(
    running: Callable[[], int], mariadb: MariaDb, mariadb_database: Database
) -> None:
    """From within the signal's handler, which has interrupted the very read of its answer; a second unit has none."""

    def end(*_: object) -> None:
        close_connections()

    before = signal.signal(signal.SIGALRM, end)
    try:
        with pytest.raises(exc.OperationalError) as ended, db.begin() as tx:
            tx.execute(text("UPDATE ledger SET note = 'a'"))
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            tx.execute(SLEEP)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert db.sqlstate(ended.value) in {"57014", "08006"}  # the server's last word, or none
    assert running() == 0
    assert mariadb.all_left(mariadb_database.name, mariadb_database.app)


def test_a_statement_that_a_task_waits_for_is_ended(running: Callable[[], int]) -> None:
    """The task finds the end of its connection, and the loop goes on."""

    async def scenario() -> None:
        asyncio.get_running_loop().call_later(0.2, close_connections)
        with pytest.raises(exc.OperationalError):
            async with aio.read() as conn:
                await conn.execute(SLEEP)

    try:
        event_loop.run(scenario())
        assert running() == 0
    finally:
        db.dispose()
        event_loop.close()


def test_what_idles_is_closed(mariadb: MariaDb, mariadb_database: Database) -> None:
    """Without a word more than it takes."""
    assert numbers() == []
    close_connections()
    assert mariadb.all_left(mariadb_database.name, mariadb_database.app)
    assert numbers() == []
