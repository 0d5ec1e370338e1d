"""What the server's catalogue says of tables, of what stands beside them, and of roles: one statement, one trip."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

# pg_class.relkind
TABLE, PARTITIONED, FOREIGN, VIEW, MATERIALIZED = "r", "p", "f", "v", "m"
COMMANDS = {"r": "SELECT", "a": "INSERT", "w": "UPDATE", "d": "DELETE"}  # by pg_policy.polcmd
PUBLIC = "public"  # as a grantee: all roles

_QUERY = Path(__file__).with_suffix(".sql")


@dataclass(frozen=True)
class Relation:
    """A table of any kind, or a view. ``rights`` are the privileges of each of the audited roles that has any.

    ``at_once`` are those of them that the role has as it logs in, and not as another that it may become. It is
    ``closed`` where none of the roles may use its schema or has a way around that, and ``behind_another`` where it is a
    part of a table, such as a partition, and none of them has a right to the part itself.
    ``rules`` are those of CREATE RULE that reach other relations.
    """

    name: str
    kind: str
    owner: str
    closed: bool
    behind_another: bool
    secured: bool
    forced: bool
    invoker: bool
    columns: list[dict[str, Any]]
    policies: list[dict[str, Any]]
    indexes: list[dict[str, Any]]
    foreign_keys: list[dict[str, Any]]
    rights: dict[str, list[str]]
    at_once: dict[str, list[str]]
    reads: list[str]
    rules: list[str]

    def column(self, name: str) -> dict[str, Any] | None:
        """What is said of the column ``name``; None where there is none."""
        return next((column for column in self.columns if column["name"] == name), None)


@dataclass(frozen=True)
class Catalogue:
    """All of it. ``column`` is the tenant's, ``audited`` are the roles that functions log in as."""

    column: str
    audited: tuple[str, ...]
    relations: dict[str, Relation]
    functions: list[dict[str, Any]]
    sequences: list[dict[str, Any]]
    schemas: list[dict[str, Any]]
    defaults: list[dict[str, Any]]
    roles: dict[str, dict[str, Any]]
    presets: list[dict[str, str]]

    def names(self, role: str) -> set[str]:
        """All under which a policy or a grant can be for ``role``."""
        return {PUBLIC, role, *self.roles.get(role, {}).get("may_be", ())}

    def names_at_once(self, role: str) -> set[str]:
        """Those of them under which one is for ``role`` as it logs in."""
        return {PUBLIC, role, *self.roles.get(role, {}).get("inherits", ())}

    def of_tenants(self) -> list[Relation]:
        """The tables that hold rows of tenants: those with the column."""
        tables = (TABLE, PARTITIONED, FOREIGN)
        return [
            relation for relation in self.relations.values() if relation.kind in tables and self.has_tenant(relation)
        ]

    def has_tenant(self, relation: Relation | None) -> bool:
        """Whether there is the relation, and it has the tenant's column."""
        return relation is not None and relation.column(self.column) is not None

    def shows_tenants(self, view: Relation) -> bool:
        """Whether a view reads a table of tenants, or another that policies bind, through other views or not."""
        # Views can come to read each other in a circle, which the server refuses no sooner than they are read.
        looked_at, left = {view.name}, [*view.reads]
        while left:
            name = left.pop()
            one = self.relations.get(name)
            if one is None or name in looked_at:
                continue
            looked_at.add(name)
            if one.kind in {VIEW, MATERIALIZED}:
                left += one.reads
            elif one.secured or self.has_tenant(one):
                return True
        return False


def read(conn: Connection, *, column: str, roles: Sequence[str]) -> Catalogue:
    """Ask the server, in one trip."""
    said = json.loads(conn.execute(sa.text(_QUERY.read_text()), {"roles": list(roles)}).scalar_one())
    return Catalogue(
        column=column,
        audited=tuple(roles),
        relations={one["name"]: Relation(**one) for one in said.pop("relations")},
        roles={one["name"]: one for one in said.pop("roles")},
        **said,
    )
