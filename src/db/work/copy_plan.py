"""What ``copy_rows`` loads where: the text of COPY, rows as the driver takes them, errors as SQLAlchemy has them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from copy import copy as shallow_copy
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Table, exc, text
from sqlalchemy.schema import MetaData

from db.telemetry.statement_events import OWN_STATEMENT
from db.transactions.callables import WrongKindError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sqlalchemy import Connection, Dialect

    Row = Sequence[Any] | Mapping[str, Any]
    Part = Sequence[Sequence[Any]]

# Between two reports of progress, and the size of an executemany where there is no COPY.
PROGRESS_EVERY_ROWS = 10_000
# A part: so many rows are looked at as one, and read before the first of them is sent. Enough of them for what is done
# once for a part to cost a row next to nothing, few enough for rows of megabytes, and a divisor of the number above.
PART_ROWS = 40

_TEXT = 25
# Whatever is sent as text is one kind, the labels of an enum among it; a domain is of the kind that it is of.
_KINDS = text("""SELECT attname, attgenerated <> '', CASE WHEN typtype = 'e' OR typcategory = 'S' THEN CAST(25 AS oid)
    WHEN typtype = 'd' THEN typbasetype ELSE t.oid END
FROM pg_catalog.pg_attribute JOIN pg_catalog.pg_type t ON t.oid = atttypid
WHERE attrelid = CAST(CAST(:name AS text) AS regclass) AND attnum > 0 AND NOT attisdropped ORDER BY attnum""")


class CopyPlan:
    """What is loaded where: the text of COPY, and rows as the driver takes them. Sync and async share it."""

    def __init__(
        self,
        table: Table | str,
        rows: Iterable[Row],
        columns: Sequence[str] | None,
        *,
        call: str,
        binary: bool = False,
    ) -> None:
        self.call = call  # by what name, in errors
        self.binary = binary
        self._table = _table_of(table, call)
        self._is_described = isinstance(table, Table)
        _require_rows(rows, call)
        if isinstance(columns, str):
            raise WrongKindError(f"columns of {call} is a list of names, not one: [{columns!r}]")
        iterator = iter(rows)
        firsts = list(itertools.islice(iterator, 1))
        if firsts:
            _require_row(firsts[0], 1)
        self._is_mapped = bool(firsts) and isinstance(firsts[0], Mapping)
        self._rows: Iterable[Any] = itertools.chain(firsts, iterator)
        self.first_number = 1
        """Of its first row, in errors: of a later chunk, the rows before it count."""
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

    @property
    def named(self) -> tuple[str | None, str]:
        """Schema and name of the table."""
        return self._table.schema, self._table.name

    def target(self, dialect: Dialect) -> str:
        """The table, and the columns where they are known, quoted."""
        preparer = dialect.identifier_preparer
        name = preparer.format_table(self._table)
        target = name if self.columns is None else f"{name} ({', '.join(map(preparer.quote, self.columns))})"
        # A text without parameters does not pass through the driver's reading of them, for which they are doubled.
        return target.replace("%%", "%") if preparer._double_percents else target  # noqa: SLF001 - it has no public name

    def statement(self, dialect: Dialect) -> str:
        """The text of COPY."""
        return f"COPY {self.target(dialect)} FROM STDIN{' WITH (FORMAT binary)' if self.binary else ''}"

    def kinds(self, conn: Connection) -> list[tuple[str, int]]:
        """COPY's columns in their order, each with the number of its type on the server. A round trip."""
        table = conn.dialect.identifier_preparer.format_table(self._table)
        found = conn.execute(_KINDS, {"name": table}, execution_options={OWN_STATEMENT: True}).all()
        kinds = {str(name): int(kind) for name, _, kind in found}
        if self.columns is None:
            return [(name, kinds[name]) for name, is_generated, _ in found if not is_generated]
        return [(name, kinds.get(name, _TEXT)) for name in self.columns]  # COPY refuses what is no column

    def parts(self, dialect: Dialect) -> Iterator[Part]:
        """The rows, some at a time, as sequences in the order of the columns and as their types are bound."""
        parts: Iterator[Part] = self._as_sequences() if self._is_mapped else self._sequences()
        processors = self._processors(dialect)
        return map(_bound_by(processors), parts) if any(processors) else parts

    def chunks(self, size: int) -> Iterator[CopyPlan]:
        """A plan for each ``size`` of the rows, which holds them: it may be carried out more than once."""
        number = self.first_number
        while some := list(itertools.islice(self._rows, size)):
            chunk = shallow_copy(self)
            chunk._rows, chunk.first_number = some, number  # noqa: SLF001 - its own
            yield chunk
            number += len(some)

    def _as_sequences(self) -> Iterator[Part]:
        names, number = self._names or [], self.first_number
        for some in _parts(self._rows):
            try:
                yield [[row[name] for name in names] for row in some]
            except (KeyError, TypeError):
                _require_names(some, names, number)
                raise
            number += len(some)

    def _sequences(self) -> Iterator[Part]:
        known, number = {tuple}, self.first_number
        for some in _parts(self._rows):
            # Each is looked at by its type, and all of them at once, where they are of those that were seen.
            if not known.issuperset(map(type, some)):
                for place, row in enumerate(some, number):
                    _require_sequence(row, place)
                    known.add(type(row))
            yield some
            number += len(some)

    def _processors(self, dialect: Dialect) -> list[Callable[[Any], Any] | None]:
        if not self._is_described or self._names is None:
            return []
        described = [self._described.get(name) for name in self._names]  # what is no column, the server refuses
        return [
            None if column is None else column.type.dialect_impl(dialect).bind_processor(dialect)
            for column in described
        ]


def _named(name: str) -> Table:
    schema, _, table = name.rpartition(".")
    return Table(table, MetaData(), schema=schema or None)


def _table_of(table: Any, call: str) -> Table:
    if isinstance(table, Table):
        return table
    if isinstance(table, str):
        return _named(table)
    hint = ": take its __table__" if hasattr(table, "__table__") else ""
    raise WrongKindError(f"{call} takes a sqlalchemy.Table or a name, not {_kind(table)}{hint}")


def _require_rows(rows: Any, call: str) -> None:
    if hasattr(rows, "__aiter__"):
        raise WrongKindError("rows come one after another from a plain iterable: an async one is to be read before")
    if isinstance(rows, str | bytes | Mapping) or not (hasattr(rows, "__iter__") or hasattr(rows, "__getitem__")):
        raise WrongKindError(f"rows of {call} are an iterable of rows, not {_kind(rows)}: [row] is one of one row")


def _require_row(row: Any, number: int) -> None:
    if row is None:
        raise ValueError(f"row {number} is None, and not a row")
    if isinstance(row, str | bytes | set) or not hasattr(row, "__iter__"):
        raise WrongKindError(
            f"row {number} is {_kind(row)}, and not a row: give a tuple in the order of the columns, or a dict"
        )


def _parts(rows: Iterable[Any]) -> Iterator[Sequence[Any]]:
    iterator = iter(rows)
    while some := tuple(itertools.islice(iterator, PART_ROWS)):
        yield some


def _require_names(rows: Sequence[Any], names: Sequence[str], first_number: int) -> None:
    """Raise for the first of ``rows`` that is none, or has not all the names."""
    for number, row in enumerate(rows, first_number):
        try:
            [row[name] for name in names]
        except (KeyError, TypeError):
            _require_row(row, number)
            raise ValueError(f"row {number} has no value for one of the columns {', '.join(names)}") from None


def _require_sequence(row: Any, number: int) -> None:
    _require_row(row, number)
    is_mapped = isinstance(row, Mapping)
    if is_mapped:
        raise ValueError(f"row {number} is a dict, and the rows before it are none: let all be of one kind")


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"


def _bound_by(processors: Sequence[Callable[[Any], Any] | None]) -> Callable[[Part], Part]:
    def bind(row: Sequence[Any]) -> Sequence[Any]:
        # What is beyond the columns goes along, for the server to refuse with the line's number.
        pairs = itertools.zip_longest(processors[: len(row)], row)
        return [value if process is None else process(value) for process, value in pairs]

    return lambda part: [bind(row) for row in part]


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
