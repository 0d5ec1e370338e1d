"""What PostgreSQL says of itself and of the login, asked in one statement; and the rules for the server as it is."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from db.migrations.pooler import is_shared
from db.settings.engines.postgresql import TRANSACTION_TIMEOUT_SINCE
from db.transactions.prologue_sql import TENANT_SETTING
from db.wire.search_path import CONSTRAINTS_FUNCTION, PROLOGUE_FUNCTION, schemas

from .finding import error, not_applicable, ok, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from db.settings import Settings

    from .finding import Finding

_QUERY = Path(__file__).with_suffix(".sql")
_NO_SCHEMAS_NAME = {"$user", "pg_temp"}  # each stands for one that is called otherwise, or is not there yet
_OLDEST_MAINTAINED = 14  # https://www.postgresql.org/support/versioning/
_MOST_SKEW_S = 5.0
_SOON_DAYS = 14
_DAY_S = 86_400
# In libpq's options: -c name=value, or --name=value, in which a hyphen stands for an underscore as well.
_TENANT_OPTION = re.compile(rf"(?:-c\s*|--){TENANT_SETTING}\s*=".replace("_", "[-_]"), re.IGNORECASE)
_PER_MAJOR = 10_000  # in server_version_num


@dataclass(frozen=True)
class Facts:
    """``said`` by the server; ``skew_s`` is how far its clock is ahead of this one; ``driver`` is the connection.

    ``is_shared``: a pooler that no setting speaks of lends the session for a transaction at a time.
    """

    said: dict[str, Any]
    skew_s: float
    driver: Any
    is_shared: bool = False

    @property
    def is_pooled(self) -> bool:
        """Whether a pooler stands in between: it makes up the number that a server gives a session."""
        return bool(self.said["process"] != self.driver.info.backend_pid)


def ask(conn: Connection, settings: Settings) -> Facts:
    """Ask the server, in one trip, and a pooler that nobody spoke of in some more."""
    path = [name for name in schemas(settings.schema or "") if name not in _NO_SCHEMAS_NAME]
    asked = {
        "schemas": path,
        "first": path[0] if path else None,
        "functions": [PROLOGUE_FUNCTION, CONSTRAINTS_FUNCTION],
        "tenant_setting": TENANT_SETTING,
    }
    began = time.time()
    said = json.loads(conn.execute(sa.text(_QUERY.read_text()), asked).scalar_one())
    facts = Facts(said, said["now"] - (began + time.time()) / 2, conn.connection.driver_connection)
    if settings.proxy == "none" and facts.is_pooled:
        return dataclasses.replace(facts, is_shared=is_shared(conn, said["process"]))
    return facts


def version(facts: Facts) -> Finding:
    """What it is, and what it lacks."""
    major, (since,) = facts.said["number"] // _PER_MAJOR, TRANSACTION_TIMEOUT_SINCE
    seen = f"PostgreSQL {facts.said['version']}"
    if major < _OLDEST_MAINTAINED:
        return warning("server", f"{seen}, which is maintained no more", "Upgrade it.", "start/database/")
    if major < since:
        # Nothing to do about today, and all else holds: no warning that everybody would learn to overlook.
        seen += f", before {since}: statements and the pauses between them are limited, a whole transaction is not"
    return ok("server", seen)


def clock(facts: Facts) -> Finding:
    """Tokens, and what expires, are compared across the two."""
    if abs(facts.skew_s) > _MOST_SKEW_S:
        return warning(
            "clock",
            f"the server's is {facts.skew_s:+.1f} s from this one's",
            "Set the clock: a token lives for minutes, and is signed by this one.",
            "run/aurora/#tokens",
        )
    return ok("clock", f"within {_MOST_SKEW_S:g} s of the server's")


def password(facts: Facts, settings: Settings) -> Finding:
    """Whether the server will go on taking it: one that has an end is refused from then on."""
    if settings.source == "iam":
        return not_applicable("password", "the login has a token in its place, whose end is not the role's")
    until = facts.said["password_until"]
    if until is None:
        return ok("password", "it has no end")
    days = int((until - facts.said["now"]) // _DAY_S)
    seen = f"the password of {facts.said['logged_in_as']} ends in {days} days (VALID UNTIL)"
    if days < _SOON_DAYS:
        remedy = "ALTER ROLE … VALID UNTIL 'infinity', or let the rotation say a later one."
        return warning("password", seen, remedy, "run/errors/#credentialserror")
    return ok("password", seen)


def writes(facts: Facts) -> Finding:
    """Whether the server, and the login, take them."""
    if facts.said["is_replica"]:
        return error(
            "writes",
            "the server is a replica, and takes none",
            "Name the writer's endpoint in DB_HOST, and this one in DB_READER_HOST.",
            "run/aurora/#readers",
        )
    if facts.said["is_read_only"]:
        return warning(
            "writes",
            "sessions of the login begin read-only (default_transaction_read_only)",
            "ALTER ROLE (or DATABASE) … RESET default_transaction_read_only, unless that is meant.",
            "run/lifecycle/#switchover",
        )
    return ok("writes", "the server is a writer")


def session(facts: Facts, settings: Settings) -> Finding:
    """What one begins with. A unit of work says its tenant anew, or that it has none; other work says nothing."""
    if facts.said["has_tenant"]:
        by, remedy = _sets_tenant(settings)
        return error(
            "session",
            f"it begins as a tenant's, by {by}: what a migration and db.engine() do without one is done as that tenant",
            remedy,
            "start/tenants/#is-anything-open",
        )
    if facts.said["is_row_security_off"]:
        return error(
            "session",
            "it begins with row_security off: a read of a table with policies fails, and shows no tenant's rows",
            f"Take row_security out of the options of {settings.prefix}URL and {settings.prefix}CONNECT_ARGS, of role "
            "and database (RESET row_security), and of a pooler's connect_query.",
            "start/tenants/#is-anything-open",
        )
    return ok("session", "it begins as no tenant's, and as policies find it")


def _sets_tenant(settings: Settings) -> tuple[str, str]:
    """Who does, as far as it shows, and what to do about that."""
    places = {
        "URL": settings.url.query.get("options") if settings.url is not None else None,
        "CONNECT_ARGS": settings.connect_args.get("options"),
    }
    for name, options in places.items():
        said = " ".join(options) if isinstance(options, tuple) else str(options or "")
        if _TENANT_OPTION.search(said):
            return f"the options of {settings.prefix}{name}", f"Take {TENANT_SETTING} out of them."
    remedy = f"ALTER ROLE (or DATABASE) … RESET {TENANT_SETTING}; else take it out of "
    return "the server or a pooler", remedy + "the pooler's connect_query, or of the server's configuration."


def proxy(facts: Facts, settings: Settings) -> Iterator[Finding]:
    """Whether what stands before the server is what the settings say, and fits what is prepared by name."""
    if facts.is_shared:
        yield warning(
            "proxy",
            "a pooler lends its connections to the server for a transaction at a time, and "
            f"{settings.prefix}PROXY is none",
            f"Set {settings.prefix}PROXY to pgbouncer, or to rds-proxy where it is that.",
            "reference/wire/#proxies",
        )
    elif settings.proxy == "none" and facts.is_pooled:
        yield ok(
            "proxy", "none: the pooler before the server gave this session to nobody else, as one of sessions does"
        )
    elif settings.proxy == "pgbouncer" and not facts.is_pooled:
        yield warning(
            "proxy",
            f"{settings.prefix}PROXY=pgbouncer, and the server itself answers",
            f"Leave {settings.prefix}PROXY out, or name the pooler in {settings.prefix}HOST.",
            "reference/wire/#proxies",
        )
    else:
        yield ok("proxy", settings.proxy)
    if settings.proxy == "none":
        yield not_applicable("prepared statements", "no proxy shares a session")
    elif settings.prepare:
        # What it is told of that, a pooler shows on its console and to nobody else.
        yield ok(
            "prepared statements", "named, which PgBouncer keeps from 1.21 on, unless max_prepared_statements is 0"
        )
    elif facts.driver.prepare_threshold is not None:
        yield warning(
            "prepared statements",
            f"prepare_threshold is {facts.driver.prepare_threshold}: names are prepared behind {settings.proxy}",
            "Leave prepare_threshold out: RDS Proxy pins the session for a name, and not every pooler knows it.",
            "reference/wire/#proxies",
        )
    else:
        yield ok("prepared statements", "none has a name")
