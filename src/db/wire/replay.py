"""Replay: a first flight that dies has committed nothing, so it is sent again, once, over a new connection.

Between SQLAlchemy and the driver's cursor, where a statement is still whole and the pool's record is at hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from db.errors import Verdict, verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
    from sqlalchemy.engine import ExecutionContext
    from sqlalchemy.pool import PoolProxiedConnection

    from .deferred_begin import FlightState

    DialectMixin = PGDialect_psycopg
else:
    # Mixed into the sync dialect and its async twin, which is why it stands on neither here.
    DialectMixin = object


class ReplayingDialect(DialectMixin):
    """Executes a statement, and once more where all that went wrong is that the connection was dead."""

    # Told of each connection that a replay replaced, before anything is sent over it, and why.
    on_replay: Callable[[PoolProxiedConnection, BaseException], None] | None = None

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: ExecutionContext | None = None) -> None:
        try:
            cursor.execute(statement, parameters)
        except self.loaded_dbapi.Error as error:
            self._replace_or_raise(error, cursor, context)
            cursor.execute(statement, parameters)

    def do_execute_no_params(self, cursor: Any, statement: str, context: ExecutionContext | None = None) -> None:
        try:
            cursor.execute(statement)
        except self.loaded_dbapi.Error as error:
            self._replace_or_raise(error, cursor, context)
            cursor.execute(statement)

    def do_executemany(
        self, cursor: Any, statement: str, parameters: Any, context: ExecutionContext | None = None
    ) -> None:
        try:
            cursor.executemany(statement, parameters)
        except self.loaded_dbapi.Error as error:
            self._replace_or_raise(error, cursor, context)
            cursor.executemany(statement, parameters)

    def _replace_or_raise(self, error: Exception, cursor: Any, context: ExecutionContext | None) -> None:
        """Put a new connection below ``cursor``, if all that ``error`` tells is that the kept one was dead."""
        if context is None:
            raise error
        proxied: Any = context.root_connection.connection
        record = proxied._connection_record
        if record is None:  # detached: no longer the pool's to replace
            raise error
        stale = flight_below(proxied)
        if not (stale.unproven and stale.closed) or stale._autocommit or verdict(error) is not Verdict.RECONNECT:
            raise error
        at_return = list(record.finalize_callback)  # puts the isolation level back; SQLAlchemy forgets it with the old
        record.invalidate(error)
        try:
            proxied.dbapi_connection = record.get_connection()
        except self.loaded_dbapi.Error:
            raise  # SQLAlchemy sees that the connection is lost
        except BaseException:
            context.root_connection.invalidate(error)  # else it would roll back on the dead one
            raise
        record.finalize_callback.extend(at_return)
        flight_below(proxied).take_over(stale)
        self._move_cursor(cursor, proxied)
        if self.on_replay is not None:
            self.on_replay(proxied, error)

    def _move_cursor(self, cursor: Any, proxied: PoolProxiedConnection) -> None:
        cursor.move_to(proxied.driver_connection)


def flight_below(proxied: PoolProxiedConnection) -> FlightState:
    """The driver's connection below a checkout."""
    return cast("FlightState", proxied.driver_connection)
