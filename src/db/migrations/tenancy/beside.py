"""Rules for what stands beside tables: views, functions, sequences, schemas, and the rights of tables to come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .catalogue import COMMANDS, MATERIALIZED, VIEW
from .finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .catalogue import Catalogue


def views(catalogue: Catalogue) -> Iterator[Finding]:
    """A view reads with its owner's rights unless it is told otherwise, a materialised one has read already."""
    for view in catalogue.relations.values():
        # Rows are deleted through it without being read.
        readers = sorted(role for role, rights in view.rights.items() if {*rights} & {*COMMANDS.values()})
        if view.kind not in {VIEW, MATERIALIZED} or view.closed or not readers or not catalogue.shows_tenants(view):
            continue
        if view.kind == MATERIALIZED:
            yield Finding(
                "materialized-view",
                f"{view.name} for {', '.join(readers)}",
                "its rows are those of all tenants, and no policy covers it",
                "Revoke it, and let a view or a function with a tenant's condition read it.",
            )
        elif not view.invoker:
            yield Finding(
                "view-of-its-owner",
                f"{view.name} for {', '.join(readers)}",
                f"it shows what {view.owner} may see, and not what its reader may",
                "ALTER VIEW … SET (security_invoker = true).",
            )


def rewriting(catalogue: Catalogue) -> Iterator[Finding]:
    """What a rule does instead of a command, or as well, it does with the rights of the table's or view's owner."""
    for relation in catalogue.relations.values():
        writers = sorted(role for role, rights in relation.rights.items() if {*rights} & {*COMMANDS.values()})
        if writers and not relation.closed:
            for rule in relation.rules:
                yield Finding(
                    "rule-of-its-owner",
                    f"{rule} on {relation.name} for {', '.join(writers)}",
                    f"it reaches other tables as {relation.owner}, whoever gives the command",
                    "Let a trigger do it, whose function runs with the rights of whoever gives the command.",
                )


def functions(catalogue: Catalogue) -> Iterator[Finding]:
    """Code that runs with the rights of another role, or that sees rows before a policy does."""
    for function in catalogue.functions:
        callers = sorted(set(function["called_by"]) - {function["owner"]})
        if function["definer"] and callers:
            yield Finding(
                "security-definer",
                f"{function['name']} for {', '.join(callers)}",
                f"it runs as {function['owner']}"
                + ("" if function["has_path"] else ", and finds its names by the caller's search_path"),
                "Make it SECURITY INVOKER; where it cannot be, set its search_path and allow it with a reason.",
            )
        if function["leakproof"]:
            yield Finding(
                "leakproof",
                function["name"],
                "as LEAKPROOF it is called with rows before a policy has hidden them",
                "ALTER FUNCTION … NOT LEAKPROOF.",
            )


def sequences(catalogue: Catalogue) -> Iterator[Finding]:
    """What it has counted to is how many rows all tenants have."""
    for sequence in catalogue.sequences:
        if sequence["read_by"] and catalogue.has_tenant(catalogue.relations.get(sequence["table"] or "")):
            yield Finding(
                "sequence-tells",
                f"{sequence['name']} for {', '.join(sorted(sequence['read_by']))}",
                f"its last value tells how many rows of {sequence['table']} all tenants have made",
                "Revoke SELECT on it; USAGE serves an INSERT.",
            )


def schemas(catalogue: Catalogue) -> Iterator[Finding]:
    """Who may create may put an object of theirs before another's in the search path."""
    for schema in catalogue.schemas:
        for role in sorted(schema["created_in_by"]):
            if not catalogue.roles.get(role, {}).get("superuser"):
                yield Finding(
                    "may-create",
                    f"schema {schema['name']} for {role}",
                    "it may make tables and functions there, which it would own",
                    "REVOKE CREATE ON SCHEMA.",
                )


def defaults(catalogue: Catalogue) -> Iterator[Finding]:
    """A table that is open when it is born, is open before it has a policy."""
    for default in catalogue.defaults:
        if any(default["role"] in catalogue.names(role) for role in catalogue.audited):
            yield Finding(
                "granted-by-default",
                f"tables of {default['owner']}" + (f" in {default['schema']}" if default["schema"] else ""),
                f"each new one grants {default['privilege']} to {default['role']}, with or without a policy",
                "ALTER DEFAULT PRIVILEGES … REVOKE, and grant in the migration that makes the policy.",
            )


RULES = (views, rewriting, functions, sequences, schemas, defaults)
