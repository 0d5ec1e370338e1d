"""``copy_rows`` over asyncpg's own COPY, which is binary: each value is encoded here, by the type of its column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from db.telemetry.statement_events import OWN_STATEMENT
from db.transactions.callables import done

from .copy_plan import PROGRESS_EVERY_ROWS, driver_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Connection

    from .copy_plan import CopyPlan

# Those that COPY means where none is named: a generated column is not among them.
_COLUMNS = """SELECT attname FROM pg_catalog.pg_attribute
WHERE attrelid = CAST(CAST($1 AS text) AS regclass) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
ORDER BY attnum"""


class _Source:
    """Rows as COPY takes them, counted, each with a value for each column: asyncpg would leave out what is beyond."""

    def __init__(
        self,
        rows: Iterator[Sequence[Any]],
        columns: int,
        refusal: type[Exception],
        progress: Callable[[int], object] | None,
        plan: CopyPlan,
    ) -> None:
        self._rows = rows
        self._plan = plan
        self._columns = columns
        self._refusal = refusal
        self._progress = progress
        self.count = 0
        self.failed = False  # an error is the rows' own

    def __iter__(self) -> Iterator[Sequence[Any]]:
        try:
            for number, row in enumerate(self._rows, 1):
                self.count = number
                yield self._fitting(row)
                # Asked for the next, so this one is on its way.
                if number % PROGRESS_EVERY_ROWS == 0:
                    self._tell()
            if self.count % PROGRESS_EVERY_ROWS:
                self._tell()
        except GeneratorExit:
            raise
        except BaseException:
            self.failed = True
            raise

    @property
    def number(self) -> int:
        """Of the last row that was read, in errors."""
        return self._plan.first_number - 1 + self.count

    def _fitting(self, given: Sequence[Any]) -> Sequence[Any]:
        row = given if isinstance(given, tuple | list) else tuple(given)
        if len(row) != self._columns:
            raise self._refusal(f"row {self.number} has {len(row)} values for {self._columns} columns")
        return row

    def _tell(self) -> None:
        if self._progress is not None:
            done(self._progress(self.count), self._progress, call=self._plan.call)


def copy_on_asyncpg(
    conn: Connection, plan: CopyPlan, rows: Iterator[Sequence[Any]], progress: Callable[[int], object] | None
) -> int:
    """Load ``rows``; gives how many. What COPY calls itself in an error is the text that psycopg would send."""
    dialect: Any = conn.dialect
    dbapi: Any = dialect.loaded_dbapi
    schema, table = plan.named
    columns = plan.columns
    if columns is None:
        found = conn.exec_driver_sql(_COLUMNS, (plan.target(dialect),), execution_options={OWN_STATEMENT: True})
        columns = list(found.scalars())
    source = _Source(rows, len(columns), dbapi.DataError, progress, plan)
    try:
        # Rows can be read once: whether the kept connection lives is found out, and made good, before the first.
        dialect.settle(conn.connection)
        adapter: Any = conn.connection.dbapi_connection
        return int(adapter.copy_in(table, schema, columns, source))
    except dbapi.Error as error:
        raise driver_error(conn, plan.statement(dialect), error) from error
    except (TypeError, ValueError, OverflowError, ArithmeticError) as error:
        if source.failed:
            raise
        # Of an encoder of asyncpg's, which knows no row.
        refused = dbapi.DataError(f"row {source.number}: {error}")
        raise driver_error(conn, plan.statement(dialect), refused) from error
