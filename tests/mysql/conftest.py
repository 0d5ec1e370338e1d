"""Fixtures for tests on MariaDB: a runtime on a fresh database, with a table in it, and a wire before it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pytest
from sqlalchemy import make_url, text

import db
from db.environment import process
from db.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devkit.network.mysql_statements import MySqlWire
    from devkit.plugin import Database, MakeMariaDbWire
    from devkit.servers.mariadb import MariaDb


class Use(Protocol):
    """Configures the layer for the test's database, as the user ``app`` unless told otherwise."""

    def __call__(self, *, role: Literal["owner", "app"] = "app", **settings: Any) -> None: ...


@pytest.fixture
def wire(mariadb_wire: MakeMariaDbWire) -> MySqlWire:
    """What stands before the server: it counts, and breaks."""
    return mariadb_wire()


@pytest.fixture
def use(mariadb_database: Database, wire: MySqlWire) -> Iterator[Use]:
    def configure(*, role: Literal["owner", "app"] = "app", **settings: Any) -> None:
        url = make_url(mariadb_database.through(wire).url(role))
        db.configure(Settings(**({"url": url, "sslmode": "disable"} | settings)))

    yield configure
    db.dispose()
    process.DEFAULT._runtime = None


@pytest.fixture
def ledger(use: Use, mariadb_database: Database) -> None:
    """A table ``ledger(n, note)`` that the user ``app`` may read and write, and a runtime as ``app``."""
    use(role="owner")
    with db.begin() as tx:
        tx.execute(text("CREATE TABLE ledger (n int PRIMARY KEY, note varchar(5))"))
        tx.execute(text(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ledger TO {mariadb_database.app}@'%'"))
    use()


@pytest.fixture
def running(mariadb: MariaDb, mariadb_database: Database) -> Callable[[], int]:
    """How many statements of the test's sessions run, once those that are killed had a moment to end."""
    asked = f"SELECT count(*) FROM information_schema.processlist WHERE db = '{mariadb_database.name}' AND info <> ''"

    def count() -> int:
        for _ in range(50):
            if (found := mariadb.execute(asked)[0][0]) == 0:
                break
            time.sleep(0.1)
        return int(found)

    return count


def add(n: int) -> None:
    with db.begin() as tx:
        tx.execute(text("INSERT INTO ledger (n) VALUES (:n)"), {"n": n})


def numbers() -> list[int]:
    with db.read() as conn:
        return list(conn.execute(text("SELECT n FROM ledger ORDER BY n")).scalars())
