"""PgBouncer in front of the embedded server: what it pools, whom it lets in, and that it leaves."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import pq, sql

from devkit.servers import pgbouncer as module
from devkit.servers.passwords import new_password
from devkit.servers.pgbouncer import NEWEST, PgBouncer
from devkit.servers.ports import free_port
from devkit.servers.postgres_install import give, unprivileged_account

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.plugin import Database, MakePgBouncer, MakeWire
    from devkit.servers.postgres import Postgres


@pytest.fixture
def tls() -> Iterator[dict[str, str]]:
    """Settings for clients under TLS. pytest's ``tmp_path`` is closed to the account that reads the key."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    files = {name: folder / name for name in ("key", "cert")}
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1"]
    written = ["-keyout", str(files["key"]), "-out", str(files["cert"])]
    subprocess.run([*made, *written], check=True, capture_output=True, timeout=60)
    for file in files.values():
        give(file, unprivileged_account())
    yield {"client_tls_sslmode": "require"} | {f"client_tls_{name}_file": str(file) for name, file in files.items()}
    shutil.rmtree(folder)


def connect(database: Database, **kwargs: Any) -> psycopg.Connection[Any]:
    defaults: dict[str, Any] = {"password": database.app_password, "sslmode": "disable", "prepare_threshold": None}
    return psycopg.connect(
        host=database.host,
        port=database.port,
        dbname=database.name,
        user=database.app,
        autocommit=True,
        **(defaults | kwargs),
    )


def test_transactions_share_the_servers_connections(
    database: Database, pgbouncer: MakePgBouncer, postgres: Postgres
) -> None:
    """Five clients, two connections: whoever is between transactions holds none."""
    pooled = database.through(pgbouncer(default_pool_size=2))
    clients = [connect(pooled) for _ in range(5)]
    with clients[0].transaction(), clients[1].transaction():
        pids = [client.execute("SELECT pg_backend_pid()").fetchone() for client in clients[:2]]
    pids += [client.execute("SELECT pg_backend_pid()").fetchone() for client in clients]
    assert {pid for (pid,) in filter(None, pids)} == set(postgres.connections(database.name, database.app))
    assert len(set(pids)) == 2
    for client in clients:
        client.close()


def test_a_session_pool_gives_each_client_its_own(database: Database, pgbouncer: MakePgBouncer) -> None:
    """The other mode, for comparison."""
    pooled = database.through(pgbouncer(pool_mode="session"))
    with connect(pooled) as first, connect(pooled) as second:
        pids = [client.execute("SELECT pg_backend_pid()").fetchone() for client in (first, second)]
    assert len(set(pids)) == 2


def test_it_knows_the_servers_passwords(database: Database, pgbouncer: MakePgBouncer, postgres: Postgres) -> None:
    """Also those that were changed meanwhile, by what the server keeps of them; a wrong one is refused."""
    pooled, rotated = database.through(pgbouncer()), new_password()
    with connect(pooled) as client:
        assert client.execute("SELECT current_user").fetchone() == (database.app,)
    change = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(database.app), sql.Literal(rotated))
    postgres.execute(change)
    postgres.terminate(database.name, database.app)
    with connect(pooled, password=rotated) as client:
        assert client.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        connect(pooled)


def test_its_console_tells_and_commands(database: Database, pgbouncer: MakePgBouncer) -> None:
    """Which servers it holds and in which state; a command without rows returns none."""
    pooler = pgbouncer()
    with connect(database.through(pooler)) as client:
        client.execute("SELECT 1")
        servers = pooler.admin("SHOW SERVERS")
        assert [server["state"] for server in servers if server["user"] == database.app] == ["idle"]
        assert pooler.admin("RECONNECT") == []


@pytest.mark.parametrize(("release", "kept"), [(None, 0), (NEWEST, 0), (NEWEST, 10)])
def test_a_newer_one_keeps_statements_that_clients_have_prepared(
    release: str | None, kept: int, database: Database, pgbouncer: MakePgBouncer
) -> None:
    """From 1.21 on, where it is told how many: they are prepared again on whichever connection comes next."""
    settings = {"max_prepared_statements": str(kept)} if release else {}
    pooler = pgbouncer(default_pool_size=2, settings=settings, release=release)
    assert (pooler.version >= (1, 21)) is (release is not None)
    pooled = database.through(pooler)
    with connect(pooled) as first, connect(pooled) as second:
        first.pgconn.prepare(b"one", b"SELECT 1, pg_backend_pid()")
        with first.transaction(), second.transaction():  # so that there are two of them
            for client in (first, second):
                client.execute("SELECT 1")
        with second.transaction():
            second.execute("SELECT 1")  # the one that was used last is taken
            result = first.pgconn.exec_prepared(b"one", None)
    assert (result.status == pq.ExecStatus.TUPLES_OK) is (kept > 0)


def test_settings_win_over_the_arguments(database: Database, pgbouncer: MakePgBouncer) -> None:
    """Everything that pgbouncer.ini may hold."""
    pooler = pgbouncer(max_client_conn=9, settings={"max_client_conn": "7", "query_wait_timeout": "2"})
    shown = {row["key"]: row["value"] for row in pooler.admin("SHOW CONFIG")}
    assert (shown["max_client_conn"], shown["query_wait_timeout"], shown["pool_mode"]) == ("7", "2", "transaction")


def test_wires_stand_on_both_sides(database: Database, wire: MakeWire, pgbouncer: MakePgBouncer) -> None:
    """What a client does, and what the pooler makes of it: it has the connection already."""
    inner = wire()
    outer = wire(upstream=pgbouncer(upstream=inner))
    with connect(database.through(outer)) as client:
        client.execute("SELECT 1")
    before = inner.counts()
    with connect(database.through(outer)) as client:
        client.execute("SELECT 2")
    assert (inner.counts() - before).connections == 0
    assert outer.statements() == ["SELECT 1", "SELECT 2"]


def test_under_tls_a_wire_cuts_but_does_not_read(
    database: Database, wire: MakeWire, pgbouncer: MakePgBouncer, postgres: Postgres, tls: dict[str, str]
) -> None:
    """It passes on what it does not understand, and says so when it is asked for statements."""
    outer = wire(upstream=pgbouncer(settings=tls))
    postgres.execute("CREATE TABLE written (id int)", database=database.name)
    postgres.execute(f"GRANT INSERT ON written TO {database.app}", database=database.name)
    with connect(database.through(outer), sslmode="require") as client:
        assert client.pgconn.ssl_in_use
        cut = outer.cut_at(2, lost="answer")
        client.execute("INSERT INTO written VALUES (1)")
        with pytest.raises(psycopg.OperationalError):
            client.execute("INSERT INTO written VALUES (2)")
    assert cut.fired
    assert postgres.execute("SELECT id FROM written", database=database.name) == [(1,), (2,)]
    with pytest.raises(RuntimeError, match="encrypted"):
        outer.statements()


def test_a_taken_port_is_left_for_another(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """The race between choosing a port and binding it, which cannot be had otherwise."""
    ports = iter([postgres.port, free_port()])
    monkeypatch.setattr(module, "free_port", lambda: next(ports))
    with PgBouncer(postgres) as pooler:
        assert pooler.port != postgres.port
        assert pooler.admin("SHOW DATABASES")


def test_a_setting_that_it_refuses_is_an_error_with_the_log(postgres: Postgres) -> None:
    """And nothing is left behind."""
    pooler = PgBouncer(postgres, settings={"pool_mode": "none"})
    with pytest.raises(RuntimeError, match="pool_mode"):
        pooler.start()
    with pytest.raises(RuntimeError, match="with block"):
        pooler.log()


def test_the_end_leaves_nothing(database: Database, postgres: Postgres) -> None:
    """No port, no connection at the server, not even with a client that is still there; a second stop does nothing."""
    pooler = PgBouncer(postgres)
    pooler.start()
    port, client = pooler.port, connect(database.through(pooler))
    client.execute("SELECT 1")
    with pytest.raises(RuntimeError, match="runs already"):
        pooler.start()
    pooler.stop()
    pooler.stop()
    assert postgres.all_left(database.name)
    client.close()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    with pytest.raises(RuntimeError, match="with block"):
        _ = pooler.port
