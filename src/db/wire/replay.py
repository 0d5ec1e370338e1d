"""Replay: a first flight that dies has committed nothing, so it is sent again over a new connection.

Between SQLAlchemy and the driver's cursor, where a statement is still whole and the pool's record is at hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from psycopg import pq

from db.errors import CAME_IN_COMMIT

from .first_flight import FirstFlight, asks_to_connect, reopen
from .serving import NotYet

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection
    from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
    from sqlalchemy.engine import ExecutionContext
    from sqlalchemy.pool import PoolProxiedConnection

    from .transaction_end import FlightState

    DialectMixin = PGDialect_psycopg
else:
    # Mixed into the sync dialect and its async twin, which is why it stands on neither here.
    DialectMixin = object


_IDLE = pq.TransactionStatus.IDLE


class ReplayingDialect(DialectMixin):
    """Executes a statement, and again where all that went wrong is that the connection was dead.

    A connection that the driver abandoned in the middle of an answer is taken from whoever holds it.
    """

    # The driver's connection writes down what becomes of a COMMIT (``commit_outcome``).
    notes_commits = True
    # Told of each connection that a replay replaced, before anything is sent over it, and why.
    on_replay: Callable[[PoolProxiedConnection, BaseException], None] | None = None

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: ExecutionContext | None = None) -> None:
        try:
            cursor.execute(statement, parameters)
        except BaseException as error:  # noqa: BLE001 - raised there, unless all can be made good
            self._again(error, cursor, context, cursor.execute, statement, parameters)

    def do_execute_no_params(self, cursor: Any, statement: str, context: ExecutionContext | None = None) -> None:
        try:
            cursor.execute(statement)
        except BaseException as error:  # noqa: BLE001 - raised there, unless all can be made good
            self._again(error, cursor, context, cursor.execute, statement)

    def do_executemany(
        self, cursor: Any, statement: str, parameters: Any, context: ExecutionContext | None = None
    ) -> None:
        try:
            cursor.executemany(statement, parameters)
        except BaseException as error:  # noqa: BLE001 - raised there, unless all can be made good
            self._again(error, cursor, context, cursor.executemany, statement, parameters)

    def do_commit(self, dbapi_connection: Any) -> None:
        try:
            dbapi_connection.commit()
        except BaseException as error:
            driver = self._driver(dbapi_connection.dbapi_connection)
            if not isinstance(error, self.loaded_dbapi.Error) and driver.pgconn.transaction_status != _IDLE:
                driver.abandon()  # SQLAlchemy takes its transaction for ended, and would end it no more
            if driver.abandoned:
                dbapi_connection.invalidate(error)
            raise

    def do_rollback(self, dbapi_connection: Any) -> None:
        if self.skip_autocommit_rollback and self.detect_autocommit_setting(dbapi_connection):  # type: ignore[no-untyped-call]
            return
        try:
            dbapi_connection.rollback()
        except self.loaded_dbapi.Error as error:
            driver = self._driver(dbapi_connection.dbapi_connection)
            if not driver.abandoned:
                if driver.is_commit_unknown():
                    setattr(error, CAME_IN_COMMIT, True)  # it takes the place of the one that came there
                raise
            dbapi_connection.invalidate()  # its end was the end of its transaction

    def do_rollback_twophase(
        self, connection: Connection, xid: Any, is_prepared: bool = True, recover: bool = False
    ) -> None:
        if self._driver(connection.connection.dbapi_connection).abandoned and not (is_prepared or recover):
            connection.invalidate()  # likewise
        else:
            super().do_rollback_twophase(connection, xid, is_prepared=is_prepared, recover=recover)  # type: ignore[no-untyped-call]

    def do_rollback_to_savepoint(self, connection: Connection, name: str) -> None:
        if self._driver(connection.connection.dbapi_connection).abandoned:
            connection.invalidate()  # likewise; its error would take the place of the one that ended it
        else:
            super().do_rollback_to_savepoint(connection, name)  # type: ignore[no-untyped-call]

    def _again(
        self,
        error: BaseException,
        cursor: Any,
        context: ExecutionContext | None,
        send: Callable[..., None],
        *statement: Any,
    ) -> None:
        flight = FirstFlight()
        with flight.time_is_up():
            while True:
                if isinstance(error, NotYet) and context is not None:
                    error.wait(context)
                else:
                    self._replace_or_raise(error, cursor, context, flight)
                try:
                    send(*statement)
                except BaseException as another:  # noqa: BLE001 - looked at in the next round
                    error = another
                else:
                    return

    def _replace_or_raise(
        self, error: BaseException, cursor: Any, context: ExecutionContext | None, flight: FirstFlight
    ) -> None:
        """Put a new connection below ``cursor``, if all that ``error`` tells is that the one below it was dead."""
        if context is None:
            raise error
        proxied: Any = context.root_connection.connection
        stale = self._driver(proxied.dbapi_connection)
        if stale.abandoned:
            context.root_connection.invalidate(error)  # else it would roll back on the dead one
            raise error
        record = proxied._connection_record
        if (
            not isinstance(error, self.loaded_dbapi.Error)
            or record is None  # detached: no longer the pool's to replace
            or not (stale.unproven and stale.closed)
            or stale._autocommit
            or not asks_to_connect(error)
        ):
            raise error
        try:
            proxied.dbapi_connection = reopen(record, error, flight)
        except self.loaded_dbapi.Error:
            raise  # SQLAlchemy sees that the connection is lost
        except BaseException:
            context.root_connection.invalidate(error)
            raise
        self._driver(proxied.dbapi_connection).take_over(stale)
        self._move_cursor(cursor, proxied)
        if self.on_replay is not None:
            self.on_replay(proxied, error)

    def _driver(self, dbapi_connection: Any) -> FlightState:
        driver: FlightState = dbapi_connection
        return driver

    def _driver_cursor(self, cursor: Any) -> Any:
        return cursor

    def _move_cursor(self, cursor: Any, proxied: PoolProxiedConnection) -> None:
        self._driver_cursor(cursor).move_to(proxied.driver_connection)


def flight_below(proxied: PoolProxiedConnection) -> FlightState:
    """The driver's connection below a checkout."""
    return cast("FlightState", proxied.driver_connection)
