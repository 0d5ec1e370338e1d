"""``read`` and ``fetch``: what changes nothing, on the reader where there is one; a round trip each, or one for all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVarTuple, overload

from sqlalchemy import exc

from db.environment.process import DEFAULT
from db.telemetry.statement_events import OWN_STATEMENT
from db.wire.commit_outcome import unit_of
from db.wire.serving import Gathering

from .blocks import by_name
from .driver import flight_of
from .unit_of_work import Isolation, UnitOfWork

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection, CursorResult, Executable, Result
    from sqlalchemy.sql.selectable import TypedReturnsRows

    from db.environment.process import Holder

Ts = TypeVarTuple("Ts")
# All rows are there when the call returns, so that none have to come bit by bit.
_OPTIONS = {"stream_results": False, "yield_per": None}


@by_name("db.read")
def read(
    *, tenant: str | None = None, snapshot: bool = False, fresh: bool = False
) -> AbstractContextManager[Connection]:
    """A read-only transaction on the reader, or on the writer where there is no reader endpoint.

    With ``snapshot`` all statements of the block see one state of the database (REPEATABLE READ); without, each sees
    what was committed before it, unless ``db.configure(engine_options=…)`` names an isolation level: then the block is
    one transaction of that level. On a reader that may be a moment old: with ``fresh``, and after a write in the same
    invocation, the writer is read. It also stands in for a reader that is out of reach, or further behind than
    DB_READER_MAX_LAG_S. Tenant, time limits and errors are those of ``begin``; a write raises SQLAlchemy's
    InternalError (SQLSTATE 25006).
    """
    return read_on(DEFAULT, tenant=tenant, snapshot=snapshot, fresh=fresh)


def read_on(
    holder: Holder, *, tenant: str | None = None, snapshot: bool = False, fresh: bool = False
) -> AbstractContextManager[Connection]:
    """``read``, on the database of ``holder``."""
    level: Isolation | None = "REPEATABLE READ" if snapshot else None
    return UnitOfWork(holder, "read", tenant, isolation=level, read_only=True, single=not snapshot, fresh=fresh)


@overload
def fetch(*statements: TypedReturnsRows[*Ts], tenant: str | None = None, fresh: bool = False) -> list[Result[*Ts]]: ...
@overload
def fetch(
    *statements: Executable, tenant: str | None = None, fresh: bool = False
) -> list[Result[*tuple[Any, ...]]]: ...
def fetch(*statements: Executable, tenant: str | None = None, fresh: bool = False) -> list[Result[*tuple[Any, ...]]]:
    """The results of independent reads, in their order, from one round trip.

    Statements are those of ``Connection.execute`` with their values bound. They make one read-only transaction, where
    ``read`` would make it; tenant, time limits and errors are those of ``read``, and the error of one is the error of
    all.
    """
    return fetch_on(DEFAULT, *statements, tenant=tenant, fresh=fresh)


def fetch_on(
    holder: Holder, *statements: Executable, tenant: str | None = None, fresh: bool = False
) -> list[Result[*tuple[Any, ...]]]:
    """``fetch``, on the database of ``holder``."""
    if not statements:
        return []
    given: tuple[object, ...] = statements
    if any(isinstance(statement, str | list | tuple) for statement in given):
        call = f"{holder.called}.fetch"
        written = 'select(…), text("…").bindparams(…)'
        raise TypeError(f"{call} takes statements, one after another, each with its values: {call}({written})")
    with read_on(holder, tenant=tenant, fresh=fresh) as conn:
        flight = flight_of(conn)
        if flight is not None:
            # Once to collect them, as SQLAlchemy compiles them; the second time the first of them sends all.
            flight.gathering = gathering = Gathering()
            for statement in statements:
                conn.execute(statement, execution_options=_OPTIONS | {OWN_STATEMENT: True})
            gathering.is_complete = True
        elif "flights" in holder.current().settings.engine_kind.lacks:
            serving = unit_of(conn.connection).connection
            if serving is not None:
                serving.single_reads = False  # all in one transaction, as a flight is
        executed = (conn.execute(statement, execution_options=_OPTIONS) for statement in statements)
        return [_rows_of(result, number) for number, result in enumerate(executed, 1)]


def _rows_of(result: CursorResult[*Ts], number: int) -> Result[*Ts]:
    """The rows of ``result``, free of its cursor. Raises InvalidRequestError where the statement gives none."""
    if not result.returns_rows:
        raise exc.InvalidRequestError(
            f"db.fetch gives rows, and statement {number} gives none: what a transaction is told, as by SET LOCAL, and "
            "what writes go into db.begin()"
        )
    return result.freeze()()
