"""``copy_rows``: many rows into one table over COPY, streamed, in one transaction; or chunk by chunk, where told so."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from sqlalchemy.util import await_

from db.environment.process import DEFAULT
from db.errors import ConfigurationError
from db.settings.engines.kinds import kind_of
from db.telemetry.statement_events import OWN_STATEMENT
from db.timing.waiting import entered, on_loop
from db.transactions.begin import begin_on
from db.transactions.callables import done, own_connection, require_function, said_by_tx
from db.transactions.driver import flight_of
from db.transactions.run import run_on
from db.wire.copy_data import copy_data

from .copy_plan import PROGRESS_EVERY_ROWS, CopyPlan, driver_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sqlalchemy import Connection, Table

    from db.environment.process import Holder
    from db.wire.transaction_end import FlightState

    from .copy_plan import Part, Row


def copy_rows(
    table: Table | str,
    rows: Iterable[Row],
    *,
    columns: Sequence[str] | None = None,
    tenant: str | None = None,
    tx: Connection | None = None,
    progress: Callable[[int], object] | None = None,
    chunk_rows: int | None = None,
    binary: bool = False,
) -> int:
    """Load ``rows`` into ``table`` over COPY, all of them or none; returns how many.

    Rows are sequences in the order of ``columns`` (all of the table's unless named), or mappings by column name, whose
    first gives the columns. They are sent as they are read, 40 of them ahead, so any number fits in memory. With a
    ``Table``, values pass through its column types; with a name (``"orders"`` or ``"shop.orders"``), they are the
    driver's. Within ``tx`` the load is part of that transaction; else it has one of its own, for ``tenant``.
    ``progress`` is called with the number of rows sent after every 10,000 of them.

    With ``binary`` they go as the server keeps them. Its types are asked for, which costs no round trip more where the
    connection was idle; nothing is converted there, so that a value has to be of its column's type: an ``int`` for an
    integer, and no text that reads like one. Rows with times and UUIDs cost the client a sixth to a fourth then,
    those of ``Decimal`` twice as much. ConfigurationError where an engine has no such COPY.

    With ``chunk_rows`` it is no longer all or none: so many rows at a time are one COPY and one transaction, which is
    tried again like ``db.run``, and ``progress`` is called after each has committed. Where one fails, those before it
    stay, and a note on the error says how many rows that is. Aurora DSQL takes 3,000 rows to a transaction, and refuses
    more of them without it.

    The whole load is one statement, and DB_STATEMENT_TIMEOUT_S bounds it. PostgreSQL refuses COPY into a table with
    row-level security. A row that does not fit raises SQLAlchemy's error, in which the server names the line and the
    column, or ValueError where it lacks a column; what is no row, TypeError. Other errors are those of ``begin``. On
    SQLite it inserts.
    """
    return copy_rows_on(
        DEFAULT,
        table,
        rows,
        columns=columns,
        tenant=tenant,
        tx=tx,
        progress=progress,
        chunk_rows=chunk_rows,
        binary=binary,
    )


def copy_rows_on(
    holder: Holder,
    table: Table | str,
    rows: Iterable[Row],
    *,
    columns: Sequence[str] | None = None,
    tenant: str | None = None,
    tx: Connection | None = None,
    progress: Callable[[int], object] | None = None,
    chunk_rows: int | None = None,
    binary: bool = False,
) -> int:
    """``copy_rows``, on the database of ``holder``."""
    call = f"{holder.called}.aio.copy_rows" if on_loop() else f"{holder.called}.copy_rows"
    if tx is not None and tenant is not None:
        raise TypeError(said_by_tx(call, "tenant"))
    if tx is not None and chunk_rows is not None:
        raise TypeError(said_by_tx(call, "chunk_rows"))
    if progress is not None:
        require_function(progress, call=f"progress of {call}")
    if binary:
        holder.current().settings.engine_kind.require("binary copy", f"{call}(binary=True)")
    plan = CopyPlan(table, rows, columns, call=call, binary=binary)
    if chunk_rows is not None:
        return _load_by_chunks(holder, plan, _checked_size(holder, chunk_rows, call), tenant, progress)
    if tx is not None:
        return _load(own_connection(holder, tx, call=call), plan, progress)
    with begin_on(holder, tenant=tenant) as own:
        return _load(own, plan, progress)


def _load(conn: Connection, plan: CopyPlan, progress: Callable[[int], object] | None) -> int:
    flight, kind = flight_of(conn), kind_of(conn.dialect)
    parts = plan.parts(conn.dialect)
    if kind is not None and kind.most_rows is not None:
        parts = _at_most(kind.most_rows, parts, f"{plan.call} on {kind.title}")
    if flight is None:
        rows = itertools.chain.from_iterable(parts)
        if kind is not None and "copy" in kind.can:
            from .copy_on_asyncpg import copy_on_asyncpg

            return copy_on_asyncpg(conn, plan, rows, progress)
        return _insert(conn, plan, rows, progress)
    if progress is not None:
        parts = _told(parts, plan, progress)
    return _copy(conn, flight, plan, parts)


def _copy(conn: Connection, flight: FlightState, plan: CopyPlan, parts: Iterator[Part]) -> int:
    """Load ``parts`` over psycopg's COPY; gives how many rows."""
    # Rows can be read once: whether the kept connection lives is found out, and made good, before the first.
    kinds = None
    if plan.binary:
        from db.wire import copy_binary

        columns = plan.kinds(conn)
        kinds = [kind for _, kind in columns]
        fits = copy_binary.fits_of(columns, plan.call)
        parts = copy_binary.checked(parts, fits, first_number=plan.first_number)
    elif flight.unproven:
        conn.exec_driver_sql("SELECT 1", execution_options={OWN_STATEMENT: True})
    statement = plan.statement(conn.dialect)
    dbapi: Any = conn.dialect.loaded_dbapi

    def data(copy: Any) -> Iterator[bytearray]:
        if kinds is not None:
            copy.set_types(kinds)
        return copy_data(copy, parts, first_number=plan.first_number)

    try:
        driver: Any = conn.connection.driver_connection
        if on_loop():
            with entered(driver.cursor()) as cursor:
                with entered(cursor.copy(statement)) as copy:
                    await_(_write_on_loop(copy, data(copy)))
                return int(cursor.rowcount)
        with driver.cursor() as cursor:
            with cursor.copy(statement) as copy:
                for piece in data(copy):
                    copy.write(piece)
            return int(cursor.rowcount)
    except dbapi.Error as error:
        raise driver_error(conn, statement, error) from error


async def _write_on_loop(copy: Any, data: Iterator[bytearray]) -> None:
    for piece in data:
        await copy.write(piece)


def _load_by_chunks(
    holder: Holder, plan: CopyPlan, size: int, tenant: str | None, progress: Callable[[int], object] | None
) -> int:
    loaded = 0
    try:
        for chunk in plan.chunks(size):
            loaded += run_on(holder, _load, chunk, None, tenant=tenant)
            if progress is not None:
                done(progress(loaded), progress, call=plan.call)
    except Exception as error:
        error.add_note(f"{loaded} rows had been loaded and committed before, by chunk_rows={size}")
        raise
    return loaded


def _checked_size(holder: Holder, chunk_rows: int, call: str) -> int:
    if not isinstance(chunk_rows, int) or isinstance(chunk_rows, bool):
        raise TypeError(f"chunk_rows is a number of rows, not a {type(chunk_rows).__name__}")
    if chunk_rows < 1:
        raise ValueError(f"chunk_rows is {chunk_rows}, not 1 or more")
    kind = holder.current().settings.engine_kind
    if kind.most_rows is not None and chunk_rows > kind.most_rows:
        problem = f"{call}(chunk_rows={chunk_rows}) on {kind.title}: a transaction takes {kind.most_rows} rows"
        raise ConfigurationError([problem])
    return chunk_rows


def _at_most(most: int, parts: Iterator[Part], asked: str) -> Iterator[Part]:
    """``parts``. Raises ConfigurationError ahead of the row that the server would not take: nothing is loaded then."""
    sent = 0
    for part in parts:
        sent += len(part)
        if sent > most:
            problem = (
                f"a transaction takes {most} rows, and there are more of them: chunk_rows={most} commits part by part"
            )
            raise ConfigurationError([f"{asked}: {problem}"])
        yield part


def _told(parts: Iterator[Part], plan: CopyPlan, progress: Callable[[int], object]) -> Iterator[Part]:
    """``parts``, of which ``progress`` is told: one has been taken when the next is asked for."""
    sent = 0
    for part in parts:
        yield part
        sent += len(part)
        if sent % PROGRESS_EVERY_ROWS == 0:
            done(progress(sent), progress, call=plan.call)
    if sent % PROGRESS_EVERY_ROWS:
        done(progress(sent), progress, call=plan.call)


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
            done(progress(sent), progress, call=plan.call)
    return sent
