"""How many connections the server, its database and the login allow, and what of them this process may take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .configured import most_connections
from .finding import error, not_applicable, ok, warning

if TYPE_CHECKING:
    from db.settings import Settings

    from .finding import Finding
    from .server import Facts

_NEARLY_ALL = 0.8
_FEW = "run/sizing/#what-if-there-are-too-few-connections"


def connections(facts: Facts, settings: Settings) -> Finding:
    """The smallest of the limits is what counts."""
    said = facts.said
    if settings.proxy != "none":
        return not_applicable("connections", f"{settings.proxy} counts them, and lends its own")
    limits = {
        f"max_connections less {said['reserved']} reserved": said["of_server"] - said["reserved"],
        f"CONNECTION LIMIT of {said['logged_in_as']}": said["of_role"],
        "CONNECTION LIMIT of the database": said["of_database"],
    }
    name, limit = min(((name, limit) for name, limit in limits.items() if limit >= 0), key=lambda one: one[1])
    most, taken = most_connections(settings), int(said["taken"])
    seen = f"{limit} ({name}), enough for {limit // most} environments of {most}; {taken} are open on the server"
    if most > limit:
        return error(
            "connections",
            f"{seen}: this process alone may ask for {most}",
            f"Lower {settings.prefix}POOL_SIZE and {settings.prefix}MAX_OVERFLOW, or raise the limit.",
            "run/plan/",
        )
    # Of a server before PostgreSQL 14 there is no such limit. Elsewhere than in Lambda nobody is frozen.
    keeps = settings.pool == "queue" and settings.function_name is not None and said["idle_session_ms"] == 0
    if taken >= _NEARLY_ALL * (said["of_server"] - said["reserved"]):
        remedy = "Make the sum with python -m devkit plan."
        if keeps:
            login = said["logged_in_as"]
            remedy += f" Frozen environments give theirs back by ALTER ROLE {login} SET idle_session_timeout = '10s'."
        return warning("connections", seen, remedy, _FEW if keeps else "run/plan/")
    if keeps:
        seen += "; environments that are frozen keep theirs (idle_session_timeout is off)"
    return ok("connections", seen)
