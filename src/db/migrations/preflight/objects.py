"""What the layer needs of the schema, and what the login may do there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from db.wire.search_path import CONSTRAINTS_FUNCTION, PROLOGUE_FUNCTION, qualified

from .finding import error, not_applicable, ok, warning

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from db.settings import Settings

    from .finding import Finding
    from .server import Facts


_ONCE_PAGE = "use/once/#the-table"
_OF_WHO_PURGES = {"SELECT", "DELETE"}  # what purged_by= of create_once_table is granted
_ONCE_COLUMNS = {"tenant_id", "key", "payload_hash", "result", "expires_at"}


def schema(facts: Facts, settings: Settings) -> Finding:
    """Those of DB_SCHEMA: a name that is none is passed over, so that tables are looked for elsewhere."""
    named = f"{settings.prefix}SCHEMA"
    if not facts.said["schemas"]:
        return not_applicable("schema", f"{named} is not set: the login's own search path holds")
    missing = [one["name"] for one in facts.said["schemas"] if not one["is_there"]]
    closed = [one["name"] for one in facts.said["schemas"] if one["is_there"] and not one["may_use"]]
    if missing:
        return error(
            "schema",
            f"{named} names what is not there: {', '.join(missing)}",
            "Correct the name, or let a migration make it: the server passes over it without a word.",
            "reference/settings/",
        )
    if closed:
        return error(
            "schema",
            f"{facts.said['login']} may not use {', '.join(closed)}",
            f"GRANT USAGE ON SCHEMA {closed[0]} TO {facts.said['login']}.",
            "start/database/#before-the-first-deploy",
        )
    return ok("schema", ", ".join(one["name"] for one in facts.said["schemas"]))


def privileges(facts: Facts) -> Finding:
    """Whether there is anything that the login may read or write."""
    there, may_use = facts.said["tables"]["are_there"], facts.said["tables"]["may_use"]
    if superuser := facts.said["superuser"]:
        return warning(
            "privileges",
            f"{superuser} is a superuser, whom nothing is refused",
            "Let functions log in as a role that has no more than what it needs.",
            "start/database/#before-the-first-deploy",
        )
    if not there:
        return not_applicable("privileges", "the database has no table yet")
    if not may_use:
        return error(
            "privileges",
            f"{facts.said['login']} may use none of {there} tables and views",
            "Grant it what it needs, in the migration that makes a table: grant(op, …) of db.migrations.operations.",
            "start/database/#migrations",
        )
    if sequences := facts.said["closed_sequences"]:
        return error(
            "privileges",
            f"{facts.said['login']} may insert, and not use the sequence that a column takes its default from: "
            f"{', '.join(sequences)}",
            f"GRANT USAGE ON SEQUENCE {sequences[0]} TO {facts.said['login']}, or make the column an identity.",
            "start/database/#migrations",
        )
    return ok("privileges", f"{facts.said['login']} may use {may_use} of {there} tables and views")


def once(facts: Facts) -> Finding:
    """The table of ``db.once``, which not every function uses."""
    found, elsewhere = facts.said["once"], facts.said["once_elsewhere"]
    if found is None and elsewhere is not None:
        return warning(
            "once",
            f"db_once is in the schema {elsewhere}, which is not on the search path: db.once would be refused",
            f"Name {elsewhere} in DB_SCHEMA, or let a migration with that setting make the table.",
            _ONCE_PAGE,
        )
    if found is None:
        return not_applicable("once", "there is no table db_once: db.once would be refused")
    granted = {right for right, is_granted in found["rights"].items() if is_granted}
    if not granted:
        return not_applicable("once", "the login has no privilege on db_once: db.once would be refused")
    if granted == _OF_WHO_PURGES:
        return ok("once", "the table db_once is there, and the login may purge it; db.once would be refused")
    return _once_used(found, lacking=sorted(found["rights"].keys() - granted), login=facts.said["login"])


def _once_used(found: Mapping[str, Any], *, lacking: Sequence[str], login: str) -> Finding:
    if lacking:
        remedy = "Name the role in used_by= of create_once_table."
        return error("once", f"{login} lacks {', '.join(lacking)} on db_once", remedy, _ONCE_PAGE)
    if missing := sorted(_ONCE_COLUMNS - {*found["columns"]}):
        remedy = "Make the table by create_once_table(op, …)."
        return error("once", f"db_once has no column {', '.join(missing)}", remedy, _ONCE_PAGE)
    if not found["is_keyed"]:
        seen = "no unique key of db_once is (tenant_id, key): what is to be done once is done twice"
        return error("once", seen, "Let a migration give the table that primary key.", _ONCE_PAGE)
    return ok("once", "the table db_once is there, with what the login needs of it")


def prologue(facts: Facts, settings: Settings) -> Finding:
    """The function that opens each transaction behind RDS Proxy."""
    if settings.proxy != "rds-proxy":
        return not_applicable("prologue function", f"{settings.prefix}PROXY is {settings.proxy}")
    needs = {
        PROLOGUE_FUNCTION: ("create_prologue_function", "by which RDS Proxy is told tenant and limits"),
        CONSTRAINTS_FUNCTION: ("create_constraints_function", "by which db.batch looks at deferred constraints"),
    }
    for function, (makes_it, what_for) in needs.items():
        may_call, name = facts.said["functions"][function], qualified(function, settings.schema)
        if not may_call:
            seen = f"there is no function {name}" if may_call is None else f"the login may not call {name}"
            return error(
                "prologue function",
                f"{seen}, {what_for}",
                f"A migration makes it: {makes_it}(op, used_by=[role]) of db.migrations.operations.",
                "reference/wire/#proxies",
            )
    return ok("prologue function", f"the login may call {qualified(PROLOGUE_FUNCTION, settings.schema)}")
