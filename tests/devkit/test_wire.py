"""The counting proxy against a real server: literal traces, so that a change in what is counted shows in one line."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from devkit.network.wire import Counts, Wire

if TYPE_CHECKING:
    from devkit.network.faults import Lost, Speaker
    from devkit.plugin import Database, MakeWire
    from devkit.servers.postgres import Postgres


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


@pytest.mark.parametrize(("lost", "kept"), [("request", []), ("answer", [(1,)])])
def test_a_cut_loses_a_request_or_its_answer(
    database: Database, wire: MakeWire, postgres: Postgres, lost: Lost, kept: list[tuple[int]]
) -> None:
    """The client cannot tell which: for it, the connection has ended. The server has done it or not."""
    proxy = wire()
    with connect(database.through(proxy)) as connection:
        connection.execute("CREATE TABLE written (id int)")
        cut = proxy.cut_at(1, lost=lost)
        with pytest.raises(psycopg.OperationalError, match="server closed the connection"):
            connection.execute("INSERT INTO written VALUES (1)")
    assert cut.fired
    assert postgres.all_left(database.name)
    assert postgres.execute("SELECT id FROM written", database=database.name) == kept


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        # startup, SCRAM's two messages, BEGIN, INSERT, COMMIT, Terminate; there is no eighth flight
        ("request", ["fails", "fails", "fails", "fails", "fails", "fails", "written", "written, not cut"]),
        ("answer", ["fails", "fails", "fails", "fails", "fails", "fails, written", "written", "written, not cut"]),
    ],
)
def test_every_flight_of_a_workload_can_be_cut(
    database: Database, wire: MakeWire, postgres: Postgres, lost: Lost, expected: list[str]
) -> None:
    """They are counted from the first byte of the connection to its goodbye, the same way each time."""
    proxy = wire()
    postgres.execute("CREATE TABLE written (id int)", database=database.name)
    postgres.execute(f"GRANT ALL ON written TO {database.owner}", database=database.name)

    def attempt(flight: int) -> str:
        cut, said = proxy.cut_at(flight, lost=lost), []
        try:
            with connect(database.through(proxy), autocommit=False) as connection:
                connection.execute("INSERT INTO written VALUES (1)")
        except psycopg.OperationalError:
            said.append("fails")
        assert postgres.all_left(database.name)
        if postgres.execute("DELETE FROM written RETURNING id", database=database.name):
            said.append("written")
        return ", ".join(said if cut.fired else [*said, "not cut"])

    assert [attempt(flight) for flight in range(1, 9)] == expected


def test_a_cut_counts_the_flights_of_all_connections_and_ends_one(database: Database, wire: MakeWire) -> None:
    """Once: the others stay, and what comes later passes."""
    proxy = wire()
    with connect(database.through(proxy)) as first, connect(database.through(proxy)) as second:
        cut = proxy.cut_at(3, lost="request")
        first.execute("SELECT 1")
        second.execute("SELECT 1")
        assert not cut.fired
        with pytest.raises(psycopg.OperationalError):
            first.execute("SELECT 1")
        for _ in range(3):
            assert second.execute("SELECT 1").fetchone() == (1,)
    with connect(database.through(proxy)) as third:
        assert third.execute("SELECT 1").fetchone() == (1,)
    assert cut.requests == 3


def test_a_later_cut_replaces_an_earlier_one(database: Database, wire: MakeWire) -> None:
    """So a workload that had fewer flights than expected leaves nothing behind."""
    proxy = wire()
    with connect(database.through(proxy)) as connection:
        replaced = proxy.cut_at(1, lost="request")
        proxy.cut_at(2, lost="request")
        assert connection.execute("SELECT 1").fetchone() == (1,)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert not replaced.fired


@pytest.mark.parametrize(("flight", "lost", "complaint"), [(0, "answer", "flight is 0"), (1, "both", "lost is 'both'")])
def test_a_cut_that_cannot_be_is_refused(wire: MakeWire, flight: int, lost: Any, complaint: str) -> None:
    """At once, with the value that is wrong."""
    with pytest.raises(ValueError, match=complaint):
        wire().cut_at(flight, lost=lost)


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        # nothing passes, half of it, all but the last byte, and all
        ("client", [(1, []), (20, []), (36, []), (37, [(1,)])]),
        ("server", [(1, [(1,)]), (11, [(1,)]), (22, [(1,)]), (23, [(1,)])]),
    ],
)
def test_a_cut_comes_between_any_two_bytes(
    database: Database,
    wire: MakeWire,
    postgres: Postgres,
    *,
    of: Speaker,
    expected: list[tuple[int, list[tuple[int]]]],
) -> None:
    """The server does what it has heard to the end, and the client has heard the end of no answer that was cut."""
    proxy = wire()
    with connect(database) as connection:
        connection.execute("CREATE TABLE written (id int)")
    whole = {"client": len(b"Q....INSERT INTO written VALUES (1)\0"), "server": len(b"C....INSERT 0 1\0Z....I")}[of]
    assert whole == expected[-1][0] - 1
    for byte, written in expected:
        with connect(database.through(proxy)) as connection:
            cut = proxy.cut_before(byte, of=of)
            failure = pytest.raises(psycopg.OperationalError, match="server closed the connection")
            with failure if byte <= whole else contextlib.nullcontext():
                connection.execute("INSERT INTO written VALUES (1)")
            assert (cut.fired, cut.passed) == (byte <= whole, byte - 1)
        assert postgres.all_left(database.name)
        assert postgres.execute("DELETE FROM written RETURNING id", database=database.name) == written


@pytest.mark.parametrize(("byte", "of", "complaint"), [(0, "client", "byte is 0"), (1, "both", "speaker is 'both'")])
def test_a_cut_before_a_byte_that_cannot_be_is_refused(wire: MakeWire, byte: int, of: Any, complaint: str) -> None:
    """At once, with the value that is wrong."""
    with pytest.raises(ValueError, match=complaint):
        wire().cut_before(byte, of=of)


def test_a_black_hole_says_nothing_to_either_end(database: Database, wire: MakeWire, postgres: Postgres) -> None:
    """The server keeps its backend, and the client waits; a new connection works. The wire's end resets what waits."""
    proxy = wire()
    connection = connect(database.through(proxy))
    [silenced] = postgres.connections(database.name)
    proxy.blackhole()
    connection.pgconn.send_query(b"SELECT 1")
    with connect(database.through(proxy)) as another:
        assert another.execute("SELECT 1").fetchone() == (1,)
    assert not select.select([connection.fileno()], [], [], 0.2)[0]
    assert silenced in postgres.connections(database.name)
    proxy.stop()
    assert postgres.all_left(database.name)
    with pytest.raises(psycopg.OperationalError), connection:
        connection.execute("SELECT 1")


def test_a_black_hole_acknowledges_nothing(database: Database, wire: MakeWire) -> None:
    """So on Linux, whoever sets ``tcp_user_timeout`` finds out by it, as with a NAT that has forgotten the flow."""
    proxy = wire()
    with connect(database.through(proxy), tcp_user_timeout=300) as connection, ThreadPoolExecutor() as pool:
        proxy.blackhole()
        statement = pool.submit(connection.execute, "SELECT 1")
        try:
            with pytest.raises(psycopg.OperationalError, match="timed out"):
                statement.result(timeout=30)
        finally:
            proxy.cut()


def test_a_wire_that_refuses_has_a_closed_port(database: Database, wire: MakeWire) -> None:
    """Nobody listens there, as where the server is down; what is open stays open, and later it is the same port."""
    proxy = wire()
    port = proxy.port
    with connect(database.through(proxy)) as connection:
        proxy.refuse()
        proxy.refuse()
        with pytest.raises(psycopg.OperationalError, match="refused"):
            connect(database.through(proxy))
        assert connection.execute("SELECT 1").fetchone() == (1,)
        with socket.socket() as thief, pytest.raises(OSError, match="in use"):
            thief.bind((proxy.host, port))
    proxy.accept()
    proxy.accept()
    with connect(database.through(proxy)) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert (proxy.port, proxy.counts().connections) == (port, 2)


@pytest.mark.parametrize("cut", [False, True])
def test_a_wire_leads_new_connections_elsewhere(database: Database, wire: MakeWire, cut: bool) -> None:
    """Open ones stay where they are, as after a change of DNS, or are cut."""
    old, new = wire(), wire()
    moving = wire(upstream=old)
    with connect(database.through(moving)) as connection:
        moving.retarget(new.host, new.port, cut=cut)
        with connect(database.through(moving)) as another:
            another.execute("SELECT 1")
        assert (old.counts().connections, new.counts().connections) == (1, 1)
        if cut:
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        else:
            assert connection.execute("SELECT 1").fetchone() == (1,)


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
    for fault in (proxy.cut, proxy.blackhole, proxy.refuse, proxy.accept):
        with pytest.raises(RuntimeError, match="with block"):
            fault()
    proxy.stop()


def test_a_negative_delay_is_refused() -> None:
    """At once, where the mistake is, and with its value."""
    with pytest.raises(ValueError, match=r"-0\.1"):
        Wire("127.0.0.1", 1, delay_s=-0.1)
