"""The messages by which a refused connect is told, against a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

import db
from db.errors import Verdict, connect_verdict

if TYPE_CHECKING:
    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres


def refusal(database: Database, **changed: Any) -> psycopg.OperationalError:
    target: dict[str, Any] = {
        "host": database.host,
        "port": database.port,
        "dbname": database.name,
        "user": database.app,
        "password": database.app_password,
        "connect_timeout": 3,
    }
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(**(target | changed)).close()
    assert db.sqlstate(caught.value) is None, "a code would be better than a message: use it"
    return caught.value


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"password": "wrong"}, Verdict.REFETCH_CREDENTIALS),
        ({"user": "nobody"}, Verdict.REFETCH_CREDENTIALS),
        ({"dbname": "nowhere"}, Verdict.GIVE_UP),
        ({"port": 1}, Verdict.RECONNECT),
        ({"host": "nowhere.invalid"}, Verdict.RECONNECT),
        ({"sslmode": "require"}, Verdict.GIVE_UP),
    ],
)
def test_a_refusal_asks_for_its_remedy(changed: dict[str, Any], expected: Verdict, database: Database) -> None:
    """Password, database, port, name, TLS."""
    assert connect_verdict(refusal(database, **changed)) is expected


def test_a_limit_of_connections_asks_to_wait(database: Database, postgres: Postgres) -> None:
    """Whether it is the role's or the database's."""
    postgres.execute(f"ALTER ROLE {database.app} CONNECTION LIMIT 0")
    assert connect_verdict(refusal(database)) is Verdict.WAIT_FOR_CAPACITY
    postgres.execute(f"ALTER DATABASE {database.name} CONNECTION LIMIT 0")
    assert connect_verdict(refusal(database)) is Verdict.WAIT_FOR_CAPACITY
