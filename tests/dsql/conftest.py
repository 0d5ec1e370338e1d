"""Fixtures for tests on the stand-in for Aurora DSQL: a runtime on it, with a table in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest
from sqlalchemy import text

import db
from db.environment import process
from db.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.plugin import Database
    from devkit.servers.dsql import DsqlStandIn


class Use(Protocol):
    """Configures the layer for the cluster, as the role ``app`` unless told otherwise."""

    def __call__(self, *, user: str = "app", **settings: Any) -> None: ...


@pytest.fixture
def use(dsql: DsqlStandIn) -> Iterator[Use]:
    def configure(*, user: str = "app", **settings: Any) -> None:
        db.configure(Settings(**(dsql.settings(user) | settings)))

    yield configure
    db.dispose()
    process.DEFAULT._runtime = None


@pytest.fixture
def ledger(use: Use, database: Database) -> None:
    """Tables ``ledger(n, note)`` and ``db_once`` that the role ``app`` may read and write, and a runtime as ``app``."""
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    from db.migrations.operations import create_once_table

    use(user="admin")
    with db.engine().connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.execute(text("CREATE TABLE ledger (n int PRIMARY KEY, note text)"))
        conn.execute(text(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ledger TO {database.app}"))
        create_once_table(Operations(MigrationContext.configure(conn)), used_by=[database.app])
    use()


def add(tx: Any, n: int) -> int:
    tx.execute(text("INSERT INTO ledger (n) VALUES (:n)"), {"n": n})
    return n


def numbers() -> list[int]:
    with db.read() as conn:
        return list(conn.execute(text("SELECT n FROM ledger ORDER BY n")).scalars())
