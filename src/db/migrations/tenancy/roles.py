"""Rules for the roles that functions log in as: that policies bind them, and that nothing is chosen for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from db.transactions.prologue_sql import TENANT_SETTING

from .finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .catalogue import Catalogue


# Whose members reach the server's files, or run programs on it: https://www.postgresql.org/docs/18/predefined-roles.html
# RDS grants replication as a role, as nobody has the attribute there; its superuser is a member of that:
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Appendix.PostgreSQL.CommonDBATasks.Roles.html
_OF_THE_SERVER = {
    "pg_execute_server_program",
    "pg_read_server_files",
    "pg_write_server_files",
    "rds_replication",
    "rds_superuser",
}
_OFF = {"off", "false", "no", "0"}


def attributes(catalogue: Catalogue) -> Iterator[Finding]:
    """Above policies, or able to become so."""
    for name in catalogue.audited:
        role = catalogue.roles.get(name)
        if role is None:
            yield Finding("no-role", name, "there is no such role", "Name the roles that the functions log in as.")
            continue
        if role["superuser"]:
            yield Finding("superuser", name, "no policy binds a superuser", "ALTER ROLE … NOSUPERUSER.")
        if role["bypasses"]:
            yield Finding("bypasses", name, "no policy binds it (BYPASSRLS)", "ALTER ROLE … NOBYPASSRLS.")
        if role["replicates"]:
            yield Finding("replicates", name, "it may read the changes of all tenants", "ALTER ROLE … NOREPLICATION.")
        if role["makes_roles"]:
            yield Finding("makes-roles", name, "it may give itself other roles", "ALTER ROLE … NOCREATEROLE.")


def memberships(catalogue: Catalogue) -> Iterator[Finding]:
    """SET ROLE makes it another: one that is above policies, or that owns what they protect."""
    owners = {table.owner for table in catalogue.of_tenants()}
    for name in catalogue.audited:
        if name in owners:
            yield Finding(
                "owns-tables", name, "an owner may take its tables' policies away", "Let another role own them."
            )
        for other in catalogue.roles.get(name, {}).get("may_be", ()):
            above = catalogue.roles.get(other, {})
            if above.get("superuser") or above.get("bypasses") or above.get("replicates") or other in _OF_THE_SERVER:
                yield Finding(
                    "may-bypass", name, f"it is a member of {other}, which no policy binds", f"REVOKE {other}."
                )
            elif other in owners:
                yield Finding(
                    "may-own", name, f"it is a member of {other}, which owns tables of tenants", f"REVOKE {other}."
                )


def presets(catalogue: Catalogue) -> Iterator[Finding]:
    """What a session begins with, where nobody has said anything."""
    for preset in catalogue.presets:
        if preset["role"] not in {"", *catalogue.audited}:
            continue
        setting, _, value = preset["setting"].partition("=")
        whose = preset["role"] or "the database"
        # The server compares names without regard to case, and keeps one as it was written first.
        setting = setting.lower()
        if setting == TENANT_SETTING and value:
            yield Finding(
                "preset-tenant",
                whose,
                f"its sessions begin as the tenant {value!r}, so work without one is that tenant's",
                f"ALTER ROLE (or DATABASE) … RESET {TENANT_SETTING}.",
            )
        elif setting == "role":
            yield Finding("preset-role", whose, f"its sessions begin as {value}", "ALTER ROLE … RESET role.")
        elif setting == "row_security" and value.lower() in _OFF:
            yield Finding(
                "preset-row-security",
                whose,
                "a read of a table with policies fails instead of showing the tenant's rows",
                "ALTER ROLE (or DATABASE) … RESET row_security.",
            )


RULES = (attributes, memberships, presets)
