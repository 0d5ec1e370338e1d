"""The statements that pass through SQLAlchemy, of whichever engine: once for each way in which one was sent.

An engine may be made at any time, so the listener is on the class of all, and gone when the test has ended. What goes
to a driver past SQLAlchemy is not seen.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, event

from db.telemetry.fingerprint import Fingerprint, fingerprint

from .placeholders import Numbered, is_psycopg, numbered, sent_types

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection


@dataclass(frozen=True)
class Sent:
    """A statement as it was sent, and by whom.

    ``cannot`` says why it has no plan to ask for, where that is known already; ``statement`` is None then.
    ``search_path`` is None where the driver was not told it (servers before PostgreSQL 18).
    """

    fingerprint: Fingerprint
    statement: Numbered | None
    types: tuple[int, ...]
    role: str
    tenant: str | None
    search_path: str | None
    cannot: str = ""


class Watch:
    """Notes what is sent to ``database``, and that something was sent elsewhere."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._sent: dict[tuple[object, ...], Sent] = {}

    def taken(self) -> list[Sent]:
        """What was sent since the last call."""
        sent, self._sent = self._sent, {}
        return list(sent.values())

    def before_cursor_execute(  # noqa: PLR0917 - SQLAlchemy's signature
        self, conn: Connection, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> None:
        """SQLAlchemy's event, by its name and with its arguments."""
        del cursor
        one = parameters[0] if executemany and parameters else parameters
        values = one.values() if hasattr(one, "values") else one or ()
        login = _login(conn)
        # Of one fingerprint there is one plan for each role and each choice of types.
        seen = fingerprint(statement)
        key = (seen.id, *login, *map(type, values))
        if key not in self._sent:
            none_given = not one and getattr(context, "no_parameters", False)
            self._sent[key] = self._noted(conn, seen, statement, None if none_given else one, login)

    def _noted(
        self, conn: Connection, seen: Fingerprint, statement: str, parameters: Any, login: tuple[str, str]
    ) -> Sent:
        role, database = login
        cannot = ""
        types: tuple[int, ...] = ()
        given = numbered(statement, conn.dialect.paramstyle, parameters)
        driver_connection = conn.connection.driver_connection
        if conn.dialect.name != "postgresql":
            cannot = f"it was sent to {conn.dialect.name}"
        elif database != self._database:
            cannot = f"it was sent to the database {database}, which is not the test's"
        elif given is None:
            cannot = f"the placeholders of {conn.dialect.driver} are not known here"
        else:
            try:
                types = sent_types(given, driver_connection)
            except Exception as error:  # noqa: BLE001 - a value of any kind; the driver will say the same
                cannot = f"its values cannot be sent: {type(error).__name__}"
        return Sent(
            seen,
            None if cannot else given,
            types,
            role,
            tenant=_tenant(conn),
            search_path=_search_path(driver_connection),
            cannot=cannot,
        )


@contextlib.contextmanager
def watching(database: str) -> Iterator[Watch]:
    """Note what is sent to ``database`` within the block."""
    watch = Watch(database)
    # SQLAlchemy turns it on with the first listener and never off: whoever counts calls in a later test would see it.
    had_events = Engine._has_events  # noqa: SLF001
    event.listen(Engine, "before_cursor_execute", watch.before_cursor_execute)
    try:
        yield watch
    finally:
        event.remove(Engine, "before_cursor_execute", watch.before_cursor_execute)
        Engine._has_events = had_events  # noqa: SLF001


def _login(conn: Connection) -> tuple[str, str]:
    """Role and database, as the driver knows them: an engine's URL may leave both to whoever connects."""
    driver_connection: Any = conn.connection.driver_connection
    if is_psycopg(driver_connection):
        return driver_connection.info.user, driver_connection.info.dbname
    known = getattr(driver_connection, "_params", None)  # asyncpg's own, which has no public way to ask
    if known is not None:
        return known.user, known.database
    return conn.engine.url.username or "", conn.engine.url.database or ""


def _tenant(conn: Connection) -> str | None:
    """The tenant that a unit of work of ``db`` says; None elsewhere."""
    for one in (conn.connection.dbapi_connection, conn.connection.driver_connection):
        prologue = getattr(one, "prologue", None)
        if prologue is not None:
            tenant: str | None = prologue.tenant
            return tenant
    return None


def _search_path(driver_connection: Any) -> str | None:
    if is_psycopg(driver_connection):
        said = driver_connection.pgconn.parameter_status(b"search_path")
        return None if said is None else said.decode()
    settings = getattr(driver_connection, "get_settings", None)
    return getattr(settings(), "search_path", None) if settings is not None else None
