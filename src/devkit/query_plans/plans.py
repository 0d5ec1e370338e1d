"""What the fixture ``plans`` gives to a test: it has watched the test, and looks at what that sent when it ends."""

from __future__ import annotations

import contextlib
import functools
import re
from typing import TYPE_CHECKING

from . import rules
from .explaining import Plan, Planner, Unexplained, large_tables
from .watching import watching

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from devkit.servers.postgres import Postgres

    from .catalogue import Catalogue, Table
    from .rules import Finding
    from .watching import Sent, Watch

ROWS = 1_000_000  # of a table that nothing is said of
ABOVE_ROWS = 1_000  # from more rows on, a table is not to be read whole

_FINGERPRINT = re.compile(r"[0-9a-f]{12}")


class PlansError(AssertionError):
    """``findings`` are slow where their tables are large; or none, where no statement with a plan was looked at."""

    def __init__(self, message: str, findings: Sequence[Finding] = ()) -> None:
        super().__init__(message)
        self.findings = tuple(findings)


class Plans:
    """The plans of a test's statements.

    ``explained`` are those that were looked at, and ``unexplained`` what had no plan, each with its ``reason``: DDL,
    COPY, what the server refused to plan. ``allowed`` are the findings that ``allow`` has let pass.
    """

    def __init__(self, server: Postgres, database: str, watch: Watch) -> None:
        self._server = server
        self._database = database
        self._watch = watch
        self._allowances: dict[str, str] = {}
        self._rows: dict[str, int] = {}
        self._above = ABOVE_ROWS
        self.explained: list[Plan] = []
        self.unexplained: list[Unexplained] = []
        self.allowed: list[Finding] = []

    def allow(self, name: str, *, reason: str) -> None:
        """Let pass what is found of ``name``: a table, or the ``id`` of a statement's fingerprint."""
        if not reason.strip():
            raise ValueError(f"plans.allow({name!r}) needs a reason")
        self._allowances[name] = reason

    def assume(self, rows: Mapping[str, int] | None = None, *, above: int | None = None) -> None:
        """Take tables to have so many ``rows``, and others a million; read whole, those fail that have more than
        ``above`` (1,000)."""
        self._rows |= rows or {}
        self._above = self._above if above is None else above

    def check(self) -> None:
        """Look at what was sent since the last call; the test's end does that for the rest.

        Raises PlansError where it finds something, and where no statement so far reads or writes a table.
        """
        found = self._findings(self._watch.taken())
        if found:
            raise PlansError("\n".join(["plans found what is slow on large tables:", *map(str, found)]), found)
        if not any(rules.tables(plan) for plan in self.explained):
            reasons = "".join(f"\n{one.sent.fingerprint.text[:80]}: {one.reason}" for one in self.unexplained)
            raise PlansError(f"plans looked at nothing: no statement with a plan was sent to a table{reasons}")

    def _findings(self, sent: Sequence[Sent]) -> list[Finding]:
        found: list[Finding] = []
        with self._server.as_superuser(self._database) as connection, large_tables(connection) as catalogue:
            self._refuse_unknown(catalogue)
            planner = Planner(connection, catalogue, sent)

            def no_other(_table: Table, _role: str) -> bool:
                return False

            @functools.cache
            def tenant_serves(table: Table, role: str) -> bool:
                alone = planner.all_rows(table, role)
                return isinstance(alone, Plan) and not any(rules.findings(alone, catalogue, tenant_serves=no_other))

            for one in map(planner.explain, sent):
                if isinstance(one, Unexplained):
                    self.unexplained.append(one)
                    continue
                self.explained.append(one)
                found += rules.findings(one, catalogue, tenant_serves=tenant_serves)
        # A foreign key is said once, with the first statement to which it matters.
        once = {(one.table, one.problem) if one.kind == "foreign key" else one: one for one in reversed(found)}
        counting = [one for one in reversed(once.values()) if self._is_large(one.table)]
        self.allowed += [one for one in counting if self._is_allowed(one)]
        return [one for one in counting if not self._is_allowed(one)]

    def _is_large(self, table: Table) -> bool:
        rows = next((rows for name, rows in self._rows.items() if table.is_named(name)), ROWS)
        return rows > self._above

    def _is_allowed(self, finding: Finding) -> bool:
        return any(finding.table.is_named(name) or finding.statement.id == name for name in self._allowances)

    def _refuse_unknown(self, catalogue: Catalogue) -> None:
        """A misspelt exception would be without effect, and nobody would be told."""
        names = [*self._rows, *(name for name in self._allowances if not _FINGERPRINT.fullmatch(name))]
        unknown = [name for name in names if not any(table.is_named(name) for table in catalogue.tables)]
        if unknown:
            raise ValueError(f"plans was told of tables that the test's database does not have: {', '.join(unknown)}")


@contextlib.contextmanager
def looking_at(server: Postgres, database: str) -> Iterator[Plans]:
    """The plans of what is sent to ``database`` within the block, whose end calls ``check`` unless it raises."""
    with watching(database) as watch:
        plans = Plans(server, database, watch)
        yield plans
    plans.check()
