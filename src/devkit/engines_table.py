"""The tables of engines as docs/reference/engines.md shows them: what each can, and what becomes of each call on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from db.settings.engines.kinds import CAPABILITIES, all_kinds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from db.settings.engines.kinds import Capability, EngineKind

# Each public call, and each argument that asks an engine for more than the call alone: what it asks for. None is what
# every engine here has.
CALLS: dict[str, Capability | None] = {
    "db.begin": None,
    "db.begin(tenant=…)": "tenant",
    "db.begin(isolation=…)": "isolation",
    "db.read": "read-only",
    "db.read(tenant=…)": "tenant",
    "db.read(snapshot=True)": "read-only",
    "db.read(fresh=…)": None,
    "db.fetch": "read-only",
    "db.fetch(tenant=…)": "tenant",
    "db.session": None,
    "db.session(tenant=…)": "tenant",
    "db.session(read_only=True)": "read-only",
    "db.run": None,
    "db.run(tenant=…)": "tenant",
    "db.scope": "tenant",
    "db.carry": None,
    "db.invocation": "statement limit",
    "db.once": "once",
    "db.once(tenant=…)": "tenant",
    "db.idempotent": "once",
    "db.purge_once": "once",
    "db.batch": None,
    "db.batch(tenant=…)": "tenant",
    "db.copy_rows": None,
    "db.copy_rows(tenant=…)": "tenant",
    "db.reflect": None,
    "db.engine": None,
    "db.configure": None,
    "db.status": None,
    "db.dispose": None,
    "db.verdict": None,
    "db.sqlstate": None,
    "aio.begin": "aio",
    "aio.read": "aio",
    "aio.fetch": "aio",
    "aio.session": "aio",
    "aio.run": "aio",
    "aio.once": "aio",
    "aio.idempotent": "aio",
    "aio.purge_once": "aio",
    "aio.batch": "aio",
    "aio.copy_rows": "aio",
    "aio.reflect": "aio",
    "aio.engine": "aio",
    "aio.gather": None,
    "migrations.upgrade": None,
    "migrations.make_roles": "roles",
    "migrations.audit": "tenant",
    "operations.enable_tenant_rls": "tenant",
    "operations.grant": None,
    "operations.create_once_table": "once",
    "operations.drop_once_table": "once",
    "operations.create_prologue_function": "prologue function",
    "operations.drop_prologue_function": "prologue function",
    "operations.create_constraints_function": "prologue function",
    "powertools.OncePersistenceLayer": "once",
}


def cell(kind: EngineKind, call: str) -> str:
    """What becomes of ``call`` on an engine."""
    asked = CALLS[call]
    if asked is not None and asked in kind.lacks:
        return "refused"
    return f"works: {kind.differs[call]}" if call in kind.differs else "works"


def capabilities_as_markdown() -> str:
    """What each engine can, and by what it is kept; and what it cannot."""
    kinds = all_kinds()
    rows = [[name, *(kind.can.get(name) or f"no: {kind.lacks[name]}" for kind in kinds)] for name in CAPABILITIES]
    return _table(["", *(kind.title for kind in kinds)], rows)


def calls_as_markdown() -> str:
    """What becomes of each call."""
    kinds = all_kinds()
    rows = [[f"`{call}`", *(cell(kind, call) for kind in kinds)] for call in CALLS]
    return _table(["call", *(kind.title for kind in kinds)], rows)


def settings_as_markdown() -> str:
    """Which settings an engine refuses."""
    rows = [[kind.title, f"`DB_{name.upper()}`", why] for kind in all_kinds() for name, why in kind.unserved.items()]
    return _table(["engine", "setting", "why it is refused"], rows)


def as_markdown() -> str:
    """All of it, as the command ``engines`` prints it."""
    return "\n\n".join([calls_as_markdown(), capabilities_as_markdown(), settings_as_markdown()])


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(heads)]
    lines += [["---"] * len(lines[0]), *(list(row) for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
