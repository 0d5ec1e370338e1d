"""``application_name``: under which name the server shows who is at work. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from db.settings import Settings

LONGEST_BYTES = 63  # PostgreSQL's NAMEDATALEN - 1; it cuts what is longer at its end


def session_name(settings: Settings) -> str:
    """The name of a connection: DB_APPLICATION_NAME, else the URL's, else ``own_name``."""
    given = settings.url.query.get("application_name") if settings.url is not None else None
    return settings.application_name or (given if isinstance(given, str) else None) or own_name(settings)


def own_name(settings: Settings) -> str:
    """The name where nobody has given one: the function's, and the database's where it is not the default one."""
    return "/".join(filter(None, (settings.function_name or "db", settings.database)))


def unit_name(name: str, request_id: str) -> str:
    """The name of one unit of work: ``name:request_id``. Where that is too long the end of ``name`` gives way."""
    suffix = f":{request_id}".encode(errors="replace")[:LONGEST_BYTES]
    return (name.encode(errors="replace")[: LONGEST_BYTES - len(suffix)] + suffix).decode(errors="ignore")


def name_for(settings: Settings, request_id: str | None) -> str | None:
    """The name of a unit of work in the invocation ``request_id``; None leaves it the session's."""
    if request_id is None or not settings.application_name_request_id:
        return None
    return unit_name(session_name(settings), request_id)
