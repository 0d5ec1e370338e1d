"""What a policy's clause lets through, read from the text that PostgreSQL gives of it, in which all is in parentheses.

A clause keeps to something where one of its parts that AND joins does, or each of those that OR joins. All else is
taken for a way around: what the text does not show to be a comparison may be anything.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from db.transactions.prologue_sql import TENANT_SETTING

if TYPE_CHECKING:
    from collections.abc import Callable

SETTING = re.compile(rf"current_setting\('{re.escape(TENANT_SETTING)}'(?:::text)?(, true)?\)")
_LEXEME = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|[()]|\b(?:AND|OR)\b|\w+|.""", re.DOTALL)
# In the place of the tenant and of its column, which no text of the server's has.
_TENANT, _COLUMN = "\x01", "\x02"
_TYPE = r'(?:\w+|"[^"]+")(?:\.(?:\w+|"[^"]+"))?(?: varying)?'
# What changes nothing of a tenant but its type, and makes no tenant of none.
_SAME = re.compile(
    rf"NULLIF\({_TENANT}, ''::[a-z ]+\)|COALESCE\({_TENANT}, ''::[a-z ]+\)|\( ?SELECT {_TENANT}(?: AS {_TYPE})?\)"
    rf"|\({_TENANT}\)|{_TENANT}::{_TYPE}(?:\(\d+\))?"
)
_SAME_COLUMN = re.compile(rf"\({_COLUMN}\)(?:::{_TYPE}(?!\())?")
_COMPARES = {f"{_COLUMN} = {_TENANT}", f"{_TENANT} = {_COLUMN}", f"{_COLUMN} IN {_TENANT}"}
_LOOKS_UP = re.compile(rf"\bSELECT\b|= {_TENANT}|{_TENANT} =")
_OR_NULL = re.compile(rf"NULLIF\({SETTING.pattern}, ''::[a-z ]+\)")
# The cast of a text that is empty where no tenant is; those to a text do not fail.
_CAST = re.compile(
    SETTING.pattern + r"(?:, ''::text\))?\)*::(?!text\b|character\b|bpchar\b|name\b|citext\b)(?P<type>\w+)"
)


def names_tenant(clause: str) -> bool:
    """Whether the unit's tenant is in it at all."""
    return SETTING.search(clause) is not None


def names_column(clause: str, column: str) -> bool:
    """Whether the tenant's column is."""
    return not _written(column).isdisjoint(_LEXEME.findall(clause))


def keeps_to_column(clause: str, column: str) -> bool:
    """Whether it holds for no row but those whose ``column`` is the tenant."""
    written = _written(column)

    def compares(part: str) -> bool:
        lexemes = _LEXEME.findall(_with_tenant(part))
        return (
            _reduced("".join(_COLUMN if one in written else one for one in lexemes), _SAME_COLUMN, _COLUMN) in _COMPARES
        )

    return _holds(clause, compares)


def finds_tenant(clause: str) -> bool:
    """Whether it finds a tenant for each row by another way: by a subquery, or by another column."""
    return _holds(clause, lambda part: _LOOKS_UP.search(_with_tenant(part)) is not None and names_tenant(part))


def errs_unset(clause: str) -> bool:
    """Whether it fails where the setting has never been made."""
    return any(not missing_ok for missing_ok in SETTING.findall(clause))


def cast_of_none(clause: str) -> str | None:
    """The type that an empty text is cast to where no tenant is, which fails; None where none is."""
    found = _CAST.search(_OR_NULL.sub("NULL", clause))
    return None if found is None else found["type"]


def _holds(clause: str, part_does: Callable[[str], bool]) -> bool:
    parts, joined_by = _parts(clause)
    if joined_by is None:
        return part_does(parts[0])
    return (any if joined_by == "AND" else all)(_holds(part, part_does) for part in parts)


def _parts(clause: str) -> tuple[list[str], str | None]:
    """What AND or OR joins at the top of ``clause``, and which of them."""
    text = clause.strip()
    while text.startswith("(") and _end_of(text) == len(text):
        text = text[1:-1].strip()
    parts, joined_by, depth = [""], None, 0
    for lexeme in _LEXEME.findall(text):
        depth += (lexeme == "(") - (lexeme == ")")
        if depth == 0 and lexeme in {"AND", "OR"}:
            joined_by = lexeme
            parts.append("")
        else:
            parts[-1] += lexeme
    return parts, joined_by


def _end_of(text: str) -> int:
    """Where the parenthesis that ``text`` begins with ends."""
    depth = at = 0
    for lexeme in _LEXEME.findall(text):
        depth += (lexeme == "(") - (lexeme == ")")
        at += len(lexeme)
        if depth == 0:
            break
    return at


def _with_tenant(part: str) -> str:
    return _reduced(SETTING.sub(_TENANT, part), _SAME, _TENANT)


def _reduced(text: str, same: re.Pattern[str], mark: str) -> str:
    count = 1
    while count:
        text, count = same.subn(mark, text)
    return text.strip()


def _written(name: str) -> set[str]:
    """How the server may write a name: one that is a word of its language is in quotes as well."""
    quoted = '"' + name.replace('"', '""') + '"'
    return {name, quoted} if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else {quoted}
