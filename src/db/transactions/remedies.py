"""What to write instead, as a note on an error of SQLAlchemy's that only says what is wrong. Pure."""

from __future__ import annotations

from sqlalchemy import exc

from db.errors import ASKED_TO_BE_READ_ONLY, sqlstate

OUTSIDE_OF_A_TRANSACTION = 'db.engine().connect().execution_options(isolation_level="AUTOCOMMIT")'
_ACTIVE_TRANSACTION = "25001"
_APART = (
    f"what cannot run in a transaction goes over {OUTSIDE_OF_A_TRANSACTION}; the isolation level of a unit of work is "
    'said where it begins: db.begin(isolation="SERIALIZABLE")'
)
_READ_ONLY = (
    "db.read, db.fetch, a read-only session and what has said READ ONLY change nothing: what writes goes into "
    "db.begin() or db.run()"
)
_IN_WORDS = 'a statement in words is text("…") of SQLAlchemy\'s'
_ENDED = (
    "the transaction of a unit of work is the block's: it commits when the block ends, and what comes after commit() "
    "or rollback() in it needs another unit; a part of it is undone by itself within begin_nested()"
)
_DISPOSED = (
    "db.dispose(), or a db.configure() elsewhere, was called while the unit of work was under way, and closes every "
    "connection: call it before or after"
)


def add_remedy(error: BaseException, *, in_transaction: bool) -> None:
    """Note on ``error``, which a block raised, what to write instead, where that is known."""
    remedy = _remedy(error, in_transaction=in_transaction)
    if remedy is not None and remedy not in getattr(error, "__notes__", ()):
        error.add_note(remedy)


def note_disposal(error: BaseException) -> None:
    """Note on ``error`` that its connection was closed from here, if it tells of a lost one."""
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        error.add_note(_DISPOSED)


def _remedy(error: BaseException, *, in_transaction: bool) -> str | None:
    match error:
        case exc.DBAPIError() if sqlstate(error) == _ACTIVE_TRANSACTION:
            return _APART
        case exc.DBAPIError() if getattr(error.orig, ASKED_TO_BE_READ_ONLY, False):
            return _READ_ONLY
        case exc.ObjectNotExecutableError():
            return _IN_WORDS
    # Not those that derive from it: they have other reasons.
    return _ENDED if type(error) is exc.InvalidRequestError and not in_transaction else None
