"""The audit: every rule over one reading of the catalogue, less what is allowed by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from db.settings.engines.kinds import kind_of

from . import beside, roles, tables
from .catalogue import read
from .finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection

    from .catalogue import Catalogue

IN_VAIN = "allowed-in-vain"
_LAYERS_OWN = {"db_once": {"other-default"}}
"""What the layer's own tables are by intent: work without a tenant has a scope of its own there."""
_PURGE = re.compile(r"policy purge_(?:select|delete) on (?:.+\.)?db_once")
"""The role that purges them sees what has expired, of all tenants."""


def audit(
    conn: Connection,
    *,
    roles: Sequence[str],
    column: str = "tenant_id",
    allowed: Mapping[str, str] | None = None,
) -> list[Finding]:
    """What does not keep tenants apart in the database of ``conn``, for the ``roles`` that functions log in as.

    Nothing, where every table with ``column`` is as ``operations.enable_tenant_rls`` makes it, keys and defaults
    included, and the roles are bound by it. ``allowed`` are findings that are meant to be, by ``kind subject`` or by
    ``subject`` alone, each with the reason: one that is not found any more is a finding too. In one trip, of any role
    that may connect; it reads the catalogue, and no table.

    Only for PostgreSQL. Raises ValueError for an exception without a reason, TypeError where ``allowed`` has no place
    for one, as a list.
    """
    if (kind := kind_of(conn.dialect)) is not None:
        kind.require("tenant", "audit")
    if allowed is not None and not isinstance(allowed, Mapping):
        raise TypeError(f"allowed has a reason for each finding's name, and is of type {type(allowed).__name__}")
    reasons = dict(allowed or {})
    if unexplained := sorted(name for name, reason in reasons.items() if not reason.strip()):
        raise ValueError(f"allowed without a reason: {', '.join(unexplained)}")
    unused = set(reasons)
    findings = []
    for finding in _all(read(conn, column=column, roles=roles)):
        names = {finding.subject, f"{finding.kind} {finding.subject}"} & reasons.keys()
        unused -= names
        if not names and not _is_layers_own(finding):
            findings.append(finding)
    gone = "there is no such finding any more", "Take the exception away."
    return [*findings, *(Finding(IN_VAIN, name, *gone) for name in sorted(unused))]


def _all(catalogue: Catalogue) -> Iterator[Finding]:
    for table in catalogue.of_tenants():
        if not table.closed:
            for rule in tables.OF_PARTS if table.behind_another else tables.OF_TENANTS:
                yield from rule(catalogue, table)
    for relation in catalogue.relations.values():
        if not relation.closed:
            for rule in tables.OF_ALL:
                yield from rule(catalogue, relation)
    for over_all in (*beside.RULES, *roles.RULES):
        yield from over_all(catalogue)


def _is_layers_own(finding: Finding) -> bool:
    if finding.kind == "policy-without-tenant" and _PURGE.fullmatch(finding.subject):
        return finding.problem.endswith("(expires_at <= now())")
    table = finding.subject.partition(".tenant_id")[0].rpartition(".")[2]
    return finding.kind in _LAYERS_OWN.get(table, ())
