"""SQLAlchemy by hand: the usual way, with each of the pools that people give it.

Tenant and time limit as https://www.postgresql.org/docs/18/functions-admin.html#FUNCTIONS-ADMIN-SET has them:
``set_config(..., true)`` is SET LOCAL that takes parameters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from psycopg_pool import ConnectionPool
from sqlalchemy import NullPool, create_engine

from benchmarks.works import TENANT, Work, statement_timeout

from . import statements as sql
from .peer import Peer

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine


class SqlAlchemy(Peer):
    """The engine as https://docs.sqlalchemy.org/en/21/core/engines.html makes it, and ``engine.begin()``."""

    name = "SQLAlchemy"
    packages: ClassVar[tuple[str, ...]] = ("sqlalchemy", "psycopg", "psycopg-binary")
    driver = "postgresql+psycopg"
    engine: Engine

    def open(self) -> None:
        self.engine = create_engine(self.dialect_url)

    def close(self) -> None:
        self.engine.dispose()

    @property
    def dialect_url(self) -> str:
        return self.url.replace("postgresql", self.driver, 1)

    def nothing(self) -> None:
        with self.engine.begin():
            pass

    def read(self) -> Any:
        with self.engine.connect() as conn:
            return conn.execute(sql.READ).scalar_one()

    def write(self) -> None:
        with self.engine.begin() as tx:
            tx.execute(sql.WRITE)

    def five(self) -> Any:
        with self.engine.begin() as tx:
            tx.execute(sql.READ).scalar_one()
            tx.execute(sql.WRITE)
            tx.execute(sql.READ).scalar_one()
            tx.execute(sql.WRITE)
            return tx.execute(sql.READ).scalar_one()

    def bound_read(self) -> Any:
        # https://docs.sqlalchemy.org/en/21/dialects/postgresql.html#setting-read-only-deferrable
        with self.engine.connect().execution_options(postgresql_readonly=True) as conn:
            self._bind(conn)
            return conn.execute(sql.BOUND_READ).scalar_one()

    def bound_write(self) -> None:
        with self.engine.begin() as tx:
            self._bind(tx)
            tx.execute(sql.BOUND_WRITE)

    def _bind(self, conn: Connection) -> None:
        conn.execute(sql.SET_TENANT, {"tenant": TENANT})
        conn.execute(sql.SET_TIMEOUT, {"timeout": statement_timeout(self.context)})


class SqlAlchemyPrePing(SqlAlchemy):
    """With https://docs.sqlalchemy.org/en/21/core/pooling.html#disconnect-handling-pessimistic"""

    name = "SQLAlchemy, pre-ping"

    def open(self) -> None:
        self.engine = create_engine(self.dialect_url, pool_pre_ping=True)


class SqlAlchemyNullPool(SqlAlchemy):
    """With https://docs.sqlalchemy.org/en/21/core/pooling.html#switching-pool-implementations"""

    name = "SQLAlchemy, NullPool"
    offers = frozenset({Work.UNPOOLED})
    unpooled = SqlAlchemy.bound_write

    def open(self) -> None:
        self.engine = create_engine(self.dialect_url, poolclass=NullPool)


class SqlAlchemyPsycopgPool(SqlAlchemy):
    """With https://www.psycopg.org/psycopg3/docs/advanced/pool.html#integration-with-sqlalchemy

    One connection, as an environment serves one event at a time, checked at each checkout as that page's "Connection
    quality" has it: what pre-ping is to SQLAlchemy's own pool.
    """

    name = "SQLAlchemy, psycopg_pool"
    packages = (*SqlAlchemy.packages, "psycopg-pool")

    def open(self) -> None:
        self.pool = ConnectionPool(
            self.url, min_size=1, max_size=1, open=True, close_returns=True, check=ConnectionPool.check_connection
        )
        self.engine = create_engine(self.dialect_url, poolclass=NullPool, creator=self.pool.getconn)

    def close(self) -> None:
        super().close()
        self.pool.close()
