"""A primary and its standby: what a failover keeps, who answers where, and how far the standby may be behind."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from devkit.servers.replica import Cluster

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.plugin import Database
    from devkit.servers.ports import Endpoint
    from devkit.servers.postgres import Postgres

COUNT = "SELECT count(*) FROM written"
WAITS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
ROWS = 20


@pytest.fixture
def written(replicated: Cluster, replicated_database: Database) -> str:
    """The name of a database in which the owner has an empty table ``written``."""
    with connect(replicated_database) as connection:
        connection.execute("CREATE TABLE written (id int)")
    return replicated_database.name


@pytest.fixture(scope="module")
def standing() -> Iterator[Cluster]:
    """For what breaks nothing. It holds an empty table ``written``."""
    with Cluster() as cluster:
        cluster.primary.execute("CREATE TABLE written (id int)")
        yield cluster


@pytest.fixture(scope="module")
def applied() -> Iterator[Cluster]:
    """Commits wait until the standby's readers see them."""
    with Cluster(settings={"max_connections": "17"}, synchronous_commit="remote_apply") as cluster:
        yield cluster


def connect(database: Database, **kwargs: Any) -> psycopg.Connection[Any]:
    return psycopg.connect(database.url("owner").replace("+psycopg", ""), autocommit=True, **kwargs)


def insert(server: Postgres, database: str) -> None:
    server.execute("INSERT INTO written VALUES (1)", database=database)


def test_both_answer_by_the_same_login(standing: Cluster) -> None:
    """The endpoint leads to the one that takes writes, the reader to the one that refuses them: SQLSTATE 25006."""
    assert standing.primary.password == standing.standby.password
    login = f"user={standing.primary.superuser} password={standing.primary.password} host={standing.endpoint.host}"
    with (
        psycopg.connect(f"{login} port={standing.endpoint.port}") as writing,
        psycopg.connect(f"{login} port={standing.reader.port}") as reading,
    ):
        assert writing.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)
        assert reading.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            reading.execute("CREATE TABLE refused (id int)")


def test_what_was_acknowledged_survives_the_primary(
    replicated: Cluster, replicated_database: Database, written: str
) -> None:
    """Which dies in the middle of a writing client: the promoted standby has every row that was confirmed."""
    acknowledged = 0

    def write() -> None:
        nonlocal acknowledged
        with connect(replicated_database) as connection:
            while True:
                connection.execute("INSERT INTO written VALUES (1)")
                acknowledged += 1

    with ThreadPoolExecutor() as pool:
        writer = pool.submit(write)
        while acknowledged < ROWS and not writer.done():
            time.sleep(0.005)
        replicated.failover()
        with pytest.raises(psycopg.OperationalError):
            writer.result(timeout=30)
    [(kept,)] = replicated.primary.execute(COUNT, database=written)
    assert kept - acknowledged in {0, 1}  # the last one may have lost its answer only


def test_the_endpoint_follows_the_promotion(replicated: Cluster, replicated_database: Database, written: str) -> None:
    """The new primary takes writes and waits for nobody; readers find it too, for there is no other server."""
    promoted = replicated.standby
    replicated.failover()
    assert replicated.primary is promoted
    with connect(replicated_database) as connection, connect(replicated_database.through(replicated.reader)) as reading:
        connection.execute("SET statement_timeout = '10s'")
        connection.execute("INSERT INTO written VALUES (1)")
        assert reading.execute(COUNT).fetchone() == (1,)
    with pytest.raises(RuntimeError, match="was promoted"):
        _ = replicated.standby


def test_a_primary_that_was_replaced_acknowledges_nothing_more(
    replicated: Cluster, replicated_database: Database, written: str
) -> None:
    """A connection that stayed with it after the promotion waits: whatever it is told would be lost."""
    with connect(replicated_database) as stale:
        replaced = replicated.primary
        replicated.promote()
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(stale.execute, "INSERT INTO written VALUES (1)")
            while replaced.execute(WAITS) == [(0,)] and not waiting.done():
                time.sleep(0.005)
            assert not waiting.done()
            replaced.kill()
            with pytest.raises(psycopg.OperationalError):
                waiting.result(timeout=30)
    assert replicated.primary.execute(COUNT, database=written) == [(0,)]


def test_a_standby_that_pauses_lags(standing: Cluster) -> None:
    """Commits are confirmed all the while; it catches up when it may."""
    standing.catch_up()
    before = standing.standby.execute(COUNT)
    standing.pause_replay()
    insert(standing.primary, "postgres")
    assert standing.standby.execute(COUNT) == before
    standing.resume_replay()
    standing.catch_up()
    assert standing.standby.execute(COUNT) == standing.primary.execute(COUNT) != before


def test_a_promotion_ends_the_pause(replicated: Cluster, written: str) -> None:
    """What the standby had received, it replays first."""
    replicated.pause_replay()
    insert(replicated.primary, written)
    replicated.failover()
    assert replicated.primary.execute(COUNT, database=written) == [(1,)]


def test_a_killed_primary_can_come_back(standing: Cluster) -> None:
    """On its port and with its data, as after a crash without a failover; the standby finds it again."""
    insert(standing.primary, "postgres")
    before = standing.primary.execute(COUNT)
    standing.primary.kill()
    with pytest.raises(psycopg.OperationalError):
        standing.primary.execute("SELECT 1")
    standing.primary.restart()
    assert standing.primary.execute(COUNT) == before
    insert(standing.primary, "postgres")
    standing.catch_up()


def test_a_lost_standby_holds_nobody_up(replicated: Cluster, replicated_database: Database, written: str) -> None:
    """Neither a commit that waits for it already nor those that come; its readers are closed."""
    replicated.standby.kill()
    with connect(replicated_database) as connection, ThreadPoolExecutor() as pool:
        waiting = pool.submit(connection.execute, "INSERT INTO written VALUES (1)")
        while replicated.primary.execute(WAITS) == [(0,)] and not waiting.done():
            time.sleep(0.005)
        assert not waiting.done()
        replicated.lose_standby()
        waiting.result(timeout=30)
        connection.execute("INSERT INTO written VALUES (2)")
    with pytest.raises(psycopg.OperationalError):
        connect(replicated_database.through(replicated.reader))
    with pytest.raises(RuntimeError, match="lost"):
        replicated.failover()


def test_remote_apply_shows_at_once(applied: Cluster) -> None:
    """What is committed can be read on the standby without a wait."""
    applied.primary.execute("CREATE TABLE written (id int)")
    for number in range(1, ROWS):
        insert(applied.primary, "postgres")
        assert applied.standby.execute(COUNT) == [(number,)]


def test_settings_hold_for_both(applied: Cluster) -> None:
    """A standby must not have fewer connections than its primary."""
    for server in (applied.primary, applied.standby):
        assert server.execute("SHOW max_connections") == [("17",)]


def test_the_end_leaves_nothing() -> None:
    """No server, no wire; a second stop does nothing, and a stopped cluster says so."""
    cluster = Cluster()
    cluster.start()
    parts: list[Endpoint] = [cluster.primary, cluster.standby, cluster.endpoint, cluster.reader]
    with pytest.raises(RuntimeError, match="runs already"):
        cluster.start()
    cluster.stop()
    cluster.stop()
    for part in parts:
        with pytest.raises(RuntimeError, match="with block"):
            _ = part.port
    with pytest.raises(RuntimeError, match="with block"):
        _ = cluster.primary
