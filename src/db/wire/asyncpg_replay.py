"""Replay on asyncpg: what had done nothing when its connection died is done again over a new one.

asyncpg has no flights: what is due (``asyncpg_due``), and the first statement, are round trips of their own. Until the
first statement of its holder's has been answered nothing was done, whatever else was: no COMMIT was sent, so the server
has undone the rest. So the promise is that of ``replay``; a second statement is never sent again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .first_flight import FirstFlight, asks_to_connect, reopen
from .statement_kinds import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
    from sqlalchemy.engine import ExecutionContext
    from sqlalchemy.pool import PoolProxiedConnection

    from .asyncpg_connections import UnitAdapter

    DialectMixin = PGDialect_asyncpg
else:
    # Mixed into the dialect, which is why it does not stand on SQLAlchemy's.
    DialectMixin = object


class ReplayingDialect(DialectMixin):
    """Begins a unit, or executes its first statement, and again where all that went wrong is a dead connection."""

    # The driver's connection writes down what becomes of a COMMIT (``commit_outcome``).
    notes_commits = True
    # Told of each connection that was replaced before anything was done over it, and why.
    on_replay: Callable[[PoolProxiedConnection, BaseException], None] | None = None

    def do_begin(self, dbapi_connection: Any) -> None:
        """Open a unit's transaction at once, as statements of the driver's own go around the adapter."""
        try:
            dbapi_connection.dbapi_connection.open()
        except self.loaded_dbapi.Error as error:
            self._again(error, dbapi_connection)

    def settle(self, checkout: Any) -> None:
        """Send what is due on ``checkout`` now, over a connection that lives, for what can be sent only once."""
        adapter: UnitAdapter = checkout.dbapi_connection
        if not adapter.unproven:
            return
        try:
            adapter.settle()
        except self.loaded_dbapi.Error as error:
            self._again(error, checkout, lambda another: another.settle())

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: ExecutionContext | None = None) -> None:
        self._send(cursor, context, cursor.execute, statement, parameters)

    def do_execute_no_params(self, cursor: Any, statement: str, context: ExecutionContext | None = None) -> None:
        self._send(cursor, context, cursor.execute, statement)

    def do_executemany(
        self, cursor: Any, statement: str, parameters: Any, context: ExecutionContext | None = None
    ) -> None:
        self._send(cursor, context, cursor.executemany, statement, parameters)

    def _send(
        self, cursor: Any, context: ExecutionContext | None, send: Callable[..., None], statement: str, *parameters: Any
    ) -> None:
        adapter: UnitAdapter = cursor._adapt_connection
        kind = kind_of(statement)
        if kind.can_wait and not any(parameters) and adapter.postpone(statement, kind):
            return
        if context is None or adapter.has_sent or adapter.autocommit:
            send(statement, *parameters)
            return
        try:
            send(statement, *parameters)
        except self.loaded_dbapi.Error as error:
            checkout: Any = context.root_connection.connection
            try:
                self._again(error, checkout, lambda _: send(statement, *parameters), cursor)
            except self.loaded_dbapi.Error:
                raise  # SQLAlchemy sees that the connection is lost
            except BaseException:
                context.root_connection.invalidate(error)  # else it would roll back on the dead one
                raise

    def _again(
        self, error: Exception, checkout: Any, send: Callable[[UnitAdapter], None] | None = None, cursor: Any = None
    ) -> None:
        """Open the transaction of ``checkout`` over a new connection, and ``send`` there what ``cursor`` did here."""
        flight = FirstFlight()
        with flight.time_is_up():
            while True:
                self._replace_or_raise(error, checkout, flight)
                adapter: UnitAdapter = checkout.dbapi_connection
                try:
                    adapter.open()
                    if cursor is not None:
                        cursor._adapt_connection, cursor._connection = adapter, adapter._connection
                    if send is not None:
                        send(adapter)
                except self.loaded_dbapi.Error as another:
                    error = another
                else:
                    return

    def _replace_or_raise(self, error: Exception, checkout: Any, flight: FirstFlight) -> None:
        """Put a new connection below ``checkout``, if all that ``error`` tells is that the one below it was dead."""
        stale: UnitAdapter = checkout.dbapi_connection
        record = checkout._connection_record
        if (
            record is None  # detached: no longer the pool's to replace
            or not (stale.unproven and stale.driver_connection.is_closed())
            or not asks_to_connect(error)
        ):
            raise error
        checkout.dbapi_connection = reopen(record, error, flight)
        checkout.dbapi_connection.take_over(stale)
        if stale.unit is not None:
            stale.unit.statement_failed = False  # what did is made good
        if self.on_replay is not None:
            self.on_replay(checkout, error)

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        return getattr(connection, "abandoned", False) or bool(super().is_disconnect(e, connection, cursor))  # type: ignore[no-untyped-call]
