"""``begin`` and ``session``: a transaction on the writer, as a connection or as the ORM's session."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TypeVar, overload

from sqlalchemy import exc

from db.environment.process import DEFAULT

from .blocks import block, by_name
from .callables import own_connection, said_by_tx
from .read import read_on
from .unit_of_work import Isolation, UnitOfWork

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from db.environment.process import Holder

SessionT = TypeVar("SessionT", bound="Session")


@by_name("db.begin")
def begin(*, tenant: str | None = None, isolation: Isolation | None = None) -> AbstractContextManager[Connection]:
    """A transaction on the writer: commits when the block ends, rolls back when it raises.

    Gives an ordinary ``sqlalchemy.Connection``. ``tenant`` (or the one bound by ``db.scope``) is
    ``current_setting('app.tenant_id')`` for this transaction only. ``isolation`` is the server's default unless named.

    A statement, and a pause between two, may take DB_STATEMENT_TIMEOUT_S, and within an invocation no more than what
    is left of it when the transaction begins, less DB_DEADLINE_RESERVE_S; from PostgreSQL 17 on, the whole transaction
    ends with half of that reserve left.

    Raises TenantError, DeadlineError, CredentialsError or ConfigurationError before anything is sent; SQLAlchemy's own
    errors from the block; OutcomeUnknownError where anything came in place of the answer to COMMIT.
    """
    return begin_on(DEFAULT, tenant=tenant, isolation=isolation)


def begin_on(
    holder: Holder, *, tenant: str | None = None, isolation: Isolation | None = None
) -> AbstractContextManager[Connection]:
    """``begin``, on the database of ``holder``."""
    return UnitOfWork(holder, "begin", tenant, isolation=isolation)


@overload
def session(
    *,
    tenant: str | None = None,
    isolation: Isolation | None = None,
    tx: Connection | None = None,
    read_only: bool = False,
    class_: None = None,
) -> AbstractContextManager[Session]: ...
@overload
def session(
    *,
    tenant: str | None = None,
    isolation: Isolation | None = None,
    tx: Connection | None = None,
    read_only: bool = False,
    class_: type[SessionT],
) -> AbstractContextManager[SessionT]: ...
@by_name("db.session")
def session(
    *,
    tenant: str | None = None,
    isolation: Isolation | None = None,
    tx: Connection | None = None,
    read_only: bool = False,
    class_: type[Session] | None = None,
) -> AbstractContextManager[Session]:
    """A ``sqlalchemy.orm.Session`` inside ``begin``: flushed and committed when the block ends.

    ``session.commit()`` in the block only flushes, as the transaction is the block's; ``session.rollback()`` undoes
    all of it, but for nothing where the session has sent nothing since a ``commit()``. Objects stay readable after the
    block. Errors are those of ``begin``.

    With ``tx`` it lives in a transaction of the caller's, as ``run``, ``once`` and ``batch`` give it to their function:
    flushed when the block ends, and committed, or undone with the record, as the rest of that. ``read_only`` reads over
    ``read``, and raises InvalidRequestError where there is something to flush at its end. ``class_`` is another class
    than SQLAlchemy's: SQLModel's, say. Raises TypeError for what cannot go together.
    """
    return session_on(DEFAULT, tenant=tenant, isolation=isolation, tx=tx, read_only=read_only, class_=class_)


@block
def session_on(
    holder: Holder,
    *,
    tenant: str | None = None,
    isolation: Isolation | None = None,
    tx: Connection | None = None,
    read_only: bool = False,
    class_: type[Session] | None = None,
) -> Iterator[Session]:
    """``session``, on the database of ``holder``."""
    # The ORM costs some 0.1 s to import: only who uses it.
    from sqlalchemy.orm import Session

    if tx is not None and not (tenant is None and isolation is None and not read_only):
        raise TypeError(said_by_tx(f"{holder.called}.session", "tenant, isolation and read_only"))
    if read_only and isolation is not None:
        raise TypeError("a read-only session has no isolation level: db.read(snapshot=True) gives one connection")
    with _transaction(holder, tenant, isolation, tx, read_only=read_only) as conn:
        orm = (class_ or Session)(bind=conn, expire_on_commit=False, join_transaction_mode="rollback_only")
        try:
            yield orm
            if read_only and (orm.new or orm.deleted or any(map(orm.is_modified, orm.dirty))):
                raise exc.InvalidRequestError("a read-only session was given something to write")
            orm.commit()
        finally:
            orm.close()


def _transaction(
    holder: Holder, tenant: str | None, isolation: Isolation | None, tx: Connection | None, *, read_only: bool
) -> AbstractContextManager[Connection]:
    if tx is not None:
        return contextlib.nullcontext(own_connection(holder, tx, call=f"{holder.called}.session"))
    return read_on(holder, tenant=tenant) if read_only else begin_on(holder, tenant=tenant, isolation=isolation)
