"""The lint of new revisions: what ends a contract with the release before has to say why, in a line of its own.

While a release is deployed, and after it was rolled back, older code works on the schema of newer code. So a revision
may add; what it drops, renames, retypes or requires is for a later one, and says ``# contract: <why>`` on the line, or
on the one before. The same goes for what keeps writers out while it checks or sorts all rows. Tables that the revision
itself makes have no older code, and no rows.

Nothing is imported, and no database asked. What texts of SQL say is read in ``contract_sql``, what calls of Alembic say
in ``contract_ops``.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .contract_ops import Upgrade

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from .contract_sql import Kind

_REASON = re.compile(r"#\s*contract:\s*\S")
_SHOWN = 100


@dataclass(frozen=True)
class Finding:
    """A change without a reason: where, what, and what to do instead."""

    path: Path
    line: int
    said: str
    kind: Kind

    def __str__(self) -> str:
        said = " ".join(self.said.split())
        shown = said if len(said) <= _SHOWN else said[: _SHOWN - 1] + "…"
        return (
            f"{self.path}:{self.line}: {shown}: {self.kind.value}; or say why it may be, in a line '# contract: <why>'"
        )


def findings(path: Path) -> list[Finding]:
    """What the revision in the file ``path`` changes without a reason, by line.

    Raises SyntaxError, OSError, and UnicodeDecodeError where it is not in the encoding that it names.
    """
    with tokenize.open(path) as file:  # as Python reads it
        source = file.read()
    tree = ast.parse(source, str(path))
    reasons = _Reasons(source, tree)
    return sorted(
        (
            Finding(path, made.node.lineno, made.change.said, made.change.kind)
            for made in Upgrade(tree).changes()
            if not reasons.given_for(made.node)
        ),
        key=lambda found: (found.line, found.said),
    )


def revisions(folders: Iterable[Path]) -> Iterator[Path]:
    """The files of the revisions in ``folders``."""
    for folder in folders:
        yield from sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")


class _Reasons:
    """The comments that give one, and the lines that they are for."""

    def __init__(self, source: str, tree: ast.Module) -> None:
        comments = {
            token.start[0]: (token.string, not token.line[: token.start[1]].strip())
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.COMMENT
        }
        self._lines = {line for line, (text, _) in comments.items() if _REASON.match(text)}
        self._of_their_own = {line for line, (_, alone) in comments.items() if alone}
        self._statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]

    def given_for(self, node: ast.expr) -> bool:
        """Whether a reason stands beside the statement that ``node`` is in, or in the comment right above it."""
        # The innermost statement is the last to begin.
        around = max(
            (one for one in self._statements if one.lineno <= node.lineno and _end(node) <= _end(one)),
            key=lambda one: (one.lineno, one.col_offset),
        )
        lines = set(range(around.lineno, _end(around) + 1))
        above = around.lineno - 1
        while above in self._of_their_own:
            lines.add(above)
            above -= 1
        return not lines.isdisjoint(self._lines)


def _end(node: ast.stmt | ast.expr) -> int:
    return node.end_lineno or node.lineno
