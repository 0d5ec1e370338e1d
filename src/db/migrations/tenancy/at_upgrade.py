"""The audit at the end of an upgrade: ahead of its COMMIT, so that one which is refused leaves nothing behind."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import sqlalchemy as sa

from db.errors import DOCUMENTATION, ConfigurationError
from db.telemetry.log import logger
from db.telemetry.statement_events import named

from .audit import IN_VAIN, audit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Connection

    from db.settings import Settings

    from .finding import Finding

_SHOWN = 20  # of the findings, in a line of the log
_NAMED = 3  # of them, in an error
_SEE = f"{DOCUMENTATION}start/tenants/#is-anything-open"
# Whom a table of tenants was granted to, but for its owner and whoever migrates. No row: there is no such table.
_GRANTED = sa.text("""
SELECT DISTINCT r.rolname
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute t ON t.attrelid = c.oid AND t.attname = 'tenant_id' AND NOT t.attisdropped
LEFT JOIN LATERAL (
    SELECT grantee FROM aclexplode(c.relacl)
    UNION SELECT x.grantee FROM pg_attribute a CROSS JOIN aclexplode(a.attacl) x WHERE a.attrelid = c.oid
) g ON g.grantee <> c.relowner
LEFT JOIN pg_roles r ON r.oid = g.grantee AND NOT r.rolsuper AND r.rolname <> current_user
WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'
AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
""")


def before_commit(
    settings: Settings, found: list[Finding], *, roles: Sequence[str] | None, allowed: Mapping[str, str] | None
) -> Callable[[Connection], None] | None:
    """What looks at a schema that an upgrade has made, and puts into ``found`` what it finds; None where nothing is to.

    For ``roles``, or for those that a table of tenants was granted to. What cannot be looked at is said, and neither
    warned of as a hole nor refused.
    """
    if settings.tenant_audit == "off" or settings.engine_kind.lacks.get("tenant") is not None:
        return None
    return functools.partial(_look, settings=settings, found=found, roles=roles, allowed=allowed)


def _look(
    conn: Connection,
    *,
    settings: Settings,
    found: list[Finding],
    roles: Sequence[str] | None,
    allowed: Mapping[str, str] | None,
) -> None:
    try:
        with conn.begin_nested():  # a statement that fails is not to take the migration with it
            granted = list(conn.execute(_GRANTED).scalars())
            if not granted and roles is None:
                return  # no table of tenants
            seen = [role for role in granted if role is not None] if roles is None else roles
            found += audit(conn, roles=seen, allowed=allowed)
    except sa.exc.DBAPIError as error:
        logger.warning("tenants were not audited", extra={"error": named(error), "see": _SEE})
        return
    if not found:
        return
    logger.warning(
        "tenants may not be kept apart",
        extra={"connection_event": "audit", "findings": [str(one) for one in found[:_SHOWN]], "see": _SEE},
    )
    holes = [str(one) for one in found if one.kind != IN_VAIN]
    if holes and settings.tenant_audit == "refuse":
        more = f" And {len(holes) - _NAMED} more." if len(holes) > _NAMED else ""
        problem = (
            f"DB_TENANT_AUDIT=refuse: {' '.join(holes[:_NAMED])}{more} Nothing of this upgrade is kept, but for what "
            f"it committed in an autocommit_block() of its own ({_SEE})"
        )
        raise ConfigurationError([problem])
