"""``copy_rows``: many rows into one table over COPY, streamed, in one transaction."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Table, exc
from sqlalchemy.schema import MetaData
from sqlalchemy.util import await_

from db.environment.process import DEFAULT
from db.errors import ConfigurationError
from db.settings.engines.kinds import kind_named
from db.telemetry.statement_events import OWN_STATEMENT
from db.timing.waiting import entered, on_loop
from db.transactions.begin import begin_on
from db.transactions.callables import WrongKindError, done, own_connection, require_function, said_by_tx
from db.transactions.driver import flight_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sqlalchemy import Connection, Dialect

    from db.environment.process import Holder

    Row = Sequence[Any] | Mapping[str, Any]

# Between two reports of progress, and the size of an executemany where there is no COPY.
PROGRESS_EVERY_ROWS = 10_000


def copy_rows(
    table: Table | str,
    rows: Iterable[Row],
    *,
    columns: Sequence[str] | None = None,
    tenant: str | None = None,
    tx: Connection | None = None,
    progress: Callable[[int], object] | None = None,
) -> int:
    """Load ``rows`` into ``table`` over COPY, all of them or none; returns how many.

    Rows are sequences in the order of ``columns`` (all of the table's unless named), or mappings by column name, whose
    first gives the columns. They are read one by one and sent as they come, so any number fits in memory. With a
    ``Table``, values pass through its column types; with a name (``"orders"`` or ``"shop.orders"``), they are the
    driver's. Within ``tx`` the load is part of that transaction; else it has one of its own, for ``tenant``.
    ``progress`` is called with the number of rows sent after every 10,000 of them.

    The whole load is one statement, and DB_STATEMENT_TIMEOUT_S bounds it. PostgreSQL refuses COPY into a table with
    row-level security. A row that does not fit raises SQLAlchemy's error, in which the server names the line and the
    column, or ValueError where it lacks a column; what is no row, TypeError. Other errors are those of ``begin``. On
    SQLite it inserts.
    """
    return copy_rows_on(DEFAULT, table, rows, columns=columns, tenant=tenant, tx=tx, progress=progress)


def copy_rows_on(
    holder: Holder,
    table: Table | str,
    rows: Iterable[Row],
    *,
    columns: Sequence[str] | None = None,
    tenant: str | None = None,
    tx: Connection | None = None,
    progress: Callable[[int], object] | None = None,
) -> int:
    """``copy_rows``, on the database of ``holder``."""
    call = f"{holder.called}.copy_rows"
    if tx is not None and tenant is not None:
        raise TypeError(said_by_tx(call, "tenant"))
    if progress is not None:
        require_function(progress, call=f"progress of {call}")
    plan = CopyPlan(table, rows, columns)
    if tx is not None:
        return _load(own_connection(holder, tx, call=call), plan, progress)
    with begin_on(holder, tenant=tenant) as own:
        return _load(own, plan, progress)


class CopyPlan:
    """What is loaded where: the text of COPY, and rows as the driver takes them. Sync and async share it."""

    def __init__(self, table: Table | str, rows: Iterable[Row], columns: Sequence[str] | None) -> None:
        self._table = _table_of(table)
        self._is_described = isinstance(table, Table)
        _require_rows(rows)
        if isinstance(columns, str):
            raise WrongKindError(f"columns of db.copy_rows is a list of names, not one: [{columns!r}]")
        iterator = iter(rows)
        firsts = list(itertools.islice(iterator, 1))
        if firsts:
            _require_row(firsts[0], 1)
        self._is_mapped = bool(firsts) and isinstance(firsts[0], Mapping)
        self._rows = itertools.chain(firsts, iterator)
        if columns is None and self._is_mapped:
            columns = list(cast("Mapping[str, Any]", firsts[0]))
        elif columns is None and self._is_described:
            columns = [column.name for column in self._table.columns]
        # As the rows have them; a Table may have another name for a column than the database.
        self._names = None if columns is None else list(columns)
        described = {column.key: column for column in self._table.columns}
        self._described = described | {column.name: column for column in self._table.columns}
        self.columns = None if self._names is None else [self._column_name(name) for name in self._names]

    def _column_name(self, name: str) -> str:
        column = self._described.get(name)
        return name if column is None else str(column.name)

    def target(self, dialect: Dialect) -> str:
        """The table, and the columns where they are known, quoted."""
        preparer = dialect.identifier_preparer
        name = preparer.format_table(self._table)
        target = name if self.columns is None else f"{name} ({', '.join(map(preparer.quote, self.columns))})"
        # A text without parameters does not pass through the driver's reading of them, for which they are doubled.
        return target.replace("%%", "%") if preparer._double_percents else target  # noqa: SLF001 - it has no public name

    def statement(self, dialect: Dialect) -> str:
        """The text of COPY."""
        return f"COPY {self.target(dialect)} FROM STDIN"

    def rows(self, dialect: Dialect) -> Iterator[Sequence[Any]]:
        """The rows as sequences in the order of the columns, as their types are bound."""
        rows = self._as_sequences() if self._is_mapped else _sequences(self._rows)
        processors = self._processors(dialect)
        return map(_bound_by(processors), rows) if any(processors) else rows

    def _as_sequences(self) -> Iterator[Sequence[Any]]:
        names = self._names or []
        row: Any
        for number, row in enumerate(self._rows, 1):
            try:
                yield [row[name] for name in names]
            except (KeyError, TypeError):
                _require_row(row, number)
                raise ValueError(f"row {number} has no value for one of the columns {', '.join(names)}") from None

    def _processors(self, dialect: Dialect) -> list[Callable[[Any], Any] | None]:
        if not self._is_described or self._names is None:
            return []
        types = [self._described[name].type for name in self._names]
        return [kind.dialect_impl(dialect).bind_processor(dialect) for kind in types]


def _named(name: str) -> Table:
    schema, _, table = name.rpartition(".")
    return Table(table, MetaData(), schema=schema or None)


def _table_of(table: Any) -> Table:
    if isinstance(table, Table):
        return table
    if isinstance(table, str):
        return _named(table)
    hint = ": take its __table__" if hasattr(table, "__table__") else ""
    raise WrongKindError(f"db.copy_rows takes a sqlalchemy.Table or a name, not {_kind(table)}{hint}")


def _require_rows(rows: Any) -> None:
    if hasattr(rows, "__aiter__"):
        raise WrongKindError("rows come one after another from a plain iterable: an async one is to be read before")
    if isinstance(rows, str | bytes | Mapping) or not (hasattr(rows, "__iter__") or hasattr(rows, "__getitem__")):
        raise WrongKindError(
            f"rows of db.copy_rows are an iterable of rows, not {_kind(rows)}: [row] is one of one row"
        )


def _require_row(row: Any, number: int) -> None:
    if row is None:
        raise ValueError(f"row {number} is None, and not a row")
    if isinstance(row, str | bytes | set) or not hasattr(row, "__iter__"):
        raise WrongKindError(
            f"row {number} is {_kind(row)}, and not a row: give a tuple in the order of the columns, or a dict"
        )


def _sequences(rows: Iterable[Any]) -> Iterator[Sequence[Any]]:
    """``rows``, each of which is one. Looked at by its type, which costs next to nothing where it is the same."""
    known: type = tuple
    for number, row in enumerate(rows, 1):
        if type(row) is not known:
            _require_row(row, number)
            if isinstance(row, Mapping):
                raise ValueError(f"row {number} is a dict, and the rows before it are none: let all be of one kind")
            known = type(row)
        yield row


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"


def _bound_by(processors: Sequence[Callable[[Any], Any] | None]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    def bind(row: Sequence[Any]) -> Sequence[Any]:
        # What is beyond the columns goes along, for the server to refuse with the line's number.
        pairs = itertools.zip_longest(processors[: len(row)], row)
        return [value if process is None else process(value) for process, value in pairs]

    return bind


def _load(conn: Connection, plan: CopyPlan, progress: Callable[[int], object] | None) -> int:
    flight = flight_of(conn)
    rows = plan.rows(conn.dialect)
    if flight is None:
        kind = kind_named(conn.dialect.name)
        if kind is not None and "copy" in kind.can:
            raise ConfigurationError(["copy_rows needs psycopg: DB_ASYNC_DRIVER names another driver"])
        return _insert(conn, plan, rows, progress)
    if flight.unproven:
        # Rows can be read once: whether the kept connection lives is found out, and made good, before the first.
        conn.exec_driver_sql("SELECT 1", execution_options={OWN_STATEMENT: True})
    statement = plan.statement(conn.dialect)
    dbapi: Any = conn.dialect.loaded_dbapi
    try:
        driver: Any = conn.connection.driver_connection
        if on_loop():
            with entered(driver.cursor()) as cursor:
                with entered(cursor.copy(statement)) as copy:
                    _write(lambda some: await_(_send_on_loop(copy, some)), rows, progress)
                return int(cursor.rowcount)
        with driver.cursor() as cursor:
            with cursor.copy(statement) as copy:
                _write(lambda some: _send(copy, some), rows, progress)
            return int(cursor.rowcount)
    except dbapi.Error as error:
        raise driver_error(conn, statement, error) from error


def _write(
    send: Callable[[Iterable[Sequence[Any]]], object],
    rows: Iterator[Sequence[Any]],
    progress: Callable[[int], object] | None,
) -> None:
    if progress is None:
        send(rows)
        return
    numbered = enumerate(rows, 1)
    sent = 0

    def counted() -> Iterator[Sequence[Any]]:
        nonlocal sent
        for sent, row in itertools.islice(numbered, PROGRESS_EVERY_ROWS):  # noqa: B007 - told below
            yield row

    told = -1
    while sent != told:
        told = sent
        send(counted())
        if sent != told:
            done(progress(sent), progress, call="db.copy_rows")


def _send(copy: Any, rows: Iterable[Sequence[Any]]) -> None:
    write_row = copy.write_row
    for row in rows:
        write_row(row)


async def _send_on_loop(copy: Any, rows: Iterable[Sequence[Any]]) -> None:
    write_row = copy.write_row
    for row in rows:
        await write_row(row)


def driver_error(conn: Connection, statement: str, error: Exception) -> exc.DBAPIError:
    """``error`` as SQLAlchemy raises it; a connection that is lost is invalidated, so that no pool keeps it."""
    dialect: Any = conn.dialect
    lost = dialect.is_disconnect(error, conn.connection.dbapi_connection, None)
    wrapped = exc.DBAPIError.instance(
        statement, None, error, dialect.loaded_dbapi.Error, connection_invalidated=lost, dialect=dialect
    )
    if lost:
        conn.invalidate(error)
    return wrapped  # type: ignore[return-value]  # a driver's error becomes none but this


def _insert(
    conn: Connection, plan: CopyPlan, rows: Iterator[Sequence[Any]], progress: Callable[[int], object] | None
) -> int:
    sent, mark = 0, "?" if conn.dialect.paramstyle == "qmark" else "%s"
    while chunk := [tuple(row) for row in itertools.islice(rows, PROGRESS_EVERY_ROWS)]:
        target = plan.target(conn.dialect)
        if mark == "%s":
            target = target.replace("%", "%%")
        values = ", ".join([mark] * len(plan.columns or chunk[0]))
        conn.exec_driver_sql(f"INSERT INTO {target} VALUES ({values})", chunk)  # noqa: S608 - quoted
        sent += len(chunk)
        if progress is not None:
            done(progress(sent), progress, call="db.copy_rows")
    return sent
