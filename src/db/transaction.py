"""Units of work: ``begin``, ``read``, ``session``, ``run``: each a transaction that the deadline bounds."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import exc

from . import runtime
from .deadline import usable_s
from .errors import OutcomeUnknownError, Verdict, verdict
from .invocation import current_invocation
from .lifecycle import OWN_STATEMENT, log_retry
from .retry import Backoff
from .scope import Scope, tenant_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, RootTransaction
    from sqlalchemy.orm import Session

    from .engine import Role
    from .runtime import Runtime

T = TypeVar("T")

_BACKOFF = Backoff()
# What bounds run() outside an invocation, where no deadline does: as long as most failovers take.
_NO_DEADLINE_S = 30.0


@contextmanager
def begin(*, tenant: str | None = None) -> Iterator[Connection]:
    """A transaction on the writer: commits when the block ends, rolls back when it raises.

    Gives an ordinary ``sqlalchemy.Connection``. ``tenant`` (or the one bound by ``db.scope``) is
    ``current_setting('app.tenant_id')`` for this transaction only. Each statement, and each pause between two, is ended
    by the server at the invocation's deadline less DB_DEADLINE_RESERVE_S, and after DB_STATEMENT_TIMEOUT_S at most.

    Raises TenantError, DeadlineError, CredentialsError or ConfigurationError before anything is sent; SQLAlchemy's own
    errors from the block; OutcomeUnknownError where the connection was lost while it committed.
    """
    with _commit_known_or_said(), _transaction("writer", tenant) as (conn, _):
        yield conn


@contextmanager
def read(*, tenant: str | None = None, snapshot: bool = False) -> Iterator[Connection]:
    """A read-only transaction on the reader, or on the writer where there is no reader endpoint.

    With ``snapshot`` all statements of the block see one state of the database (REPEATABLE READ); without, each sees
    what was committed before it. Tenant, time limits and errors are those of ``begin``; a write raises SQLAlchemy's
    InternalError (SQLSTATE 25006).
    """
    isolation = {"isolation_level": "REPEATABLE READ"} if snapshot else {}
    with _transaction("reader", tenant, postgresql_readonly=True, **isolation) as (conn, transaction):
        yield conn
        transaction.rollback()  # nothing to commit, and a rollback has no outcome that could stay unknown


@contextmanager
def session(*, tenant: str | None = None) -> Iterator[Session]:
    """A ``sqlalchemy.orm.Session`` inside ``begin``: flushed and committed when the block ends.

    ``session.commit()`` in the block only flushes, as the transaction is the block's; ``session.rollback()`` undoes
    all of it. Objects stay readable after the block. Errors are those of ``begin``.
    """
    # The ORM costs some 0.1 s to import: only who uses it.
    from sqlalchemy.orm import Session

    with begin(tenant=tenant) as conn:
        orm = Session(bind=conn, expire_on_commit=False, join_transaction_mode="rollback_only")
        try:
            yield orm
            orm.commit()
        finally:
            orm.close()


def run(fn: Callable[..., T], *args: Any, tenant: str | None = None, **kwargs: Any) -> T:
    """``fn(tx, *args, **kwargs)`` in a transaction, run again from the start where that is safe; returns its result.

    Safe is what has certainly not committed: serialization failure, deadlock, a connection lost before COMMIT was sent,
    a refused connect. So ``fn`` may run more than once, up to six times, with full-jitter delays, and no delay is begun
    that the deadline cannot hold (30 s outside an invocation); its other effects should bear that. Raises the last
    attempt's error, and those of ``begin``.
    """
    now = runtime.current()
    ends_at = now.clock() + _retry_budget_s(now)
    attempt = 1
    while True:
        try:
            with begin(tenant=tenant) as tx:
                return fn(tx, *args, **kwargs)
        except Exception as error:
            advice = verdict(error)
            delay_s = _BACKOFF.delay_s(advice, attempt, left_s=ends_at - now.clock())
            if delay_s is None:
                raise
            log_retry(error, attempt=attempt, delay_s=delay_s)
        if advice is Verdict.DISCARD_POOL:
            now.dispose()
        time.sleep(delay_s)
        attempt += 1


def _retry_budget_s(now: Runtime) -> float:
    deadline = current_invocation.get().deadline
    return usable_s(
        deadline,
        now=now.clock(),
        reserve_s=now.settings.deadline_reserve_s,
        at_most_s=_NO_DEADLINE_S if deadline is None else math.inf,
    )


@contextmanager
def _transaction(role: Role, tenant: str | None, **options: Any) -> Iterator[tuple[Connection, RootTransaction]]:
    """A transaction on ``role``, the server told what holds in it. SQLite can be told neither that nor ``options``."""
    now = runtime.current()
    chosen = tenant_for(tenant, required=now.settings.tenant_required)
    with now.engine(role).connect() as conn:
        on_postgres = conn.dialect.name == "postgresql"
        if on_postgres:
            conn.execution_options(**options)
        with conn.begin() as transaction:
            if on_postgres:
                _send_prologue(conn, now, chosen)
            yield conn, transaction


def _send_prologue(conn: Connection, now: Runtime, tenant: str | None) -> None:
    settings = now.settings
    scope = Scope(
        tenant=tenant,
        statement_timeout_s=usable_s(
            current_invocation.get().deadline,
            now=now.clock(),
            reserve_s=settings.deadline_reserve_s,
            at_most_s=settings.statement_timeout_s,
        ),
        # Where startup options are not to be had, each transaction says it.
        search_path=settings.schema if settings.proxy != "none" else None,
    )
    statement, parameters = scope.prologue()
    conn.exec_driver_sql(statement, parameters, execution_options={OWN_STATEMENT: True})


@contextmanager
def _commit_known_or_said() -> Iterator[None]:
    """Turn a connection lost during COMMIT into OutcomeUnknownError, also where the block itself called ``commit()``.

    An error of a statement carries the statement; of what is sent without one, only COMMIT changes anything.
    """
    try:
        yield
    except exc.DBAPIError as error:
        if error.connection_invalidated and error.statement is None:
            raise OutcomeUnknownError("the connection was lost while the transaction committed") from error
        raise
