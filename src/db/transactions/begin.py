"""``begin`` and ``session``: a transaction on the writer, as a connection or as the ORM's session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .blocks import block
from .unit_of_work import Isolation, transaction_on

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session


@block
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
    with transaction_on("writer", tenant, isolation=isolation) as (conn, _):
        yield conn


@block
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
