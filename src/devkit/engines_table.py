"""The tables of engines as docs/reference/engines.md shows them: what each can, and what becomes of each call on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from db.settings.engines.kinds import CAPABILITIES, all_kinds, kind_named

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
    "db.write": None,
    "db.write(tenant=…)": "tenant",
    "db.write(isolation=…)": "isolation",
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
    "db.copy_rows(binary=True)": "binary copy",
    "db.reflect": None,
    "db.prime": "prime",
    "db.engine": None,
    "db.configure": None,
    "db.status": None,
    "db.check": None,
    "db.dispose": None,
    "db.verdict": None,
    "db.sqlstate": None,
    "aio.begin": "aio",
    "aio.read": "aio",
    "aio.fetch": "aio",
    "aio.write": "aio",
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


# What happens to applications, and what of an engine it asks for: "server" is one that can be lost. tests/engines/
# test_scenarios.py makes each of them happen, on the engines that the kit has.
SCENARIOS: dict[str, Capability | Literal["server"] | None] = {
    "a transaction commits": None,
    "an exception rolls it back": None,
    "a write where only reads were meant": "read-only",
    "an error within a savepoint": "savepoints",
    "a tenant sees its own rows": "tenant",
    "a statement outlasts the invocation": "statement limit",
    "another transaction is at the same row": None,
    "a batch with a record that fails": None,
    "a key that is delivered twice": "once",
    "a crash between the work and its COMMIT": "once",
    "the connection is lost between two units": "server",
    "the answer to COMMIT is lost": "server",
    "the server restarts": "server",
    "the password or the token changes": "server",
    "a migration, twice": None,
    "a migration that fails is tried again": None,
}
PLAYED_ON = ("postgresql", "mariadb", "sqlite", "dsql")
_ENDS = {
    ("another transaction is at the same row", "dsql"): "right: refused at COMMIT, and run again",
    ("a batch with a record that fails", "dsql"): "right: a transaction for each record",
    ("a migration that fails is tried again", "mariadb"): "right: what it did before stays",
    ("a migration that fails is tried again", "dsql"): "right: what it did before stays",
}


def is_played(scenario: str, kind: EngineKind) -> bool:
    """Whether the scenario can be met on an engine; else what it asks for is refused by name."""
    asked = SCENARIOS[scenario]
    return kind.is_server if asked == "server" else asked not in kind.lacks


def scenarios_as_markdown() -> str:
    """How each scenario ends."""
    kinds = [kind for name in PLAYED_ON if (kind := kind_named(name)) is not None]
    rows = [
        [
            scenario,
            *(_ENDS.get((scenario, kind.name), "right") if is_played(scenario, kind) else "refused" for kind in kinds),
        ]
        for scenario in SCENARIOS
    ]
    return _table(["scenario", *(kind.title for kind in kinds)], rows)


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
    tables = [calls_as_markdown(), scenarios_as_markdown(), capabilities_as_markdown(), settings_as_markdown()]
    return "\n\n".join(tables)


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(heads)]
    lines += [["---"] * len(lines[0]), *(list(row) for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
