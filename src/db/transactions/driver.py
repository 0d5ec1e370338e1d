"""What a unit of work asks of the driver's connection: to say this in its flights, or at once where it has none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import exc

from db.errors import sqlstate
from db.telemetry.statement_events import OWN_STATEMENT
from db.wire.commit_outcome import unit_of
from db.wire.transaction_end import FlightState

from .logins import look_at_login

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.pool import PoolProxiedConnection

    from db.settings.engines.kinds import EngineKind
    from db.wire.commit_outcome import TellingPrologue, Unit
    from db.wire.riders import Command

    from .prologue import Prologue

_IN_FAILED_TRANSACTION = "25P02"


def flight_of(conn: Connection) -> FlightState | None:
    """The driver's connection below ``conn``, where it is one that flies."""
    driver = conn.connection.driver_connection
    return driver if isinstance(driver, FlightState) else None


def prepare(
    checkout: PoolProxiedConnection,
    prologue: Prologue,
    unit: Unit,
    *,
    isolation: str | None,
    read_only: bool,
    pooled: bool,
) -> None:
    """Tell a connection what its transaction will be; ``pooled``, other clients use its session after it."""
    below: Any = checkout.dbapi_connection
    try:
        serve = below.serve
    except AttributeError:
        driver: Any = checkout.driver_connection
        serve = driver.serve  # psycopg's, below the adapter that SQLAlchemy has for the loop
    serve(prologue, prologue.patience_s, unit, isolation=isolation, read_only=read_only, pooled=pooled)


def say(conn: Connection, command: Command) -> None:
    """Send ``command`` as a statement of its own, where nothing can ride."""
    text, values = command
    conn.exec_driver_sql(
        text.decode(),
        tuple(None if value is None else value.decode() for value in values or ()),
        execution_options={OWN_STATEMENT: True},
    )


def tell(conn: Connection, tenant: str | None, command: Command) -> None:
    """``ride`` with a command that says ``tenant``. The prologue does so from here on, too.

    For what undoes the command is a rollback of it all, and then the prologue is said again.
    """
    tell_tenant(conn, tenant)
    ride(conn, command)


def tell_tenant(conn: Connection, tenant: str | None) -> None:
    """From here on, what ``conn`` does is for ``tenant``."""
    if (prologue := _prologue_of(conn)) is not None:
        if tenant is not None:
            look_at_login(conn)
        prologue.tell(tenant)


def tenant_of(conn: Connection) -> str | None:
    """The tenant for which ``conn`` works; None for none, and outside of a unit of work."""
    prologue = _prologue_of(conn)
    return None if prologue is None else prologue.tenant


def _prologue_of(conn: Connection) -> TellingPrologue | None:
    serving = unit_of(conn.connection).connection
    return None if serving is None else serving.prologue


def ride(conn: Connection, command: Command) -> None:
    """Let ``command``, which gives no rows, go with the transaction's next statement or COMMIT: it costs no trip.

    An error of its own is raised there. Where the driver has no flights, it is sent at once.
    """
    flight = flight_of(conn)
    if flight is not None:
        text, values = command
        flight.riders.add(text, values or ())
        return
    take_along = getattr(conn.connection.dbapi_connection, "ride", None)  # asyncpg's
    if take_along is not None:
        take_along(command)
    else:
        say(conn, command)


def require_constraints(conn: Connection, kind: EngineKind) -> None:
    """Raise IntegrityError where COMMIT would, for a constraint that waits for it."""
    if kind.check_constraints is None:
        return
    result = conn.exec_driver_sql(kind.check_constraints)
    if result.returns_rows and (broken := result.first()) is not None:
        raise exc.IntegrityError(kind.check_constraints, None, ValueError(f"a foreign key fails: {tuple(broken)}"))


def begun_by(conn: Connection) -> int:
    """How many transactions have been opened for the unit of work of ``conn``; 0 where the driver does not tell."""
    serving = unit_of(conn.connection).connection
    return 0 if serving is None else serving.begun


def is_failed(conn: Connection) -> bool:
    """Whether the server refuses everything but a rollback."""
    flight = flight_of(conn)
    if flight is not None:
        return flight.failed
    unit = unit_of(conn.connection)
    if unit.connection is not None and unit.connection.failed is not None:
        return unit.connection.failed
    # A driver that does not say is asked, but only where something did fail.
    if not unit.statement_failed:
        return False
    try:
        conn.exec_driver_sql("SELECT 1", execution_options={OWN_STATEMENT: True})
    except exc.DBAPIError as error:
        if sqlstate(error) == _IN_FAILED_TRANSACTION:
            return True
        raise
    return False
