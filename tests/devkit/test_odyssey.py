"""Odyssey in front of a database: whom it lets in, that it pools transactions, and that it leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from devkit.servers import odyssey as module
from devkit.servers.odyssey import Odyssey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres


@pytest.fixture
def pooler(database: Database) -> Iterator[Odyssey]:
    with Odyssey(database, pool_size=2) as opened:
        yield opened


def connect(pooler: Odyssey, database: Database, password: str) -> psycopg.Connection[Any]:
    place: dict[str, Any] = {"host": pooler.host, "port": pooler.port, "dbname": database.name, "sslmode": "disable"}
    return psycopg.connect(**place, user=database.app, password=password, autocommit=True, prepare_threshold=None)


def test_transactions_share_the_servers_connections(pooler: Odyssey, database: Database, postgres: Postgres) -> None:
    """Four clients, two connections; a wrong password opens none."""
    clients = [connect(pooler, database, database.app_password) for _ in range(4)]
    with clients[0].transaction(), clients[1].transaction():
        for client in clients[:2]:
            client.execute("SELECT 1")
    for client in clients:
        assert client.execute("SELECT current_user").fetchone() == (database.app,)
        client.close()
    assert len(postgres.connections(database.name, database.app)) == 2
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect(pooler, database, "mistyped")


def test_the_end_leaves_nothing(pooler: Odyssey, database: Database, postgres: Postgres) -> None:
    """Not even with a client that is still there; a second stop does nothing."""
    client = connect(pooler, database, database.app_password)
    client.execute("SELECT 1")
    with pytest.raises(RuntimeError, match="runs already"):
        pooler.start()
    pooler.stop()
    pooler.stop()
    assert postgres.all_left(database.name)
    client.close()
    with pytest.raises(RuntimeError, match="with block"):
        _ = pooler.port


def test_a_start_that_fails_says_why(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the log, and leaves nothing behind."""
    monkeypatch.setattr(module, "CONFIGURATION", "no such word\n")
    pooler = Odyssey(database)
    with pytest.raises(RuntimeError, match="unexpected parameter"):
        pooler.start()
    with pytest.raises(RuntimeError, match="with block"):
        _ = pooler.port
