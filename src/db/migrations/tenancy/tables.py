"""Rules for a table that holds rows of tenants: its policies, its column, its keys.

A rule takes the catalogue and one table, and yields what is wrong with it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from db.transactions.prologue_sql import TENANT_SETTING

from .catalogue import COMMANDS, FOREIGN, MATERIALIZED, PUBLIC, VIEW
from .clauses import (
    SETTING,
    cast_of_none,
    errs_unset,
    finds_tenant,
    keeps_to_column,
    names_column,
    names_tenant,
)
from .finding import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .catalogue import Catalogue, Relation

    Rule = Callable[[Catalogue, Relation], Iterator[Finding]]

_ALL, _INSERT = "*", "a"  # pg_policy.polcmd
_OTHER_SETTING = re.compile(r"current_setting\('([^']+)'")
_REMEDY = "Call enable_tenant_rls in a migration."


def row_security(_: Catalogue, table: Relation) -> Iterator[Finding]:
    """On, and for the owner too."""
    if table.kind == FOREIGN:
        yield Finding(
            "foreign-table",
            table.name,
            "it is a foreign table, which row-level security does not cover",
            "Keep tenants apart on the server that has its rows, and revoke it from the functions' roles here.",
        )
        return
    if not table.secured:
        yield Finding("not-secured", table.name, "row-level security is off, so all rows are everybody's", _REMEDY)
    if not table.forced:
        yield Finding("not-forced", table.name, f"row-level security does not bind its owner {table.owner}", _REMEDY)


def policies(catalogue: Catalogue, table: Relation) -> Iterator[Finding]:
    """For each command that a role may give, a policy that lets its rows through, and none that lets others."""
    if table.kind == FOREIGN or not table.secured:
        return
    for policy in table.policies:
        if policy["permissive"] and _meets(policy, catalogue) and not _restricted(catalogue, table, policy):
            yield from _weak(catalogue, table, policy)
    for role, rights in table.rights.items():
        covered, covered_at_once = (
            _covered(table, catalogue.names(role)),
            _covered(table, catalogue.names_at_once(role)),
        )
        for command in COMMANDS.values():
            if command in rights and command not in covered:
                yield Finding(
                    "no-policy",
                    f"{table.name} for {role}",
                    f"no policy lets it {command} anything, though it is granted",
                    "Give the table a policy for all commands, or revoke what is not needed.",
                )
            elif command in table.at_once.get(role, ()) and command not in covered_at_once:
                yield Finding(
                    "policy-not-inherited",
                    f"{table.name} for {role}",
                    f"what lets it {command} anything is for {_meant(catalogue, table, role, command)}, of which it is "
                    "a member without inheriting: it finds no row",
                    "Name the role in the policy (ALTER POLICY … TO …), or let it inherit: GRANT … WITH INHERIT TRUE, "
                    "or ALTER ROLE … INHERIT before PostgreSQL 16.",
                )


def _covered(table: Relation, names: set[str]) -> set[str]:
    """The commands for which a policy lets something through for one of ``names``."""
    return {
        command
        for policy in table.policies
        if policy["permissive"] and set(policy["roles"]) & names
        for command in _commands(policy)
    }


def _commands(policy: dict[str, Any]) -> Iterable[str]:
    return COMMANDS.values() if policy["command"] == _ALL else [COMMANDS[policy["command"]]]


def _meant(catalogue: Catalogue, table: Relation, role: str, command: str) -> str:
    """The roles that ``role`` may become and that a policy for ``command`` is for."""
    named = {
        name
        for policy in table.policies
        if policy["permissive"] and command in _commands(policy)
        for name in policy["roles"]
    }
    return ", ".join(sorted(named & catalogue.names(role)))


def _restricted(catalogue: Catalogue, table: Relation, policy: dict[str, Any]) -> bool:
    """Whether a restrictive policy keeps to the tenant wherever ``policy`` lets rows through."""
    return any(
        not other["permissive"]
        and other["command"] in {_ALL, policy["command"]}
        and (PUBLIC in other["roles"] or {*policy["roles"]} <= {*other["roles"]})
        and _keeps_to_tenant(other, catalogue.column)
        for other in table.policies
    )


def _keeps_to_tenant(policy: dict[str, Any], column: str) -> bool:
    # Without a USING of its own it restricts no read; without a WITH CHECK, its USING holds for that as well.
    needed = policy["check"] if policy["command"] == _INSERT else policy["using"]
    clauses = (needed, policy["check"] or needed)
    return all(text is not None and keeps_to_column(text, column) for text in clauses)


def _weak(catalogue: Catalogue, table: Relation, policy: dict[str, Any]) -> Iterator[Finding]:
    where = f"policy {policy['name']} on {table.name}"
    for clause in ("using", "check"):
        text = policy[clause]
        if text is None:
            continue
        name = {"using": "USING", "check": "WITH CHECK"}[clause]
        others = set(_OTHER_SETTING.findall(text)) - {TENANT_SETTING}
        if not names_tenant(text):
            why = f"compares with {min(others)}, and not with {TENANT_SETTING}" if others else "asks for no tenant"
            yield Finding("policy-without-tenant", where, f"{name} {why}: {text}", _REMEDY)
        elif not names_column(text, catalogue.column):
            yield Finding(
                "policy-without-column", where, f"{name} does not look at {catalogue.column}: {text}", _REMEDY
            )
        elif not keeps_to_column(text, catalogue.column):
            yield Finding(
                "policy-with-a-way-around",
                where,
                f"{name} can hold for rows that are not the tenant's: {text}",
                f"Let all of it, or a part that AND joins, be {catalogue.column} = the tenant; say an exception in a "
                "policy of its own, for the role that needs it.",
            )
        else:
            yield from _frail(where, name, text)


def _frail(where: str, name: str, text: str) -> Iterator[Finding]:
    """A policy that keeps tenants apart, by failing where it ought to show nothing."""
    if errs_unset(text):
        yield Finding(
            "policy-errs-unset",
            where,
            f"{name} fails on a connection that has not had a tenant: {text}",
            "Pass true as the second argument of current_setting.",
        )
    if (cast := cast_of_none(text)) is not None:
        yield Finding(
            "policy-errs-empty",
            where,
            f"{name} casts the tenant to {cast}, which fails without one: it is '' then: {text}",
            "Compare with NULLIF(current_setting(…, true), '').",
        )


def column(catalogue: Catalogue, table: Relation) -> Iterator[Finding]:
    """The tenant's column fills itself, is never empty, and compares as written."""
    found = table.column(catalogue.column)
    if found is None:
        return
    name = f"{table.name}.{catalogue.column}"
    if not found["notnull"]:
        yield Finding("nullable", name, "it may be NULL, and such a row is nobody's", "Add NOT NULL.")
    default = found["default"]
    if default is None or not SETTING.search(default):
        yield Finding(
            "no-default" if default is None else "other-default",
            name,
            "it has no default, so each INSERT has to name the tenant"
            if default is None
            else f"its default is not the unit's tenant: {default}",
            f"Set the default current_setting('{TENANT_SETTING}').",
        )
    if found["type"].startswith("character(") or found["type"] == "character" or not found["deterministic"]:
        yield Finding(
            "loose-comparison",
            name,
            f"as {found['type']} it may equal a tenant of another spelling",
            "Make it text with a deterministic collation, uuid or an integer.",
        )


def keys(catalogue: Catalogue, table: Relation) -> Iterator[Finding]:
    """An index finds a tenant's rows, and what is unique is so for a tenant."""
    tenant = catalogue.column
    if table.kind != FOREIGN and not any(
        index["valid"] and not index["partial"] and index["columns"][:1] == [tenant] for index in table.indexes
    ):
        yield Finding(
            "no-index",
            table.name,
            f"no index begins with {tenant}, so each read goes over the rows of all tenants",
            f"Put {tenant} first in its primary key, or make an index that begins with it.",
        )
    for index in table.indexes:
        if index["unique"] and tenant not in index["columns"]:
            yield Finding(
                "unique-for-all",
                f"{index['name']} on {table.name}",
                "it is unique over all tenants, so one tenant's error tells of another's row",
                f"Put {tenant} into it.",
            )


def rights(_: Catalogue, table: Relation) -> Iterator[Finding]:
    """What row-level security does not bind."""
    for role, granted in table.rights.items():
        for privilege in sorted({*granted} & {"TRUNCATE", "REFERENCES", "TRIGGER"}):
            yield Finding(
                f"may-{privilege.lower()}",
                f"{table.name} for {role}",
                f"{privilege} is above all policies",
                f"Revoke {privilege}: grant the commands that the functions give, one by one.",
            )


def references(catalogue: Catalogue, table: Relation) -> Iterator[Finding]:
    """What refers to a tenant's row stays with the tenant."""
    tenant = catalogue.column
    for key in table.foreign_keys:
        if catalogue.has_tenant(catalogue.relations.get(key["table"])) and [tenant, tenant] not in key["columns"]:
            yield Finding(
                "reference-to-another",
                f"{key['name']} on {table.name}",
                f"its check is above all policies, so a row can refer to {key['table']} of another tenant",
                f"Refer by ({tenant}, …) to a key that has {tenant}.",
            )


def unclaimed(catalogue: Catalogue, table: Relation) -> Iterator[Finding]:
    """A table of no tenant that functions see. It may be meant to be shared, which is to be said."""
    if table.kind in {VIEW, MATERIALIZED} or catalogue.has_tenant(table):
        return
    for role in sorted(table.rights):
        # Rows that each policy of the role's finds a tenant for by another way, as by a subquery, are apart as well.
        clauses = [
            clause
            for policy in table.policies
            if policy["permissive"] and set(policy["roles"]) & catalogue.names(role)
            for clause in (policy["using"], policy["check"])
            if clause is not None
        ]
        if not table.secured or not all(map(finds_tenant, clauses)):
            yield Finding(
                "no-tenant",
                f"{table.name} for {role}",
                f"it has no column {catalogue.column}, so its rows are all tenants'",
                "Give it the column and a policy, or allow it with a reason.",
            )


def _meets(policy: dict[str, Any], catalogue: Catalogue) -> bool:
    """Whether the policy is one for a role that is audited, by its own name or by a role that it is a member of."""
    return any(set(policy["roles"]) & catalogue.names(role) for role in catalogue.audited)


OF_TENANTS: tuple[Rule, ...] = (row_security, policies, column, keys, rights)
"""For each table with the tenant's column."""
OF_PARTS: tuple[Rule, ...] = (keys,)
"""For each such table whose rows are reached through another's name only: what is unique there is so for that too."""
OF_ALL: tuple[Rule, ...] = (references, unclaimed)
"""For each relation."""
