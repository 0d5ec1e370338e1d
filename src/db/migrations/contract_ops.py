"""What a revision's ``upgrade()`` does, read from its source: calls of Alembic's ``op``, of a batch, and texts of SQL.

The file is read and never run. Functions of the same file are followed; what another module does is not known here.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .contract_sql import Change, Kind, changes_by, created_by, statements
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
        self._batches: dict[ast.expr, ast.Call] = {}
        self._calls = list(self._called_by("upgrade"))

    def changes(self) -> Iterator[Made]:
        """What it changes of what is there already, or may be.

        What it has created itself by then nobody else uses yet. What it creates later may have the name of something
        that it takes away first.
        """
        created: set[str] = set()
        for call in self._calls:
            for made in self._changed_by(call, created):
                if not (made.tables and created.issuperset(made.tables)):
                    yield made
            if self._operation(call) == "create_table":
                created.update(self._tables(call, "create_table"))

    def _changed_by(self, call: ast.Call, created: set[str]) -> Iterator[Made]:
        if self._executes(call):
            yield from self._changed_by_text(call, created)
        elif (name := self._operation(call)) is not None:
            tables, said = tuple(self._tables(call, name)), ast.unparse(call)
            for kind in self._changed(name, call):
                yield Made(Change(kind, None, said), call, tables)

    def _changed_by_text(self, call: ast.Call, created: set[str]) -> Iterator[Made]:
        texts = self._executed(call)
        for text in texts:
            for statement in statements(text):
                for change in changes_by(statement):
                    yield Made(change, call, (change.table,) if change.table else ())
                created.update(created_by(statement))
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

    def _called_by(self, name: str) -> Iterator[ast.Call]:
        """The calls of the function ``name``, and of those that it calls, in the order in which they stand there.

        On the way, it is noted of which batch each of them is.
        """
        followed: set[str] = set()

        def within(node: ast.AST, batches: dict[str, ast.Call]) -> Iterator[ast.Call]:
            if isinstance(node, ast.With):
                batches = batches | dict(self._opened(node))
            if isinstance(node, ast.Call):
                match node.func:
                    case ast.Attribute(value=ast.Name(id=batch)) if batch in batches:
                        self._batches[node.func] = batches[batch]
            for child in ast.iter_child_nodes(node):
                yield from within(child, batches)
            if isinstance(node, ast.Call):
                yield node
            if isinstance(node, ast.Name) and node.id in self._functions and node.id not in followed:
                followed.add(node.id)
                yield from within(self._functions[node.id], batches)

        if name in self._functions:
            followed.add(name)
            yield from within(self._functions[name], {})

    def _opened(self, block: ast.With) -> Iterator[tuple[str, ast.Call]]:
        """The batches that ``block`` opens, by the names that it gives them."""
        for item in block.items:
            match item:
                case ast.withitem(context_expr=ast.Call() as call, optional_vars=ast.Name(id=name)):
                    if self._operation_of(call.func) == "batch_alter_table":
                        yield name, call

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
        if call.func in self._batches and isinstance(call.func, ast.Attribute):
            return call.func.attr
        return self._operation_of(call.func)

    def _batch(self, call: ast.Call) -> ast.Call | None:
        return self._batches.get(call.func)

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
            for argument in (*call.args, _keyword(call, "column")):
                yield from self._added(argument)
        elif name in _INDEXED or (name == "create_index" and not _given(call, "postgresql_concurrently")):
            yield Kind.INDEX
        elif name in _CHECKED and not _given(call, "postgresql_not_valid"):
            yield Kind.CONSTRAINT

    def _added(self, argument: ast.expr | None) -> Iterator[Kind]:
        """What a column of ``add_column`` asks of the rows that are there; it is whatever is called for it."""
        for column in self._values.of(argument) if argument is not None else ():
            if not isinstance(column, ast.Call):
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
