"""Whether policies bind the login that works for a tenant: what the connection says of it without a trip.

PostgreSQL tells each client whether it is a superuser. That a role has BYPASSRLS or owns the tables it tells nobody
who does not ask: ``db.check`` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from db.environment.process import owner_of
from db.telemetry.log import warn_of_superuser

if TYPE_CHECKING:
    from sqlalchemy import Connection

# On what an engine shares with its copies: it is looked at once for each, as its connections have one login.
_LOOKED_AT = "db_login_looked_at"


def look_at_login(conn: Connection) -> None:
    """Warn, once a process and database, where a tenant is bound on a superuser's connection."""
    of_engine = conn.dialect.__dict__
    if _LOOKED_AT in of_engine:
        return
    of_engine[_LOOKED_AT] = True
    if _is_superuser(conn.connection.driver_connection):
        owner = owner_of(conn)
        warn_of_superuser(owner.database if owner is not None else None)


def _is_superuser(driver: Any) -> bool:
    if hasattr(driver, "get_settings"):  # asyncpg's
        return getattr(driver.get_settings(), "is_superuser", "off") == "on"
    pgconn = getattr(driver, "pgconn", None)
    return pgconn is not None and pgconn.parameter_status(b"is_superuser") == b"on"
