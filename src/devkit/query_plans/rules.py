"""What is wrong with a plan, or with the foreign keys of its tables. Pure: plans and catalogue are values.

The plan is one of tables taken for large (``explaining``), so that a table which is read whole has no index for it.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .catalogue import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from db.telemetry.fingerprint import Fingerprint

    from .catalogue import Catalogue, Index
    from .explaining import Plan

    Node = dict[str, Any]

Kind = Literal["sequential scan", "tenant", "foreign key"]

SHOWN_CHARS = 300
_BITMAP = {"Bitmap Heap Scan", "BitmapAnd", "BitmapOr", "Bitmap Index Scan"}
_SCANS = {"Seq Scan", "Sample Scan", "Index Scan", "Index Only Scan", "Bitmap Heap Scan"}
# Through these a LIMIT above ends the scan below as soon as it has enough.
_PASSING = {"Limit", "LockRows", "Result", "Subquery Scan", "ProjectSet", "Append", "Merge Append"}


@dataclass(frozen=True)
class Finding:
    """One thing that is slow where ``table`` is large: ``kind`` is a word for it, ``problem`` a sentence.

    ``statement`` is the fingerprint of what was sent, ``role`` who sent it.
    """

    kind: Kind
    table: Table
    statement: Fingerprint
    role: str
    problem: str

    def __str__(self) -> str:
        text = self.statement.text
        shown = text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"
        return f"{self.table}: {self.problem} ({self.kind})\n    {self.statement.id}, as {self.role}: {shown}"


def tables(plan: Plan) -> set[Table]:
    """Those that the plan reads or writes."""
    return {Table(node["Schema"], node["Relation Name"]) for node, _ in _nodes(plan.root) if "Relation Name" in node}


def findings(plan: Plan, catalogue: Catalogue, *, tenant_serves: Callable[[Table, str], bool]) -> Iterator[Finding]:
    """All that is wrong with ``plan``, and with the foreign keys that it may have to follow.

    ``tenant_serves`` says whether a role could read a table by its tenant, where a plan goes by another index.
    """
    for node, limited in _nodes(plan.root):
        if node["Node Type"] in _SCANS and "Relation Name" in node:
            table = Table(node["Schema"], node["Relation Name"])
            serves = functools.partial(tenant_serves, table, plan.sent.role)
            found = _of_scan(node, catalogue, limited=limited, tenant_serves=serves)
            if found is not None:
                kind, problem = found
                yield Finding(kind, table, plan.sent.fingerprint, plan.sent.role, problem)
    touched = tables(plan)
    taken_from = {
        Table(node["Schema"], node["Relation Name"])
        for node, _ in _nodes(plan.root)
        if node["Node Type"] == "ModifyTable" and node["Operation"] in {"Delete", "Merge"}
    }
    for key in catalogue.foreign_keys:
        if not key.indexed and (key.table in touched or key.target in taken_from):
            problem = (
                f"no index begins with the columns of {key.name} ({', '.join(key.columns)}): "
                f"a row of {key.target} that goes, or whose key changes, is looked for in all rows"
            )
            yield Finding("foreign key", key.table, plan.sent.fingerprint, plan.sent.role, problem)


def _nodes(node: Node, *, limited: bool = False) -> Iterator[tuple[Node, bool]]:
    """Each node, from the outermost on, and whether a LIMIT ends it early."""
    yield node, limited
    name = node["Node Type"]
    below = name == "Limit" or (limited and name in _PASSING)
    for one in node.get("Plans", ()):
        yield from _nodes(one, limited=below)


def _of_scan(
    node: Node, catalogue: Catalogue, *, limited: bool, tenant_serves: Callable[[], bool]
) -> tuple[Kind, str] | None:
    if node["Node Type"] in {"Seq Scan", "Sample Scan"}:
        return "sequential scan", f"no index serves it{_asked(node)}"
    named = _named_in(node)
    tenant = catalogue.tenant_columns.get(Table(node["Schema"], node["Relation Name"]), set())

    def narrows(column: str, part: Node) -> bool:
        return named(column, part.get("Index Cond", ""))

    def goes_by_tenant(part: Node) -> bool:
        return any(narrows(column, part) for column in tenant)

    def is_one_row(part: Node) -> bool:
        index = _index(part, node, catalogue)
        return (
            index is not None
            and index.unique
            and all(
                column is not None and named(column, part.get("Index Cond", ""), equal=True) for column in index.columns
            )
        )

    filtered = node.get("Filter", "")
    # What stands in an OR leaves a choice, as a policy for a role that serves all tenants does: it asks for no tenant.
    asked_for = [one for one in _conjuncts(filtered) if _operands(one, " OR ") == [one]]
    by_policy = any(named(column, one) for column in tenant for one in asked_for)
    if by_policy and not _holds(node, goes_by_tenant) and not _holds(node, is_one_row) and not tenant_serves():
        return "tenant", f"no index by the tenant serves it, and rows of all tenants are read{_asked(node)}"

    def reads_a_part(part: Node) -> bool:
        index = _index(part, node, catalogue)
        if index is not None and index.partial:
            return True
        first = index.columns[0] if index is not None else None
        return narrows(first, part) if first is not None else "Index Cond" in part

    if _holds(node, reads_a_part) or (limited and not filtered and "Index Cond" not in node):
        return None
    return "sequential scan", f"an index is read from one end to the other{_asked(node)}"


def _holds(node: Node, test: Callable[[Node], bool]) -> bool:
    """Whether it holds for what the scan reads: for each arm of an OR of indexes, and one of those of an AND."""
    below = [one for one in node.get("Plans", ()) if one["Node Type"] in _BITMAP]
    if node["Node Type"] not in _BITMAP or not below:
        return test(node)
    return (all if node["Node Type"] == "BitmapOr" else any)(_holds(one, test) for one in below)


def _index(part: Node, scan: Node, catalogue: Catalogue) -> Index | None:
    return catalogue.indexes.get((scan["Schema"], part.get("Index Name", "")))


def _conjuncts(condition: str) -> list[str]:
    """What ``condition``, as the server writes it, asks for all of."""
    parts = _operands(condition, " AND ")
    return parts if len(parts) == 1 else [inner for part in parts for inner in _conjuncts(part)]


def _operands(condition: str, operator: str) -> list[str]:
    """Its parts, without the brackets around all of it, which the server puts around each operator's."""
    inner = condition[1:-1] if condition.startswith("(") else condition
    parts, depth, start = [], 0, 0
    for token in re.finditer(rf"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|[()]|{operator}", inner):
        depth += {"(": 1, ")": -1}.get(token[0], 0)
        if depth < 0:  # the first bracket is not that of the last
            return [condition]
        if token[0] == operator and depth == 0:
            parts.append(inner[start : token.start()])
            start = token.end()
    return [*parts, inner[start:]] if parts else [condition]


def _named_in(scan: Node) -> Callable[..., bool]:
    """Whether a condition names a column of the table that ``scan`` reads: ``named(column, condition)``."""
    alias: str = scan.get("Alias") or scan["Relation Name"]
    qualified = rf'(?<![\w"])(?:{re.escape(alias)}|{re.escape(_quoted(alias))})\.'

    def named(column: str, condition: str, *, equal: bool = False) -> bool:
        tail = r"\)?(?:::[\w ]+)? = " if equal else r'(?![\w"])'
        return re.search(qualified + re.escape(column) + tail, condition) is not None

    return named


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _asked(node: Node) -> str:
    condition = node.get("Filter") or node.get("Index Cond")
    return f": {condition}" if condition else ""
