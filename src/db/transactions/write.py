"""``write``: statements that are known up front, from BEGIN to COMMIT in one round trip.

They travel as BEGIN, the prologue, the statements and COMMIT, in one flight with one Sync. Without BEGIN and COMMIT, a
flight is a transaction as well, at the same one trip. Four things speak for the words:

- *The outcome.* COMMIT has an answer of its own, and so has a constraint that is deferred to it. Without it, there is
  the answer to Sync alone, from which "committed" would have to be concluded.
- *The server's own guard.* What commits by itself is refused within BEGIN, by any version. In a flight without it, a
  procedure that says COMMIT commits half of the unit on PostgreSQL 16.14, without a word; 18 refuses it there, too.
- *The isolation level* is a word of BEGIN.
- *Poolers* lend a connection from BEGIN to COMMIT: that is what the pooling of transactions means.

The price is one trip more where a statement fails, the ROLLBACK; of the client's time it is not to be seen.
"""

from __future__ import annotations

import contextlib
import re
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVarTuple, overload

from sqlalchemy import DDL, Executable, TextClause
from sqlalchemy.engine.cursor import FullyBufferedCursorFetchStrategy

from db.environment.process import DEFAULT
from db.errors import ConfigurationError
from db.wire.serving import LEAVES_TOGETHER
from db.wire.statement_kinds import kind_of

from .driver import flight_of
from .unit_of_work import Isolation, UnitOfWork

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection, CursorResult
    from sqlalchemy.sql.selectable import TypedReturnsRows

    from db.environment.process import Holder
    from db.wire.departure import Departure
    from db.wire.transaction_end import FlightState

    from .side_by_side import Begun

Ts = TypeVarTuple("Ts")
# All rows are there when the call returns, and how many there were; none are left on the server.
_OPTIONS = {"preserve_rowcount": True, "stream_results": False, LEAVES_TOGETHER: True}
_BEGINS = re.compile(r"\W*(?:begin|start)\b", re.IGNORECASE)
_STREAMS = "it asks for its rows bit by bit (stream_results, yield_per), and all are there when the call returns"
_MODES = "isolation= says the level of the transaction; what else SET TRANSACTION says goes into a block of db.begin()"
_STEERS = "the transaction is the call's own: BEGIN, COMMIT, ROLLBACK and savepoints go into a block of db.begin()"
_APART = "COPY and PREPARE do not travel with others: db.copy_rows loads rows, a block of db.begin() takes the rest"


@overload
def write(
    *statements: TypedReturnsRows[*Ts], tenant: str | None = None, isolation: Isolation | None = None
) -> list[CursorResult[*Ts]]: ...
@overload
def write(
    *statements: Executable, tenant: str | None = None, isolation: Isolation | None = None
) -> list[CursorResult[*tuple[Any, ...]]]: ...
def write(
    *statements: Executable, tenant: str | None = None, isolation: Isolation | None = None
) -> list[CursorResult[*tuple[Any, ...]]]:
    """All of ``statements`` in one transaction on the writer, or none, from BEGIN to COMMIT in one round trip.

    Statements are those of ``Connection.execute`` with their values bound. What it gives for each is given here, in
    their order: with all of its rows, where it returns any, and ``rowcount``, also behind RETURNING. None can depend on
    what another one gave; what decides in between goes into ``run``.

    The error of one is the error of all, with a note of which it is. The server has undone all of it then. Tenant, time
    limits and other errors are those of ``begin``. A connection that was lost with the statements on their way raises
    OutcomeUnknownError, where ``begin`` would have sent its first flight again: COMMIT was in it. They are sent again
    only where it is certain that they have not run. So does what fails behind COMMIT, in Python: a value for which it
    has none, or a listener.

    Raises ConfigurationError, before anything is sent, for what is not a statement among others of one transaction:
    COPY, BEGIN, COMMIT, ROLLBACK, savepoints, SET TRANSACTION; and SQLAlchemy's NotSupportedError for a statement with
    a default that has to be asked of the server first. A text of several statements is refused by the server.
    """
    return write_on(DEFAULT, *statements, tenant=tenant, isolation=isolation)


def write_on(
    holder: Holder, *statements: Executable, tenant: str | None = None, isolation: Isolation | None = None
) -> list[CursorResult[*tuple[Any, ...]]]:
    """``write``, on the database of ``holder``."""
    if not statements:
        return []
    call = f"{holder.called}.write"
    _require_statements(statements, call)
    with UnitOfWork(holder, "write", tenant, isolation=isolation) as conn:
        flight = flight_of(conn)
        if flight is None:
            return _one_by_one(conn, statements)
        return _together(conn, flight, statements)


def _together(
    conn: Connection, flight: FlightState, statements: Sequence[Executable]
) -> list[CursorResult[*tuple[Any, ...]]]:
    """The results of ``statements``, which leave in one flight with COMMIT."""
    from db.wire.departure import Departure

    if len(statements) == 1:
        flight.gathering = departure = Departure(lambda: None)  # there is nobody to wait for
        results = [_executed(conn, statements[0])]
    else:
        from .side_by_side import pause

        flight.gathering = departure = Departure(pause)
        results = _side_by_side(conn, departure, statements)
    if departure.refused is not None:
        conn._handle_dbapi_exception(departure.refused, None, None, None, None)  # noqa: SLF001 - as that of a COMMIT
    return results


def _side_by_side(
    conn: Connection, departure: Departure, statements: Sequence[Executable]
) -> list[CursorResult[*tuple[Any, ...]]]:
    """Execute each up to where it would be sent, and then each to its end."""
    from .side_by_side import Begun

    results: list[CursorResult[*tuple[Any, ...]]] = []
    begun: list[Begun] = []
    try:
        for statement in statements:
            begun.append(Begun(partial(_add, results, conn, statement)))
            _resume(begun[-1], len(begun), of=len(statements))
        for place, one in enumerate(begun, 1):
            _resume(one, place, of=len(statements))
    except BaseException:
        departure.call_off()
        for one in begun:
            if one:  # it waits
                with contextlib.suppress(Exception):  # that it was not run
                    one.resume()
        raise
    return results


def _add(results: list[CursorResult[*tuple[Any, ...]]], conn: Connection, statement: Executable) -> None:
    results.append(_executed(conn, statement))


def _one_by_one(conn: Connection, statements: Sequence[Executable]) -> list[CursorResult[*tuple[Any, ...]]]:
    """The results of ``statements``, where the driver has no flights: the block that the call is ends with COMMIT."""
    results = []
    for place, statement in enumerate(statements, 1):
        with _telling(place, of=len(statements)):
            results.append(_executed(conn, statement))
    return results


def _resume(one: Begun, place: int, *, of: int) -> None:
    with _telling(place, of=of):
        one.resume()


@contextlib.contextmanager
def _telling(place: int, *, of: int) -> Iterator[None]:
    """Note on an error in the block which of the statements it is about."""
    try:
        yield
    except Exception as error:
        if of > 1:
            error.add_note(f"in statement {place} of {of}")
        raise


def _executed(conn: Connection, statement: Executable) -> CursorResult[*tuple[Any, ...]]:
    """The result of ``statement``, with its rows, free of its cursor."""
    result = conn.execute(statement, execution_options=_OPTIONS)
    if result.returns_rows and result.cursor is not None:
        result.cursor_strategy = FullyBufferedCursorFetchStrategy(result.cursor)
        result.cursor.close()
    return result


def _require_statements(statements: Sequence[Executable], call: str) -> None:
    """Raise for what cannot go between the BEGIN and the COMMIT of the call."""
    given: Sequence[object] = statements
    if any(isinstance(statement, str | list | tuple) for statement in given):
        written = 'insert(…).values(…), text("…").bindparams(…)'
        raise TypeError(f"{call} takes statements, one after another, each with its values: {call}({written})")
    refused = [(place, why) for place, one in enumerate(given, 1) if (why := _refusal_of(one)) is not None]
    if refused:
        raise ConfigurationError([f"{call}, statement {place} of {len(given)}: {why}" for place, why in refused])


def _refusal_of(statement: object) -> str | None:
    """Why ``statement`` cannot be one of several in a transaction that ends with them; None where it can."""
    if isinstance(statement, Executable):
        options = statement.get_execution_options()
        if options.get("stream_results") or options.get("yield_per"):
            return _STREAMS
    words = getattr(statement, "element", statement)  # of text().columns()
    if isinstance(words, TextClause):
        said = words.text
    elif isinstance(words, DDL) and isinstance(words.statement, str):
        said = words.statement
    else:
        return None
    kind = kind_of(said)
    if kind.sets_modes:
        return _MODES
    if kind.ends or kind.can_wait or (kind.stands_apart and _BEGINS.match(said)):
        return _STEERS
    return _APART if kind.stands_apart else None
