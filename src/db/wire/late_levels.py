"""The isolation level of a unit of work, which is said where that begins: who says it later is told so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import exc

from .commit_outcome import is_at_work

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, Dialect

_TOO_LATE = (
    "the isolation level of a unit of work is said where it begins, by an argument of db.begin, db.session, db.run, "
    'db.once or db.batch: db.begin(isolation="SERIALIZABLE"); what cannot run in a transaction goes over '
    'db.engine().connect().execution_options(isolation_level="AUTOCOMMIT")'
)


def refuse_late_levels(dialect: Dialect) -> None:
    """Have ``dialect`` raise InvalidRequestError, as SQLAlchemy does, with what to write instead."""
    set_options = dialect.set_connection_execution_options

    def set_connection_execution_options(connection: Connection, opts: Mapping[str, Any]) -> None:
        if "isolation_level" in opts and is_at_work(connection):
            raise exc.InvalidRequestError(_TOO_LATE)
        set_options(connection, opts)

    dialect.set_connection_execution_options = set_connection_execution_options  # type: ignore[method-assign]
