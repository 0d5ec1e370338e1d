"""One unit of work: a transaction that the deadline bounds, from its prologue to what became of its COMMIT.

What ``begin``, ``read`` and ``session`` have in common, in this order: the tenant, the time that is left, a connection,
the prologue, the block, COMMIT or ROLLBACK.
"""

from __future__ import annotations

import asyncio  # SQLAlchemy has loaded it
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, get_args

from sqlalchemy import exc

from db.environment import handler_decorator
from db.errors import DOCUMENTATION, ConfigurationError, OutcomeUnknownError, claim, sqlstate
from db.pool.engine_options import level_meant
from db.telemetry.log import warn_of_leftovers
from db.timing.deadline import usable_s
from db.timing.invocation import current_invocation
from db.timing.waiting import on_loop
from db.wire.commit_outcome import Unit, work_for
from db.wire.search_path import NO_FUNCTION, PROLOGUE_FUNCTION, no_prologue_function
from db.wire.session_leftovers import SessionLeftError

from .driver import is_failed, prepare
from .logins import look_at_login
from .open_units import unit_on
from .prologue import Prologue
from .remedies import OUTSIDE_OF_A_TRANSACTION, add_remedy, note_disposal
from .tenant_scope import tenant_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, RootTransaction

    from db.environment.process import Holder
    from db.environment.runtime import Runtime
    from db.pool.connect_arguments import Role


Isolation = Literal["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]


_SWALLOWED = (
    "the transaction had failed: an error inside the block was caught, and the server would have answered COMMIT with "
    "a rollback; catch errors around the block, or around a begin_nested() inside of it"
)

_UNKNOWN = (
    "while the transaction committed, so its outcome is unknown: it is committed as a whole, or not at all. Do not "
    "repeat it blindly: look whether what it writes is there. db.once(key).run(fn) does so by itself, and commits "
    f"exactly once ({DOCUMENTATION}run/errors/#outcomeunknownerror)"
)


@contextmanager
def transaction_on(
    holder: Holder,
    role: Role,
    tenant: str | None,
    *,
    isolation: Isolation | None = None,
    read_only: bool = False,
    single: bool = False,
) -> Iterator[tuple[Connection, RootTransaction]]:
    """A transaction on ``role`` of ``holder``; with ``single`` each statement is one of its own.

    Where the engines have a level, there is a BEGIN to say it, and so one transaction for all of the block.
    """
    now = holder.current()
    try:
        if isolation is not None:
            _require_level(isolation)
        level = isolation or now.isolation
        if handler_decorator.may_be_forgotten:
            handler_decorator.look_for_forgotten()
        chosen = tenant_for(tenant, required=now.settings.tenant_required)
        kind = now.settings.engine_kind
        if kind.lacks:
            from .refusals import require_unit

            require_unit(now, role, tenant=chosen, read_only=read_only, isolation=level)
        engine = now.engine(role, asynchronous=on_loop())
        _require_time(now)
        with unit_on(holder, engine) as unit, _told_apart(unit, now), engine.connect() as conn:
            work_for(unit, conn)
            if chosen is not None:
                look_at_login(conn)
            unit.read_only = read_only
            route = now.reader_route
            prologue = Prologue(
                now.settings,
                chosen,
                server_version=conn.dialect.server_version_info or (),
                clock=now.clock,
                reader=route if role == "reader" and route.asks_for_lag else None,
            )
            pooled = now.settings.proxy != "none"
            prepare(conn, prologue, unit, isolation=level, read_only=read_only, pooled=pooled)
            try:
                # Inside a `with`, SQLAlchemy refuses what would follow an early commit() without prologue.
                with conn.begin() as transaction:
                    try:
                        if single and level is None and unit.connection is not None:
                            # Not before: what a listener to "begin" says is for all of the block, and opens a
                            # transaction.
                            unit.connection.single_reads = True
                        yield conn, transaction
                        _refuse_swallowed_failure(conn, transaction, unit)
                        unit.block_ended = True
                    except BaseException as error:
                        add_remedy(error, in_transaction=transaction.is_active)
                        roll_back(transaction)
                        raise
            finally:
                _hand_back(conn, unit, database=holder.database)
    except Exception as error:
        claim(error, database=holder.database, prefix=holder.prefix)
        raise


def _require_level(isolation: str) -> None:
    """Raise ValueError for what is no level of a transaction: AUTOCOMMIT is one to SQLAlchemy, and would be none."""
    if isolation not in get_args(Isolation):
        if meant := level_meant(isolation):
            raise ValueError(f"isolation is {isolation!r}: write {meant!r}")
        raise ValueError(
            f"isolation is {isolation!r}, and not one of {', '.join(get_args(Isolation))}; what cannot run in a "
            f"transaction goes over {OUTSIDE_OF_A_TRANSACTION}"
        )


def _hand_back(conn: Connection, unit: Unit, *, database: str | None) -> None:
    """What held for the unit alone ends with it; a session on which it left more is not kept."""
    if unit.connection is not None:
        unit.begun = unit.connection.begun  # it is the next one's to count from here on
        unit.connection.leave()
    if unit.leaves and not (conn.closed or conn.invalidated):
        warn_of_leftovers(unit.leaves, by="a unit of work", database=database, dialect=conn.dialect.name)
        conn.invalidate(SessionLeftError())


def _refuse_swallowed_failure(conn: Connection, transaction: RootTransaction, unit: Unit) -> None:
    """Raise PendingRollbackError where a COMMIT would seem to succeed, and commit nothing."""
    if not transaction.is_active:
        return
    failed = unit.connection.failed if unit.connection is not None else None
    if is_failed(conn) if failed is None else failed:
        raise exc.PendingRollbackError(_SWALLOWED)


def _require_time(now: Runtime) -> None:
    """Raise DeadlineError where a unit of work could not send anything anyway."""
    usable_s(
        current_invocation().deadline, now=now.clock(), reserve_s=now.settings.deadline_reserve_s, at_most_s=math.inf
    )


def roll_back(transaction: RootTransaction) -> None:
    """Undo the transaction. A connection that is lost meanwhile has undone it too, and is no reason to fail."""
    try:
        if transaction.is_active:
            transaction.rollback()
    except exc.DBAPIError as error:
        if not error.connection_invalidated:
            raise


@contextmanager
def _told_apart(unit: Unit, now: Runtime) -> Iterator[None]:
    """Give what the block raised its own name where the driver has none for it.

    Whatever came in place of the answer to a COMMIT is OutcomeUnknownError, whoever sent the COMMIT; or behind the
    answer, where the block is over: whoever sees another error takes the work for undone. The prologue's function that
    no migration has made is ConfigurationError.
    """
    disposals = now.disposals
    try:
        yield
    except BaseException as error:
        if now.disposals != disposals:
            note_disposal(error)
        unknown = unit.outcome_unknown or (unit.committed and unit.block_ended)
        if unknown and not isinstance(error, GeneratorExit | SystemExit):
            raise OutcomeUnknownError(f"{_what_came(error)} {_UNKNOWN}") from error
        if now.settings.proxy == "rds-proxy" and isinstance(error, exc.DBAPIError) and _is_of_prologue(error, unit):
            raise ConfigurationError([no_prologue_function(now.settings.schema)]) from error
        raise


def _is_of_prologue(error: exc.DBAPIError, unit: Unit) -> bool:
    """Whether the server has no such function for this login, or does not let it into the function's schema."""
    if sqlstate(error) not in NO_FUNCTION:
        return False
    # Of a schema the server does not say what was looked for in it. A flight that brings the prologue has no statement
    # of its own that failed, and where there are no flights, the prologue is a statement.
    opening_failed = unit.connection is not None and not unit.begun and unit.statement_failed
    return opening_failed or any(PROLOGUE_FUNCTION in text for text in (str(error.orig), error.statement or ""))


def _what_came(error: BaseException) -> str:
    match error:
        case asyncio.CancelledError():
            return "the task was cancelled"
        case exc.DBAPIError():
            return "the connection was lost"
    return f"{type(error).__name__} was raised"
