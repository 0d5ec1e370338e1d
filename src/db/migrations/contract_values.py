"""What the names and texts of a source stand for, as far as the source itself says it. Nothing is run.

Texts are followed through constants, f-strings, concatenations, what wraps them, and loops over what stands there.
"""

from __future__ import annotations

import ast
import itertools
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# What stands between a text and who executes it: sa.text("…"), op.f("…"), dedent("…"), "…".format(…), ….bindparams(…).
_WRAPPERS = {"text", "DDL", "f", "dedent", "strip", "format", "bindparams", "execution_options", "literal_column"}
_FORMAT_FIELD = re.compile(r"\{\w*\}")
_PERCENT_FIELD = re.compile(r"%(?:\(\w+\))?s")
_UNKNOWN = "_"
_DEPTH = 8  # of names that stand for names
_MOST_TEXTS = 200  # of one expression


class Values:
    """What names may stand for in ``scopes``: a module, and functions of it."""

    def __init__(self, scopes: Sequence[ast.Module | ast.FunctionDef]) -> None:
        self._bound: dict[str, list[ast.expr]] = {}
        for scope in scopes:
            # Of a module what it says itself, and not what its functions do.
            for node in scope.body if isinstance(scope, ast.Module) else ast.walk(scope):
                self._bind(node)

    def of(self, expression: ast.expr) -> list[ast.expr]:
        """What ``expression`` may be."""
        return self._bound.get(expression.id, []) if isinstance(expression, ast.Name) else [expression]

    def texts(self, expression: ast.expr | None, depth: int = 0) -> list[str]:
        """The texts that ``expression`` may be; none where it is no text, or none that stands here."""
        if expression is None or depth > _DEPTH:
            return []
        deeper = depth + 1
        found: list[str] = []
        match expression:
            case ast.Constant(value=str(text)):
                found = [text]
            case ast.JoinedStr(values=parts):
                found = self._joined(parts, deeper)
            case ast.FormattedValue(value=value):
                found = self.texts(value, deeper)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                found = self._joined([left, right], deeper)
            case ast.BinOp(left=left, op=ast.Mod()):
                found = [_PERCENT_FIELD.sub(_UNKNOWN, text) for text in self.texts(left, deeper)]
            case ast.Name():
                found = [text for value in self.of(expression) for text in self.texts(value, deeper)]
            case ast.IfExp(body=body, orelse=otherwise):
                found = [*self.texts(body, deeper), *self.texts(otherwise, deeper)]
            case ast.Call():
                found = self._wrapped(expression, deeper)
        return found[:_MOST_TEXTS]

    def names(self, expression: ast.expr | None) -> list[str]:
        """The same, with a stand-in where the text is not known."""
        return self.texts(expression) or ([] if expression is None else [_stand_in(expression)])

    def _bind(self, node: ast.AST) -> None:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                self._bound.setdefault(name, []).append(value)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                self._bound.setdefault(name, []).append(value)
            case ast.For(target=target, iter=iterated):
                for element in self._elements(iterated):
                    self._bind_each(target, element)

    def _bind_each(self, target: ast.expr, element: ast.expr) -> None:
        match target, element:
            case ast.Name(id=name), _:
                self._bound.setdefault(name, []).append(element)
            case ast.Tuple(elts=targets), ast.Tuple(elts=values):
                for one, value in zip(targets, values, strict=False):
                    self._bind_each(one, value)

    def _elements(self, iterated: ast.expr) -> Iterator[ast.expr]:
        for value in self.of(iterated):
            if isinstance(value, ast.Tuple | ast.List | ast.Set):
                yield from value.elts

    def _joined(self, parts: Sequence[ast.expr], depth: int) -> list[str]:
        texts = [self.texts(part, depth) or [_stand_in(part)] for part in parts]
        return ["".join(one) for one in itertools.islice(itertools.product(*texts), _MOST_TEXTS)]

    def _wrapped(self, call: ast.Call, depth: int) -> list[str]:
        first = call.args[0] if call.args else None
        match call.func:
            case ast.Attribute(value=value, attr=name) if name in _WRAPPERS:
                texts = self.texts(value, depth) or self.texts(first, depth)
                return [_FORMAT_FIELD.sub(_UNKNOWN, text) for text in texts] if name == "format" else texts
            case ast.Name(id=name) if name in _WRAPPERS:
                return self.texts(first, depth)
        return []


def _stand_in(part: ast.expr) -> str:
    """A name in the place of a value that is not known here, the same for the same expression."""
    value = part.value if isinstance(part, ast.FormattedValue) else part
    return re.sub(r"\W+", "_", ast.unparse(value)).lower()
