"""What a revision's ``upgrade()`` does, read from its source: calls of Alembic's ``op``, of a batch, and texts of SQL.

The file is read and never run. Functions of the same file are followed; what another module does is not known here.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .contract_sql import Change, Kind, changes_by, created_by
from .contract_values import Values

if TYPE_CHECKING:
    from collections.abc import Iterator

# Where the table stands among a call's arguments, when it is not the first.
_TABLE_AT = {
    **dict.fromkeys(("create_index", "create_foreign_key", "create_check_constraint", "create_unique_constraint"), 1),
    **dict.fromkeys(("create_primary_key", "create_exclude_constraint", "drop_constraint", "drop_index"), 1),
}
_TABLE_KEYS = ("table_name", "source_table", "old_table_name")
_INDEXED = {"create_unique_constraint", "create_primary_key", "create_exclude_constraint"}
_CHECKED = {"create_foreign_key", "create_check_constraint"}
_HARMLESS = {"drop_table_comment"}
_READS_FILES = {"read_text", "read", "read_bytes"}


@dataclass(frozen=True)
class Made:
    """A change, where in the file it is made, and the tables that it may be of."""

    change: Change
    node: ast.Call
    tables: tuple[str, ...]


class Upgrade:
    """``upgrade()`` of the module ``tree``, with the functions of the same module that it calls."""

    def __init__(self, tree: ast.Module) -> None:
        self._functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        self._reached = self._reach("upgrade")
        self._values = Values([tree, *self._reached])
        self._op, self._bare = _names_of_op(tree)
        self._batches = self._find_batches()
        self._calls = [node for function in self._reached for node in ast.walk(function) if isinstance(node, ast.Call)]

    def created(self) -> set[str]:
        """The tables, and what else has a name, that it creates itself: nobody else uses them yet."""
        names: set[str] = set()
        for call in self._calls:
            if self._operation(call) == "create_table":
                names.update(self._tables(call, "create_table"))
            names.update(name for text in self._executed(call) for name in created_by(text))
        return names

    def changes(self) -> Iterator[Made]:
        """What it changes of what is there already, or may be."""
        for call in self._calls:
            if self._executes(call):
                yield from self._changed_by_text(call)
            elif (name := self._operation(call)) is not None:
                tables, said = tuple(self._tables(call, name)), ast.unparse(call)
                for kind in self._changed(name, call):
                    yield Made(Change(kind, None, said), call, tables)

    def _changed_by_text(self, call: ast.Call) -> Iterator[Made]:
        texts = self._executed(call)
        for text in texts:
            for change in changes_by(text):
                yield Made(change, call, (change.table,) if change.table else ())
        if not texts and any(_reads_a_file(one) for argument in call.args for one in self._values.of(argument)):
            yield Made(Change(Kind.UNREAD, None, ast.unparse(call)), call, ())

    def _reach(self, name: str) -> list[ast.FunctionDef]:
        reached: dict[str, ast.FunctionDef] = {}
        waiting = [name]
        while waiting:
            one = waiting.pop()
            if one in self._functions and one not in reached:
                reached[one] = self._functions[one]
                waiting += [node.id for node in ast.walk(reached[one]) if isinstance(node, ast.Name)]
        return list(reached.values())

    def _find_batches(self) -> dict[str, ast.Call]:
        found = {}
        for function in self._reached:
            for node in ast.walk(function):
                match node:
                    case ast.withitem(context_expr=ast.Call() as call, optional_vars=ast.Name(id=name)):
                        if self._operation_of(call.func) == "batch_alter_table":
                            found[name] = call
        return found

    def _operation_of(self, function: ast.expr) -> str | None:
        match function:
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in self._op:
                return attribute
            case ast.Attribute(value=ast.Attribute(value=ast.Name(id="alembic"), attr="op"), attr=attribute):
                return attribute
            case ast.Name(id=name):
                return self._bare.get(name)
        return None

    def _operation(self, call: ast.Call) -> str | None:
        """The name of Alembic's operation that ``call`` is; of a batch's as well."""
        match call.func:
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in self._batches:
                return attribute
        return self._operation_of(call.func)

    def _batch(self, call: ast.Call) -> ast.Call | None:
        match call.func:
            case ast.Attribute(value=ast.Name(id=name)):
                return self._batches.get(name)
        return None

    def _tables(self, call: ast.Call, operation: str) -> Iterator[str]:
        """The tables that an operation may be of."""
        told = self._batch(call) or call
        at = 0 if told is not call else _TABLE_AT.get(operation, 0)
        argument = told.args[at] if len(told.args) > at else None
        argument = argument or next((found for key in _TABLE_KEYS if (found := _keyword(told, key))), None)
        schema = _keyword(told, "schema") or _keyword(told, "source_schema")
        for table in self._values.names(argument):
            for prefix in self._values.names(schema) or [""]:
                yield f"{prefix}.{table}" if prefix else table

    def _executes(self, call: ast.Call) -> bool:
        executes = {"execute", "exec_driver_sql", "scalar", "scalars"}
        match call.func:
            case ast.Attribute(attr=attribute):
                return attribute in executes
            case ast.Name(id=name):
                return self._bare.get(name) == "execute"
        return False

    def _executed(self, call: ast.Call) -> list[str]:
        """The texts of SQL that ``call`` executes, on Alembic's ``op`` or on whatever connection."""
        if not self._executes(call):
            return []
        argument = call.args[0] if call.args else _keyword(call, "sqltext")
        return self._values.texts(argument)

    def _changed(self, name: str, call: ast.Call) -> Iterator[Kind]:
        """What one of Alembic's operations changes."""
        if name.startswith("drop_") and name not in _HARMLESS:
            yield Kind.DROP
        elif name == "rename_table":
            yield Kind.RENAME
        elif name == "alter_column":
            yield from _altered(call)
        elif name == "add_column":
            for argument in call.args:
                yield from self._added(argument)
        elif name in _INDEXED or (name == "create_index" and not _given(call, "postgresql_concurrently")):
            yield Kind.INDEX
        elif name in _CHECKED and not _given(call, "postgresql_not_valid"):
            yield Kind.CONSTRAINT

    def _added(self, argument: ast.expr) -> Iterator[Kind]:
        """What a column of ``add_column`` asks of the rows that are there."""
        for column in self._values.of(argument):
            if not isinstance(column, ast.Call) or _called(column) != "Column":
                continue
            parts = {_called(part) for part in column.args if isinstance(part, ast.Call)}
            required = _is(column, "nullable", value=False) or _is(column, "primary_key", value=True)
            if required and not _given(column, "server_default") and not parts & {"Computed", "Identity"}:
                yield Kind.NOT_NULL
            if any(_is(column, key, value=True) for key in ("index", "unique", "primary_key")):
                yield Kind.INDEX
            if parts & {"ForeignKey", "CheckConstraint"}:
                yield Kind.CONSTRAINT


def _altered(call: ast.Call) -> Iterator[Kind]:
    if _given(call, "new_column_name"):
        yield Kind.RENAME
    if _given(call, "type_"):
        yield Kind.RETYPE
    has_default = _given(call, "server_default") or _given(call, "existing_server_default")
    if _is(call, "nullable", value=False) and not has_default:
        yield Kind.NOT_NULL
    if _is(call, "server_default", value=None):
        yield Kind.DROP


def _names_of_op(tree: ast.Module) -> tuple[set[str], dict[str, str]]:
    """What the module calls ``op``, and what it has imported from it by name."""
    op = {"op"}
    bare: dict[str, str] = {}
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module="alembic", names=names):
                op |= {alias.asname or alias.name for alias in names if alias.name == "op"}
            case ast.ImportFrom(module="alembic.op", names=names):
                bare |= {alias.asname or alias.name: alias.name for alias in names}
            case ast.Import(names=names):
                op |= {alias.asname for alias in names if alias.name == "alembic.op" and alias.asname}
    return op, bare


def _keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def _given(call: ast.Call, name: str) -> bool:
    """Whether ``call`` has the argument, and not as None or False."""
    value = _keyword(call, name)
    return value is not None and not (isinstance(value, ast.Constant) and value.value in {None, False})


def _is(call: ast.Call, name: str, *, value: object) -> bool:
    """Whether ``call`` has the argument with just this value."""
    found = _keyword(call, name)
    return isinstance(found, ast.Constant) and found.value is value


def _called(call: ast.Call) -> str:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _reads_a_file(expression: ast.expr) -> bool:
    return any(isinstance(node, ast.Call) and _called(node) in _READS_FILES for node in ast.walk(expression))
