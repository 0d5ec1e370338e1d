"""The MariaDB server of the kit: what it lets in, what it keeps, and that it leaves; and the wire that reads it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pymysql
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from devkit.network.mysql_statements import CLIENT_SSL, LONGEST_BYTES, Reader
from devkit.network.statements import Statement, Unreadable
from devkit.network.wire import Counts
from devkit.servers.mariadb import MariaDb

if TYPE_CHECKING:
    from devkit.plugin import Database, MakeMariaDbWire
    from devkit.servers.ports import Endpoint


def connect(database: Database, endpoint: Endpoint, **kwargs: Any) -> Any:
    return pymysql.connect(
        host=endpoint.host,
        port=endpoint.port,
        user=database.app,
        password=database.app_password,
        database=database.name,
        **({"ssl_disabled": True} | kwargs),
    )


def test_the_database_has_an_owner_and_an_app(mariadb_database: Database) -> None:
    """Two logins: the owner creates, the app may do what it is granted and no more."""
    owner, app = (create_engine(mariadb_database.url(role)) for role in ("owner", "app"))
    with owner.begin() as connection:
        connection.execute(text("CREATE TABLE orders (id int)"))
    with app.connect() as connection, pytest.raises(OperationalError, match="command denied"):
        connection.execute(text("INSERT INTO orders VALUES (1)"))
    with owner.begin() as connection:
        connection.execute(text(f"GRANT SELECT ON orders TO {mariadb_database.app}@'%'"))
    with app.connect() as connection:
        assert connection.execute(text("SELECT id FROM orders")).all() == []
    owner.dispose()
    app.dispose()


def test_nobody_comes_in_without_a_password(mariadb: MariaDb, mariadb_database: Database) -> None:
    """Neither a user of the database nor a superuser, and there is no anonymous one."""
    for user in (mariadb_database.owner, mariadb.superuser, ""):
        with pytest.raises(pymysql.err.OperationalError) as refused:
            pymysql.connect(host=mariadb.host, port=mariadb.port, user=user, ssl_disabled=True)
        assert refused.value.args[0] == 1045
    assert mariadb.execute("SELECT user FROM mysql.user WHERE user = ''") == []


def test_a_connection_is_ended_from_the_servers_side(mariadb: MariaDb, mariadb_database: Database) -> None:
    """``terminate`` counts those that it ended, and they are gone when it returns."""
    client = connect(mariadb_database, mariadb)
    assert mariadb.connections(mariadb_database.name) == [client.thread_id()]
    assert mariadb.terminate(mariadb_database.name) == 1
    assert mariadb.all_left(mariadb_database.name)
    with pytest.raises(pymysql.err.OperationalError):
        client.query("SELECT 1")


def test_its_data_outlive_a_restart_and_a_crash_and_not_its_stop() -> None:
    """The port stays, too; what was committed is there."""
    with MariaDb(settings={"max-connections": "11"}) as server:
        port, home = server.port, Path(server.execute("SELECT @@datadir")[0][0]).parent
        server.execute("CREATE DATABASE kept")
        server.execute("CREATE TABLE kept.rows_ (id int)")
        for number, mode in enumerate(("fast", "immediate"), 1):
            server.execute("INSERT INTO kept.rows_ VALUES (%s)", [number])
            server.restart(mode)
        assert server.execute("SELECT id FROM kept.rows_") == [(1,), (2,)]
        assert server.execute("SELECT @@max_connections") == [(11,)]
        assert server.port == port
        assert home.is_dir()
    assert not home.exists()
    with pytest.raises(RuntimeError, match="stopped"):
        server.log()


def test_the_wire_counts_trips_and_reads_statements(mariadb_database: Database, mariadb_wire: MakeMariaDbWire) -> None:
    """The server's greeting is no trip, nor is the goodbye; a packet of two statements is one."""
    wire = mariadb_wire()
    client = connect(mariadb_database, wire, client_flag=pymysql.constants.CLIENT.MULTI_STATEMENTS)
    opened = wire.counts()
    assert opened == Counts(connections=1, trips=3)  # the login, SET NAMES, SET AUTOCOMMIT
    client.query("SELECT 1; SELECT 2")
    client.next_result()
    client.close()
    assert wire.counts() - opened == Counts(trips=1)
    assert wire.statements() == ["SET NAMES utf8mb4", "SET AUTOCOMMIT = 0", "SELECT 1; SELECT 2"]


def test_the_wire_says_that_it_cannot_read_what_is_encrypted() -> None:
    """The login's first packet asks for TLS: nothing of what follows is taken for a statement."""
    found: list[Any] = []
    read = Reader(found.append)
    read(b"\x20\x00\x00\x01" + CLIENT_SSL.to_bytes(4, "little") + bytes(28))
    read(b"\x05\x00\x00\x00\x03ab")
    assert found == [Unreadable()]


def test_the_wire_reads_a_statement_in_any_pieces() -> None:
    """Byte by byte, and one that is longer than a packet may be."""
    found: list[Any] = []
    read = Reader(found.append)
    for byte in b"\x04\x00\x00\x00\x03ab;" + b"\x01\x00\x00\x00\x01":
        read(bytes([byte]))
    assert found == [Statement("ab;")]
    read(b"\xff\xff\xff\x00\x03" + b"x" * (LONGEST_BYTES - 1) + b"\x01\x00\x00\x01y")
    assert found[1:] == [Statement("x" * (LONGEST_BYTES - 1) + "y")]
