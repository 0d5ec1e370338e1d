"""The counting proxy against a real server: literal traces, so that a change in what is counted shows in one line."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from devkit.wire import Counts, Wire

if TYPE_CHECKING:
    from devkit.plugin import Database, MakeWire
    from devkit.postgres import Postgres


def connect(database: Database, **kwargs: Any) -> psycopg.Connection[Any]:
    defaults: dict[str, Any] = {"sslmode": "disable", "autocommit": True, "prepare_threshold": None}
    return psycopg.connect(
        host=database.host,
        port=database.port,
        dbname=database.name,
        user=database.owner,
        password=database.owner_password,
        **(defaults | kwargs),
    )


def test_a_plain_scram_connect_is_one_connection_and_three_trips(database: Database, wire: MakeWire) -> None:
    """Startup packet, SCRAM's first message, SCRAM's final message: each waits for an answer."""
    proxy = wire()
    with connect(database.through(proxy)):
        assert proxy.counts() == Counts(connections=1, trips=3)


def test_a_refused_offer_of_tls_is_one_more(database: Database, wire: MakeWire) -> None:
    """libpq's ``sslmode=prefer`` asks first, and this server says no."""
    proxy = wire()
    with connect(database.through(proxy), sslmode="prefer"):
        assert proxy.counts() == Counts(connections=1, trips=4)


@pytest.mark.parametrize("parameters", [None, (1,)], ids=["simple protocol", "extended protocol"])
def test_a_statement_in_autocommit_is_one_trip(
    database: Database, wire: MakeWire, parameters: tuple[int, ...] | None
) -> None:
    """Parse, Bind, Describe, Execute and Sync leave together, so parameters cost nothing."""
    proxy = wire()
    with connect(database.through(proxy)) as connection:
        before = proxy.counts()
        connection.execute("SELECT 1" if parameters is None else "SELECT %s", parameters)
        assert proxy.counts() - before == Counts(trips=1)


def test_a_transaction_with_one_statement_is_three_trips(database: Database, wire: MakeWire) -> None:
    """psycopg waits for BEGIN, for the statement and for COMMIT."""
    proxy = wire()
    with connect(database.through(proxy), autocommit=False) as connection:
        before = proxy.counts()
        connection.execute("SELECT 1")
        connection.commit()
        assert proxy.counts() - before == Counts(trips=3)


def test_a_pipeline_is_one_trip(database: Database, wire: MakeWire) -> None:
    """Several statements before the first wait are one change of direction."""
    proxy = wire()
    with connect(database.through(proxy)) as connection:
        before = proxy.counts()
        with connection.pipeline():
            for number in range(5):
                connection.execute("SELECT %s", (number,))
        assert proxy.counts() - before == Counts(trips=1)


def test_a_statement_that_is_prepared_on_the_way_is_two_trips(database: Database, wire: MakeWire) -> None:
    """psycopg prepares what it has sent often enough, and waits for that before it executes."""
    proxy = wire()
    with connect(database.through(proxy), prepare_threshold=1) as connection:
        connection.execute("SELECT 1")
        before = proxy.counts()
        connection.execute("SELECT 1")
        prepared = proxy.counts()
        connection.execute("SELECT 1")
        assert (prepared - before, proxy.counts() - prepared) == (Counts(trips=2), Counts(trips=1))


def test_size_does_not_count(database: Database, wire: MakeWire) -> None:
    """A request of many packets and an answer of many packets are one trip."""
    proxy = wire()
    with connect(database.through(proxy)) as connection:
        before = proxy.counts()
        (text,) = connection.execute("SELECT %s::text", ["x" * 4_000_000]).fetchone() or ("",)
        assert len(text) == 4_000_000
        assert proxy.counts() - before == Counts(trips=1)


def test_closing_costs_nothing(database: Database, wire: MakeWire, postgres: Postgres) -> None:
    """Terminate has no answer, also not once the server has acted on it."""
    proxy = wire()
    connection = connect(database.through(proxy))
    before = proxy.counts()
    connection.close()
    while postgres.connections(database.name):
        time.sleep(0.005)
    assert proxy.counts() - before == Counts()


def test_clients_at_the_same_time_are_told_apart(database: Database, wire: MakeWire) -> None:
    """Each connection has its own direction: what interleaves on the clock does not in the count."""
    proxy = wire()

    def work(number: int) -> None:
        with connect(database.through(proxy)) as connection:
            for _ in range(number):
                connection.execute("SELECT 1")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert proxy.counts() == Counts(connections=8, trips=8 * 3 + sum(range(8)))


def test_a_trip_takes_the_delay_longer(database: Database, wire: MakeWire) -> None:
    """``delay_s`` is the price of a round trip, not of a packet or of a direction."""
    delay_s = 0.2
    with connect(database.through(wire(delay_s=delay_s))) as connection:
        started_at = time.perf_counter()
        connection.execute("SELECT repeat('x', 1000000)")
        elapsed_s = time.perf_counter() - started_at
    assert delay_s <= elapsed_s < 2 * delay_s


def test_cut_ends_the_connections_at_both_ends(database: Database, wire: MakeWire, postgres: Postgres) -> None:
    """The client meets a closed connection, the server's backend leaves, and a new connection is accepted."""
    proxy = wire()
    with connect(database.through(proxy)) as connection:
        proxy.cut()
        with pytest.raises(psycopg.OperationalError, match="server closed the connection"):
            connection.execute("SELECT 1")
    while postgres.connections(database.name):
        time.sleep(0.005)
    with connect(database.through(proxy)) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_cut_wakes_a_client_that_waits(database: Database, wire: MakeWire, postgres: Postgres) -> None:
    """A statement that is under way fails at once, not when its answer would have come."""
    proxy = wire()
    running = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND query LIKE 'SELECT pg_sleep%%'"
    with connect(database.through(proxy)) as connection, ThreadPoolExecutor() as pool:
        statement = pool.submit(connection.execute, "SELECT pg_sleep(60)")
        while postgres.execute(running, [database.name]) == [(0,)]:
            time.sleep(0.005)
        proxy.cut()
        with pytest.raises(psycopg.OperationalError, match="server closed the connection"):
            statement.result(timeout=10)


def test_an_upstream_that_is_down_closes_the_connection(wire: MakeWire) -> None:
    """As a load balancer without a target does: the TCP connect succeeds, and nobody answers."""
    closed = wire()
    port = closed.port
    closed.stop()
    with Wire("127.0.0.1", port) as proxy:
        with pytest.raises(psycopg.OperationalError, match="server closed the connection"):
            psycopg.connect(host=proxy.host, port=proxy.port, user="nobody", sslmode="disable")
        assert proxy.counts() == Counts(connections=1, trips=0)


def test_the_end_of_the_block_leaves_nothing(database: Database, postgres: Postgres) -> None:
    """No thread, no port, no open connection; the counts stay readable."""
    with Wire(postgres.host, postgres.port) as proxy:
        connection = connect(database.through(proxy))
        port = proxy.port
    assert not [thread for thread in threading.enumerate() if thread.name == "devkit-wire"]
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(host="127.0.0.1", port=port, user="nobody")
    with pytest.raises(psycopg.OperationalError), connection:
        connection.execute("SELECT 1")
    assert proxy.counts().connections == 1


def test_an_answer_that_nobody_reads_does_not_hold_it_open(
    database: Database, wire: MakeWire, postgres: Postgres
) -> None:
    """Not even when the server has gone and what it said last still waits for the client."""
    proxy = wire()
    connection = connect(database.through(proxy))
    before = proxy.counts()
    connection.pgconn.send_query(b"SELECT repeat('x', 1000) FROM generate_series(1, 100000)")
    while proxy.counts() == before:
        time.sleep(0.005)
    assert postgres.terminate(database.name) == 1
    proxy.stop()
    connection.close()


def test_a_closed_wire_says_so() -> None:
    """Its port belongs to somebody else by now; stopping it again is no error."""
    proxy = Wire("127.0.0.1", 1)
    with pytest.raises(RuntimeError, match="with block"):
        _ = proxy.port
    proxy.stop()


def test_a_negative_delay_is_refused() -> None:
    """At once, where the mistake is, and with its value."""
    with pytest.raises(ValueError, match=r"-0\.1"):
        Wire("127.0.0.1", 1, delay_s=-0.1)
