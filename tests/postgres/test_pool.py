"""What each pool does, as a literal trace: the difference between them is visible in one line."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

import db
from db.pool.pools import StaleConnectionError

from .conftest import Lines, Use, backend_pid

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres


def work() -> None:
    with db.begin() as tx:
        tx.execute(text("SELECT 1"))


@pytest.mark.parametrize(
    ("settings", "trace"),
    [
        ({"pool": "queue"}, "connect checkout checkin checkout checkin close dispose"),
        ({"pool": "null"}, "connect checkout checkin close connect checkout checkin close dispose"),
    ],
)
def test_two_transactions_and_a_dispose(settings: dict[str, Any], trace: str, use: Use, lines: Lines) -> None:
    """The queue keeps its connection, the null pool has nothing to keep."""
    use(**settings)
    lines.records.clear()
    work()
    work()
    db.dispose()
    assert lines.events() == trace.split()


@pytest.mark.parametrize("pool", ["queue", "null"])
def test_dispose_leaves_no_connection_and_may_be_followed_by_use(
    pool: str, use: Use, database: Database, postgres: Postgres
) -> None:
    """The server has nobody of ours, until the next use."""
    use(pool=pool)
    work()
    db.dispose()
    assert postgres.all_left(database.name, user=database.app)
    work()
    assert db.status()["engines"]["writer"]["idle"] == (pool == "queue")


def test_dispose_closes_a_connection_that_is_in_use(use: Use, database: Database, postgres: Postgres) -> None:
    """A shutdown does not wait for a handler to finish."""
    use()
    with db.engine().connect() as conn:
        conn.execute(text("SELECT 1"))
        db.dispose()
        assert postgres.all_left(database.name, user=database.app)
        conn.invalidate()
    assert db.status()["totals"]["closes"] == 1
    work()


def test_configure_disposes_what_it_replaces(use: Use, database: Database, postgres: Postgres) -> None:
    """A new configuration does not leave the old one's connections behind."""
    use()
    work()
    use(pool="null")
    assert postgres.all_left(database.name, user=database.app)


@pytest.mark.parametrize(
    ("settings", "gap_s", "kept"),
    [
        ({"pool_idle_s": 300, "pool_recycle_s": 600}, 299, True),
        ({"pool_idle_s": 300, "pool_recycle_s": 600}, 300, False),
        ({"pool_idle_s": 900, "pool_recycle_s": 600}, 601, False),
    ],
)
def test_a_connection_is_replaced_by_age_or_idleness(
    settings: dict[str, Any], gap_s: float, kept: bool, use: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By wall clock, so that a freeze counts."""
    use(**settings)
    pid = backend_pid()
    clock: Callable[[], float] = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + gap_s)
    assert (backend_pid() == pid) is kept


def test_an_idle_connection_is_closed_and_said_to_be_stale(
    use: Use, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line gives the reason and how long it was idle."""
    use(pool_idle_s=300)
    work()
    clock: Callable[[], float] = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + 400)
    work()
    (line,) = lines.of("invalidate")
    assert line["error"] == StaleConnectionError.__name__


def test_a_connection_that_died_in_the_pool_is_not_handed_out(use: Use, database: Database, postgres: Postgres) -> None:
    """Pre-ping finds it, and the handler notices nothing."""
    use()
    pid = backend_pid()
    assert postgres.terminate(database.name) == 1
    assert backend_pid() != pid


def test_without_pre_ping_its_first_flight_is_sent_again(use: Use, database: Database, postgres: Postgres) -> None:
    """The dialect finds it then, and the handler still notices nothing."""
    use(pool_pre_ping=False)
    pid = backend_pid()
    assert postgres.terminate(database.name) == 1
    assert backend_pid() != pid


@pytest.mark.parametrize("pre_ping", [True, False])
@pytest.mark.parametrize(
    "unit",
    [work, backend_pid, lambda: db.fetch(text("SELECT 1")), lambda: db.write(text("SELECT 1"))],
    ids=["begin", "read", "fetch", "write"],
)
def test_a_session_that_the_server_ended_for_idling_is_replaced_without_an_error(
    unit: Callable[[], object], pre_ping: bool, use: Use, database: Database, postgres: Postgres
) -> None:
    """By idle_session_timeout, before the next unit of work or, without a look beforehand, while it is on its way."""
    use(pool_pre_ping=pre_ping)
    with db.engine().connect() as conn:  # for this session alone, so that no other ends while the test is slow
        conn.execute(text("SET idle_session_timeout = '1ms'"))
        conn.commit()
    assert postgres.all_left(database.name, user=database.app)
    unit()
    assert db.status()["totals"]["connects"] == 2


def test_overflow_is_closed_on_return(use: Use, database: Database, postgres: Postgres) -> None:
    """Size stays, overflow goes."""
    use(pool_size=1, max_overflow=1)
    with db.begin(), db.begin():
        assert len(postgres.connections(database.name, user=database.app)) == 2
    assert db.status()["totals"]["closes"] == 1


def test_a_connection_that_somebody_detached_is_not_taken_for_a_leak(use: Use) -> None:
    """It is no longer the pool's."""
    use()
    conn = db.engine().connect()
    conn.detach()
    conn.close()
    assert db.status()["engines"]["writer"]["checked_out"] == 0


def test_recreated_pools_keep_the_idle_limit(use: Use) -> None:
    """``Engine.dispose`` replaces the pool, not its settings."""
    use(pool_idle_s=123)
    db.engine().dispose()
    pool: Any = db.engine().pool
    assert pool._idle_s == 123


def test_status_gives_the_numbers_of_pool_and_process(use: Use) -> None:
    """JSON-ready, the same names as the metrics."""
    use()
    work()
    work()
    status = db.status()
    assert status["engines"] == {"writer": {"kind": "QueuePool", "size": 1, "idle": 1, "checked_out": 0}}
    counted = {k: v for k, v in status["totals"].items() if not k.endswith("_ms")}
    assert counted == {
        "connects": 1,
        "checkouts": 2,
        "reuses": 1,
        "invalidations": 0,
        "closes": 0,
        "statements": 2,
    }
    assert status["totals"]["connect_ms"] > 0
    assert status["totals"]["database_ms"] > 0


def test_there_is_one_engine_per_role(use: Use) -> None:
    """And without a reader endpoint the reader is the writer."""
    use()
    assert db.engine() is db.engine("writer") is db.engine("reader")


def test_the_reader_has_an_engine_of_its_own(use: Use, database: Database) -> None:
    """Reads go to it, writes do not."""
    use(reader_host="localhost")
    assert db.engine("reader") is not db.engine()
    with db.read() as conn:
        assert conn.engine is db.engine("reader")
    with db.begin() as tx:
        assert tx.engine is db.engine()
