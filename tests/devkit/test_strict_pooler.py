"""The pooler that gives each transaction another connection: what it lends, to whom, and that nothing is reset."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import errors

from devkit.network.strict_pooler import StrictPooler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres


@pytest.fixture
def pooler(postgres: Postgres) -> Iterator[StrictPooler]:
    with StrictPooler(postgres.host, postgres.port, backends=2) as opened:
        yield opened


def connect(pooler: StrictPooler, database: Database, **changed: Any) -> psycopg.Connection[Any]:
    place: dict[str, Any] = {"host": pooler.host, "port": pooler.port, "dbname": database.name, "sslmode": "disable"}
    login: dict[str, Any] = {"user": database.owner, "password": database.owner_password, "connect_timeout": 5}
    return psycopg.connect(**(place | login | changed), autocommit=True, prepare_threshold=None)


@pytest.fixture
def client(pooler: StrictPooler, database: Database) -> Iterator[psycopg.Connection[Any]]:
    with connect(pooler, database) as conn:
        yield conn


def pid(client: psycopg.Connection[Any]) -> int:
    return int(answer(client, "SELECT pg_backend_pid()"))


def answer(client: psycopg.Connection[Any], question: str) -> Any:
    row = client.execute(question.encode()).fetchone()
    return row and row[0]


def test_each_transaction_has_another_connection(pooler: StrictPooler, client: psycopg.Connection[Any]) -> None:
    """And keeps it to its end."""
    pids = [pid(client) for _ in range(4)]
    assert (len(set(pids)), pids[:2] * 2, pooler.moves) == (2, pids, 3)
    with client.transaction():
        assert {pid(client) for _ in range(3)} == {pids[0]}
    assert pid(client) == pids[1]


def test_each_sync_within_one_flight_gives_it_away(client: psycopg.Connection[Any]) -> None:
    """What goes on behind it, goes on elsewhere."""
    with client.pipeline() as pipeline:
        cursors = []
        for _ in range(3):
            cursors.append(client.execute("SELECT pg_backend_pid()"))
            pipeline.sync()
        first, second, third = [row[0] for cursor in cursors if (row := cursor.fetchone())]
    assert first == third != second


def test_nothing_is_reset(pooler: StrictPooler, client: psycopg.Connection[Any], database: Database) -> None:
    """What a client says of its session, whoever comes next to that connection meets."""
    pid(client)
    client.execute("SET app.tenant_id = 'acme'")
    seen = {}
    with connect(pooler, database) as other:
        for _ in range(2):
            with other.transaction():
                seen[pid(other)] = answer(other, "SELECT current_setting('app.tenant_id', true)")
    assert sorted(map(str, seen.values())) == ["None", "acme"]


def test_whoever_comes_when_all_are_lent_waits(
    pooler: StrictPooler, client: psycopg.Connection[Any], database: Database, postgres: Postgres
) -> None:
    """For the first that is given back; more are not opened."""
    with connect(pooler, database) as second, connect(pooler, database) as third:
        with client.transaction():
            held = pid(client)
            with second.transaction():
                pid(second)
                waiting = threading.Thread(target=lambda: asked.append(pid(third)))
                asked: list[int] = []
                waiting.start()
                assert len(postgres.connections(database.name, database.owner)) == 2
        waiting.join()
    assert len(asked) == 1
    assert held in postgres.connections(database.name, database.owner)


def test_copy_passes_both_ways(client: psycopg.Connection[Any]) -> None:
    """One that fails ends with its own error, and leaves the connection as usable as it was."""
    client.execute("CREATE TABLE numbers (n int)")
    with client.cursor() as cursor, cursor.copy("COPY numbers FROM STDIN") as copy:
        for n in range(10):
            copy.write_row((n,))
    with (
        pytest.raises(errors.InvalidTextRepresentation),
        client.cursor() as cursor,
        cursor.copy("COPY numbers FROM STDIN") as copy,
    ):
        for _ in range(10_000):
            copy.write_row(("none",))
    with client.cursor() as cursor, cursor.copy("COPY numbers TO STDOUT") as copy:
        assert sorted(int(row[0]) for row in copy.rows()) == list(range(10))


def test_a_statement_can_be_cancelled(client: psycopg.Connection[Any]) -> None:
    """On whichever connection it runs."""
    timer = threading.Timer(0.1, client.cancel_safe)
    timer.start()
    with pytest.raises(errors.QueryCanceled):
        client.execute("SELECT pg_sleep(30)")
    timer.join()


def test_who_leaves_in_a_transaction_leaves_nothing(
    pooler: StrictPooler, client: psycopg.Connection[Any], database: Database, postgres: Postgres
) -> None:
    """The server rolls it back; another connection takes its place."""
    client.execute("CREATE TABLE numbers (n int)")
    other = connect(pooler, database)
    other.execute("BEGIN; INSERT INTO numbers VALUES (1)")
    other.close()
    assert [answer(client, "SELECT count(*) FROM numbers") for _ in range(3)] == [0, 0, 0]


def test_a_connection_that_the_server_ends_takes_its_client_along(
    pooler: StrictPooler, client: psycopg.Connection[Any], database: Database, postgres: Postgres
) -> None:
    """With the server's words. One that is lent to nobody is missed by nobody."""
    idle = pid(client)
    with pytest.raises(errors.AdminShutdown):
        client.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    with connect(pooler, database) as other:
        with other.transaction():
            assert pid(other) == idle
        postgres.terminate(database.name, database.owner)
        assert postgres.all_left(database.name)
        assert pid(other) != idle


def test_a_refused_login_has_the_servers_words(pooler: StrictPooler, database: Database, postgres: Postgres) -> None:
    """A wrong password; a server that is full. Startup options have no place in a shared session."""
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect(pooler, database, password="mistyped")
    with pytest.raises(psycopg.OperationalError, match="unsupported startup parameter: options"):
        connect(pooler, database, options="-c geqo=off")
    postgres.execute(f"ALTER ROLE {database.owner} CONNECTION LIMIT 0")
    with pytest.raises(psycopg.OperationalError, match="too many connections for role"):
        connect(pooler, database)


def test_the_end_leaves_nothing(postgres: Postgres, database: Database) -> None:
    """No connection, on either side."""
    with StrictPooler(postgres.host, postgres.port) as pooler:
        client = connect(pooler, database)
        pid(client)
        with pytest.raises(RuntimeError, match="runs already"):
            pooler.start()
    pooler.stop()
    assert postgres.all_left(database.name)
    with pytest.raises(psycopg.OperationalError):
        client.execute("SELECT 1")
    with pytest.raises(RuntimeError, match="with block"):
        _ = pooler.port
