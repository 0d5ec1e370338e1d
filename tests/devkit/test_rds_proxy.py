"""The wire that refuses in the words of RDS Proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import errors

if TYPE_CHECKING:
    from devkit.network.rds_proxy import RdsProxyWire
    from devkit.plugin import Database, MakeRdsProxy
    from devkit.servers.postgres import Postgres


@pytest.fixture
def proxy(rds_proxy: MakeRdsProxy) -> RdsProxyWire:
    return rds_proxy()


def connect(proxy: RdsProxyWire, database: Database, **changed: Any) -> psycopg.Connection[Any]:
    place: dict[str, Any] = {"host": proxy.host, "port": proxy.port, "dbname": database.name, "sslmode": "disable"}
    login: dict[str, Any] = {"user": database.app, "password": database.app_password, "connect_timeout": 5}
    return psycopg.connect(**(place | login | changed))


def test_what_the_server_accepts_passes(proxy: RdsProxyWire, database: Database) -> None:
    """Its own errors in a session, too."""
    with connect(proxy, database) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
        with pytest.raises(errors.UndefinedTable):
            conn.execute("SELECT * FROM missing")


def test_a_refused_login_is_worded_as_aws_words_it(proxy: RdsProxyWire, database: Database, postgres: Postgres) -> None:
    """A wrong password; a server that is full."""
    with pytest.raises(psycopg.OperationalError, match=f"provided for the role {database.app} is wrong"):
        connect(proxy, database, password="mistyped")
    postgres.execute(f"ALTER ROLE {database.app} CONNECTION LIMIT 0")
    with pytest.raises(psycopg.OperationalError, match="Timed-out waiting to acquire database connection"):
        connect(proxy, database)


def test_it_refuses_what_it_is_told_to(proxy: RdsProxyWire, database: Database) -> None:
    """A login, or the first statement behind one, with the code that RDS Proxy gives to all."""
    proxy.refuse_with("Rate of connection to proxy exceeded 100.")
    with pytest.raises(psycopg.OperationalError, match="Rate of connection"):
        connect(proxy, database)
    proxy.refuse_with("Timed-out waiting to acquire database connection.", at="statement")
    conn = connect(proxy, database)
    with pytest.raises(errors.ProtocolViolation, match="Timed-out"):
        conn.execute("SELECT 1")
    assert conn.closed
    proxy.refuse_with(None)
    connect(proxy, database).close()
