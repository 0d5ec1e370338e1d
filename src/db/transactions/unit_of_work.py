"""One unit of work: a transaction that the deadline bounds, from its prologue to what became of its COMMIT.

What ``begin``, ``read`` and ``session`` have in common, in this order: the tenant, the time that is left, a connection,
the prologue, the block, COMMIT or ROLLBACK.
"""

from __future__ import annotations

import asyncio  # SQLAlchemy has loaded it
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from sqlalchemy import exc

from db.environment import process
from db.errors import OutcomeUnknownError, sqlstate
from db.timing.deadline import usable_s
from db.timing.invocation import current_invocation
from db.timing.waiting import on_loop
from db.wire.commit_outcome import Unit, work_for

from .driver import is_failed, prepare, say
from .open_units import unit_on
from .prologue import Prologue
from .tenant_scope import tenant_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, RootTransaction

    from db.environment.process import Runtime
    from db.pool.connect_arguments import Role


Isolation = Literal["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]
# The server ended the session for a time limit of ours, so a COMMIT that met this did not take place.
_ENDED_BY_LIMIT = {"25P03", "25P04"}  # idle_in_transaction_session_timeout, transaction_timeout
_SWALLOWED = (
    "the transaction had failed: an error inside the block was caught, and the server would have answered COMMIT with "
    "a rollback; catch errors around the block, or around a begin_nested() inside of it"
)


@contextmanager
def transaction_on(
    role: Role, tenant: str | None, *, isolation: Isolation | None = None, read_only: bool = False, single: bool = False
) -> Iterator[tuple[Connection, RootTransaction]]:
    """A transaction on ``role``; with ``single`` each statement is one of its own. SQLite can be told none of this."""
    now = process.current()
    chosen = tenant_for(tenant, required=now.settings.tenant_required)
    engine = now.engine(role, asynchronous=on_loop())
    _require_time(now)
    with unit_on(engine) as unit, engine.connect() as conn, _commit_known_or_said(unit):
        work_for(unit, conn)
        unsaid = None
        if conn.dialect.name == "postgresql":
            route = now.reader_route
            prologue = Prologue(
                now.settings,
                chosen,
                server_version=conn.dialect.server_version_info or (),
                clock=now.clock,
                is_near=route.is_near if role == "reader" and route.asks_for_lag else None,
            )
            unsaid = prepare(conn, prologue, isolation=isolation, read_only=read_only, single=single)
        # Inside a `with`, SQLAlchemy refuses what would follow an early commit() without prologue.
        with conn.begin() as transaction:
            try:
                if unsaid is not None:
                    say(conn, unsaid(alone=False))
                yield conn, transaction
                _refuse_swallowed_failure(conn, transaction)
            except BaseException:
                roll_back(transaction)
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


def roll_back(transaction: RootTransaction) -> None:
    """Undo the transaction. A connection that is lost meanwhile has undone it too, and is no reason to fail."""
    try:
        if transaction.is_active:
            transaction.rollback()
    except exc.DBAPIError as error:
        if not error.connection_invalidated:
            raise


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
