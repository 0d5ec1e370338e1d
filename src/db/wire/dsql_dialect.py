"""``dsql+serverless://``: this package's PostgreSQL dialect as Aurora DSQL takes it.

To SQLAlchemy and Alembic it is called ``postgresql``: types, constructs and reflection are PostgreSQL's. What differs
is the connection (``dsql_connections``), that there are no savepoints, and that an index is made in the background.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import exc
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.base import PGDDLCompiler

from db.errors import ConfigurationError, Verdict, sqlstate
from db.settings.engines.dsql import KIND
from db.timing.backoff import Backoff
from db.timing.waiting import sleep

from .dsql_connections import AsyncDsqlConnection, DsqlConnection
from .psycopg_dialect import AsyncServerlessDialect, ServerlessDialect

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import URL, Connection
    from sqlalchemy.engine import ExecutionContext
    from sqlalchemy.engine.interfaces import DBAPIConnection

    DialectMixin = ServerlessDialect
else:
    # Mixed into the sync dialect and its async twin, which is why it stands on neither here.
    DialectMixin = object

DRIVER = "dsql+serverless"
LEVEL = "REPEATABLE READ"
_CONFLICT = "40001"
_BACKOFF = Backoff()
_SERIAL = re.compile(r" (?:BIG|SMALL)?SERIAL\b")


class DsqlDDLCompiler(PGDDLCompiler):
    """PostgreSQL's. DSQL takes CREATE INDEX in its own words alone, and answers before the index is built."""

    def visit_create_index(self, create: Any, *args: Any, **kwargs: Any) -> str:
        made: str = super().visit_create_index(create, *args, **kwargs)  # type: ignore[no-untyped-call]
        head, _, rest = made.partition("INDEX ")
        return f"{head}INDEX ASYNC {rest.removeprefix('CONCURRENTLY ')}"

    def get_column_specification(self, column: Any, **kwargs: Any) -> str:
        made: str = super().get_column_specification(column, **kwargs)  # type: ignore[no-untyped-call]
        if column.identity is None and _SERIAL.search(made):
            raise exc.CompileError(
                f"column {column.name!r} would be a SERIAL, which {KIND.title} has not: take sa.BigInteger and "
                "sa.Identity(cache=1) for a number of its own making, or autoincrement=False for one of yours"
            )
        return made


class _OfDsql(DialectMixin):
    """What both dialects have in common."""

    engine_name = KIND.name
    ddl_compiler = DsqlDDLCompiler

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"default_isolation_level": LEVEL, **kwargs})

    def get_isolation_level_values(self, dbapi_conn: DBAPIConnection) -> list[Any]:  # noqa: ARG002 - SQLAlchemy's
        return [LEVEL, "AUTOCOMMIT"]

    def do_savepoint(self, connection: Connection, name: str) -> None:  # noqa: ARG002 - SQLAlchemy's
        KIND.require("savepoints", "begin_nested()")
        raise ConfigurationError([f"begin_nested() on {KIND.title}"])

    # What commits by itself and met a conflict has done nothing. DDL meets one with any other change of the schema.

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: ExecutionContext | None = None) -> None:
        self._until_accepted(lambda: super(_OfDsql, self).do_execute(cursor, statement, parameters, context), context)

    def do_execute_no_params(self, cursor: Any, statement: str, context: ExecutionContext | None = None) -> None:
        self._until_accepted(lambda: super(_OfDsql, self).do_execute_no_params(cursor, statement, context), context)

    def _until_accepted(self, execute: Callable[[], None], context: ExecutionContext | None) -> None:
        attempt = 1
        while True:
            try:
                execute()
            except self.loaded_dbapi.Error as error:
                delay_s = self._delay_s(error, context, attempt)
                if delay_s is None:
                    raise
            else:
                return
            sleep(delay_s)
            attempt += 1

    def _delay_s(self, error: BaseException, context: ExecutionContext | None, attempt: int) -> float | None:
        """Seconds until it is tried again; None where the error has to stand, as that of a transaction has."""
        if context is None or sqlstate(error) != _CONFLICT:
            return None
        driver = self._driver(context.root_connection.connection.dbapi_connection)
        if not driver._autocommit:
            return None
        left_s = driver.patience_s() if driver.patience_s is not None else None
        return _BACKOFF.delay_s(Verdict.RETRY_TRANSACTION, attempt, left_s=math.inf if left_s is None else left_s)


class DsqlDialect(_OfDsql, ServerlessDialect):
    """The dialect on ``DsqlConnection``."""

    supports_statement_cache = True

    @classmethod
    def get_async_dialect_cls(cls, url: URL) -> type[ServerlessDialect]:  # noqa: ARG003 - SQLAlchemy's signature
        return AsyncDsqlDialect

    def connect(self, *cargs: Any, **cparams: Any) -> DBAPIConnection:
        return cast("DBAPIConnection", DsqlConnection.connect(*cargs, **cparams))


class AsyncDsqlDialect(_OfDsql, AsyncServerlessDialect):
    """The same on ``AsyncDsqlConnection``."""

    supports_statement_cache = True

    def connect(self, *cargs: Any, **cparams: Any) -> DBAPIConnection:
        dbapi: Any = self.loaded_dbapi
        connection = dbapi.connect(*cargs, async_creator_fn=AsyncDsqlConnection.connect, **cparams)
        return cast("DBAPIConnection", connection)


registry.register("dsql.serverless", __name__, "DsqlDialect")
