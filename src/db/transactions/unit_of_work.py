"""Units of work: ``begin``, ``read``, ``session``, ``run``: each a transaction that the deadline bounds."""

from __future__ import annotations

import asyncio  # SQLAlchemy has loaded it
import contextvars
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from sqlalchemy import exc

from db.environment import process
from db.errors import ConfigurationError, OutcomeUnknownError, Verdict, sqlstate, verdict
from db.pool.engines import capacity
from db.telemetry.log import log_retry
from db.telemetry.statement_events import OWN_STATEMENT
from db.timing.backoff import Backoff
from db.timing.deadline import usable_s
from db.timing.invocation import current_invocation, note_write
from db.timing.waiting import on_loop, sleep
from db.wire.commit_outcome import Unit, unit_of, work_for
from db.wire.flight import Gathering

from .prologue import Opening
from .sending import flight_of, is_failed, prepare, say
from .tenant_scope import tenant_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Engine, Executable, Result, RootTransaction
    from sqlalchemy.orm import Session

    from db.environment.process import Runtime
    from db.pool.connector import Role

T = TypeVar("T")
Isolation = Literal["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]

_BACKOFF = Backoff()
# What bounds run() outside an invocation, where no deadline does: as long as most failovers take.
_NO_DEADLINE_S = 30.0
# The server ended the session for a time limit of ours, so a COMMIT that met this did not take place.
_ENDED_BY_LIMIT = {"25P03", "25P04"}  # idle_in_transaction_session_timeout, transaction_timeout

_SWALLOWED = (
    "the transaction had failed: an error inside the block was caught, and the server would have answered COMMIT with "
    "a rollback; catch errors around the block, or around a begin_nested() inside of it"
)

# The units of this context. Those that have ended are passed over, so they may end in any order, as generators do.
_units: contextvars.ContextVar[tuple[Unit, ...]] = contextvars.ContextVar("db_units", default=())


@contextmanager
def begin(*, tenant: str | None = None, isolation: Isolation | None = None) -> Iterator[Connection]:
    """A transaction on the writer: commits when the block ends, rolls back when it raises.

    Gives an ordinary ``sqlalchemy.Connection``. ``tenant`` (or the one bound by ``db.scope``) is
    ``current_setting('app.tenant_id')`` for this transaction only. ``isolation`` is the server's default unless named.

    A statement, and a pause between two, may take DB_STATEMENT_TIMEOUT_S, and within an invocation no more than what
    is left of it when the transaction begins, less DB_DEADLINE_RESERVE_S; from PostgreSQL 17 on, the whole transaction
    ends with half of that reserve left.

    Raises TenantError, DeadlineError, CredentialsError or ConfigurationError before anything is sent; SQLAlchemy's own
    errors from the block; OutcomeUnknownError where the connection was lost while it committed.
    """
    with _transaction("writer", tenant, isolation=isolation) as (conn, _):
        yield conn


@contextmanager
def read(*, tenant: str | None = None, snapshot: bool = False, fresh: bool = False) -> Iterator[Connection]:
    """A read-only transaction on the reader, or on the writer where there is no reader endpoint.

    With ``snapshot`` all statements of the block see one state of the database (REPEATABLE READ); without, each sees
    what was committed before it. On a reader that may be a moment old: with ``fresh``, and after a write in the same
    invocation, the writer is read. It also stands in for a reader that is out of reach, or further behind than
    DB_READER_MAX_LAG_S. Tenant, time limits and errors are those of ``begin``; a write raises SQLAlchemy's
    InternalError (SQLSTATE 25006).
    """
    isolation: Isolation | None = "REPEATABLE READ" if snapshot else None
    role: Role = "writer" if fresh or current_invocation().wrote else "reader"
    with _transaction(role, tenant, isolation=isolation, read_only=True, single=not snapshot) as (
        conn,
        transaction,
    ):
        yield conn
        _roll_back(transaction)  # there is nothing to commit


def fetch(*statements: Executable, tenant: str | None = None, fresh: bool = False) -> list[Result[Any]]:
    """The results of independent reads, in their order, from one round trip.

    Statements are those of ``Connection.execute`` with their values bound. They make one read-only transaction, where
    ``read`` would make it; tenant, time limits and errors are those of ``read``, and the error of one is the error of
    all.
    """
    if not statements:
        return []
    with read(tenant=tenant, fresh=fresh) as conn:
        flight = flight_of(conn)
        if flight is not None:
            # Once to collect them, as SQLAlchemy compiles them; the second time the first of them sends all.
            flight.gathering = gathering = Gathering()
            for statement in statements:
                conn.execute(statement, execution_options={OWN_STATEMENT: True})
            gathering.is_complete = True
        return [conn.execute(statement).freeze()() for statement in statements]


@contextmanager
def session(*, tenant: str | None = None, isolation: Isolation | None = None) -> Iterator[Session]:
    """A ``sqlalchemy.orm.Session`` inside ``begin``: flushed and committed when the block ends.

    ``session.commit()`` in the block only flushes, as the transaction is the block's; ``session.rollback()`` undoes
    all of it. Objects stay readable after the block. Errors are those of ``begin``.
    """
    # The ORM costs some 0.1 s to import: only who uses it.
    from sqlalchemy.orm import Session

    with begin(tenant=tenant, isolation=isolation) as conn:
        orm = Session(bind=conn, expire_on_commit=False, join_transaction_mode="rollback_only")
        try:
            yield orm
            orm.commit()
        finally:
            orm.close()


def run(
    fn: Callable[..., T], *args: Any, tenant: str | None = None, isolation: Isolation | None = None, **kwargs: Any
) -> T:
    """``fn(tx, *args, **kwargs)`` in a transaction, run again from the start where that is safe; returns its result.

    Safe is what has certainly not committed: serialization failure, deadlock, a connection lost before COMMIT was sent,
    a refused connect. So ``fn`` may run more than once, up to six times, with full-jitter delays, and no delay is begun
    that the deadline cannot hold (30 s outside an invocation); its other effects should bear that. Raises the last
    attempt's error, and those of ``begin``.
    """
    now = process.current()
    ends_at = now.clock() + _retry_budget_s(now)
    attempt = 1
    while True:
        unit = Unit()
        try:
            with begin(tenant=tenant, isolation=isolation) as tx:
                unit = unit_of(tx.connection)
                return fn(tx, *args, **kwargs)
        except Exception as error:
            advice = verdict(error)
            delay_s = _BACKOFF.delay_s(advice, attempt, left_s=ends_at - now.clock())
            # What failed after fn's own commit() must not run what is committed a second time.
            if delay_s is None or unit.committed:
                raise
            log_retry(error, attempt=attempt, delay_s=delay_s)
        if advice is Verdict.DISCARD_POOL:
            now.discard_idle()
        sleep(delay_s)
        attempt += 1


def _retry_budget_s(now: Runtime) -> float:
    deadline = current_invocation().deadline
    return usable_s(
        deadline,
        now=now.clock(),
        reserve_s=now.settings.deadline_reserve_s,
        at_most_s=_NO_DEADLINE_S if deadline is None else math.inf,
    )


@contextmanager
def _transaction(
    role: Role, tenant: str | None, *, isolation: Isolation | None = None, read_only: bool = False, single: bool = False
) -> Iterator[tuple[Connection, RootTransaction]]:
    """A transaction on ``role``; with ``single`` each statement is one of its own. SQLite can be told none of this."""
    now = process.current()
    chosen = tenant_for(tenant, required=now.settings.tenant_required)
    engine = now.engine(role, asynchronous=on_loop())
    _require_time(now)
    with _unit(engine) as unit, engine.connect() as conn, _commit_known_or_said(unit):
        work_for(unit, conn)
        unsaid = None
        if conn.dialect.name == "postgresql":
            route = now.reader_route
            opening = Opening(
                now.settings,
                chosen,
                server_version=conn.dialect.server_version_info or (),
                clock=now.clock,
                is_near=route.is_near if role == "reader" and route.asks_for_lag else None,
            )
            unsaid = prepare(conn, opening, isolation=isolation, read_only=read_only, single=single)
        # Inside a `with`, SQLAlchemy refuses what would follow an early commit() without prologue.
        with conn.begin() as transaction:
            try:
                if unsaid is not None:
                    say(conn, unsaid(alone=False))
                yield conn, transaction
                _refuse_swallowed_failure(conn, transaction)
            except BaseException:
                _roll_back(transaction)
                raise


def _refuse_swallowed_failure(conn: Connection, transaction: RootTransaction) -> None:
    """Raise PendingRollbackError where a COMMIT would seem to succeed, and commit nothing."""
    if transaction.is_active and is_failed(conn):
        raise exc.PendingRollbackError(_SWALLOWED)


def _require_time(now: Runtime) -> None:
    """Raise DeadlineError where a unit of work could not send anything anyway."""
    usable_s(
        current_invocation().deadline, now=now.clock(), reserve_s=now.settings.deadline_reserve_s, at_most_s=math.inf
    )


def _roll_back(transaction: RootTransaction) -> None:
    """Undo the transaction. A connection that is lost meanwhile has undone it too, and is no reason to fail."""
    try:
        if transaction.is_active:
            transaction.rollback()
    except exc.DBAPIError as error:
        if not error.connection_invalidated:
            raise


def open_units() -> tuple[Unit, ...]:
    """The units of this context that have not ended."""
    return tuple(unit for unit in _units.get() if unit.open)


@contextmanager
def _unit(engine: Engine) -> Iterator[Unit]:
    """A unit of work on ``engine``. One that could only wait for those around it is refused at once."""
    around_it = open_units()
    around = sum(unit.engine is engine for unit in around_it)
    if around >= capacity(engine):
        setting = "DB_ASYNC_CONNECTIONS" if engine.dialect.is_async else "DB_POOL_SIZE"
        problem = (
            f"a unit of work inside {around} others of its context needs a connection of its own and the pool has none "
            f"left: use the outer one's, or raise {setting}"
        )
        raise ConfigurationError([problem])
    unit = Unit(engine)
    _units.set((*around_it, unit))
    try:
        yield unit
    finally:
        unit.open = False
        if unit.commit_sent:
            note_write()


@contextmanager
def _commit_known_or_said(unit: Unit) -> Iterator[None]:
    """Turn a connection lost during the unit's COMMIT into OutcomeUnknownError, whoever called for the commit."""
    try:
        yield
    except exc.DBAPIError as error:
        if unit.commit_failed and error.connection_invalidated and sqlstate(error) not in _ENDED_BY_LIMIT:
            raise OutcomeUnknownError("the connection was lost while the transaction committed") from error
        raise
    except asyncio.CancelledError as error:
        if unit.commit_failed:
            raise OutcomeUnknownError("the task was cancelled while the transaction committed") from error
        raise
