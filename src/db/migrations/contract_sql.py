"""What a text of SQL changes of a schema that older code still uses. Pure: it reads words, and asks no database.

It knows PostgreSQL's statements by how they begin, which is enough to say that one drops, renames or locks, and of
which table; what a function does that a statement calls, it does not know.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Kind(enum.Enum):
    """A change that the release before may not survive, or that keeps it out meanwhile; its value is the remedy."""

    DROP = "the release before may still use it. Drop it in a later release, when nothing does"
    RENAME = (
        "the release before knows the old name. Add the new one, fill both, and drop the old one in a later release"
    )
    RETYPE = (
        "it may rewrite the table while nobody gets at it, and the release before knows the old type. Add a column of "
        "the new type, fill both, and drop the old one in a later release"
    )
    NOT_NULL = (
        "the INSERTs of the release before leave it out, and fail. Give it a server default, or require it in a later "
        "release, after a CHECK (… IS NOT NULL) NOT VALID that has been validated"
    )
    INDEX = (
        "nobody writes to the table while it is built. Make the index with postgresql_concurrently=True in a "
        "`with op.get_context().autocommit_block():`, and a constraint of it USING INDEX"
    )
    CONSTRAINT = (
        "nobody writes to the table while each row is checked. Add it with postgresql_not_valid=True (NOT VALID), and "
        "VALIDATE CONSTRAINT in a later revision"
    )
    UNREAD = "what it executes stands elsewhere, and is not looked at"


@dataclass(frozen=True)
class Change:
    """One of them, of which table where that is known, in the words that said it."""

    kind: Kind
    table: str | None
    said: str


_NAME_PART = r'(?:"(?:[^"]|"")+"|[\w$]+)'
_NAME = rf"{_NAME_PART}(?:\s*\.\s*{_NAME_PART})*"
# Comments, texts, quoted names, and bodies between dollars.
_LEXEMES = re.compile(
    r"""--[^\n]*|/\*.*?\*/|[eE]'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(\w*)\$.*?\$\1\$""", re.DOTALL
)
_BODY = re.compile(r"\$body(\d+)\$")
_BLOCK_WORDS = re.compile(r"\b(?:BEGIN|THEN|ELSE|LOOP)\b", re.IGNORECASE)
_SHOWN = 70


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text.replace("@NAME", _NAME).replace("@PART", _NAME_PART), re.IGNORECASE)


_CREATES = _pattern(
    r"CREATE (?:(?:GLOBAL|LOCAL|TEMP|TEMPORARY|UNLOGGED|UNIQUE|MATERIALIZED|FOREIGN) )*"
    r"(?:TABLE|INDEX|VIEW|SEQUENCE|TYPE|DOMAIN|SCHEMA)(?: CONCURRENTLY)?(?: IF NOT EXISTS)? (@NAME)"
)
_CREATES_INDEX = _pattern(
    r"CREATE (?:UNIQUE )?INDEX (?P<concurrently>CONCURRENTLY )?(?:IF NOT EXISTS )?(?:@NAME )?"
    r"ON (?:ONLY )?(?P<table>@NAME)"
)
_DROPS = _pattern(
    r"DROP (?:MATERIALIZED VIEW|FOREIGN TABLE|FOREIGN DATA WRAPPER|OWNED BY|\w+)(?: CONCURRENTLY)?(?: IF EXISTS)?"
    r" (?P<names>@NAME(?: ?, ?@NAME)*)(?: ON (?P<table>@NAME))?"
)
_ALTERS = _pattern(
    r"ALTER (?P<what>MATERIALIZED VIEW|FOREIGN TABLE|\w+)(?: IF EXISTS)?(?: ONLY)? (?P<name>@NAME)(?: ?\*)?"
    r" (?P<rest>.+)"
)
_RENAMES = _pattern(r"RENAME\b|SET SCHEMA\b")
_RETYPES = _pattern(r"ALTER (?:COLUMN |ATTRIBUTE )?@PART (?:SET DATA )?TYPE\b")
_REQUIRES = _pattern(r"(?:ALTER (?:COLUMN )?@PART )?SET NOT NULL\b")
_DROPS_OF_COLUMN = _pattern(r"ALTER (?:COLUMN )?@PART DROP (?:DEFAULT|EXPRESSION|IDENTITY)\b")
_DROPS_PART = _pattern(r"DROP (?!NOT NULL\b)")
_ADDS_CONSTRAINT = _pattern(
    r"ADD (?:CONSTRAINT @PART )?(?:(?P<checked>FOREIGN KEY|CHECK)|(?P<indexed>UNIQUE|PRIMARY KEY|EXCLUDE)"
    r"|(?P<required>NOT NULL))\b"
)
_ADDS_COLUMN = _pattern(r"ADD (?:COLUMN )?(?:IF NOT EXISTS )?@PART ")
# What has parts that can be added and taken away.
_OF_PARTS = {"TABLE", "FOREIGN TABLE", "TYPE", "DOMAIN"}


def named(text: str) -> str:
    """A name as the server has it: without quotes, in small letters where it has none."""
    parts = re.findall(_NAME_PART, text)
    return ".".join(part[1:-1].replace('""', '"') if part.startswith('"') else part.lower() for part in parts)


def created_by(sql: str) -> set[str]:
    """The names of what ``sql`` creates."""
    return {named(found[1]) for statement in statements(sql) if (found := _CREATES.match(statement))}


def changes_by(sql: str) -> Iterator[Change]:
    """What ``sql`` changes, in its order."""
    for statement in statements(sql):
        said = statement if len(statement) <= _SHOWN else statement[: _SHOWN - 1] + "…"
        if (found := _CREATES_INDEX.match(statement)) and not found["concurrently"]:
            yield Change(Kind.INDEX, named(found["table"]), said)
        elif found := _DROPS.match(statement):
            names = [named(found["table"])] if found["table"] else _names(found["names"])
            yield from (Change(Kind.DROP, name, said) for name in names)
        elif found := _ALTERS.match(statement):
            what, table = found["what"].upper(), named(found["name"])
            for action in _actions(found["rest"]):
                yield from (Change(kind, table, said) for kind in _altered(what, action))


def _altered(what: str, action: str) -> Iterator[Kind]:
    """What one action of ALTER changes."""
    if _RENAMES.match(action):
        yield Kind.RENAME
    elif what not in _OF_PARTS:
        return
    elif _RETYPES.match(action):
        yield Kind.RETYPE
    elif _REQUIRES.match(action):
        yield Kind.NOT_NULL
    elif _DROPS_OF_COLUMN.match(action) or _DROPS_PART.match(action):
        yield Kind.DROP
    elif found := _ADDS_CONSTRAINT.match(action):
        yield from _constrained(action, found)
    elif what != "TYPE" and _ADDS_COLUMN.match(action):
        yield from _added(action)


def _constrained(action: str, found: re.Match[str]) -> Iterator[Kind]:
    if found["indexed"]:
        if not _has(action, "USING INDEX"):
            yield Kind.INDEX
    elif not _has(action, "NOT VALID"):
        yield Kind.CONSTRAINT if found["checked"] else Kind.NOT_NULL


def _added(column: str) -> Iterator[Kind]:
    if _has(column, "NOT NULL|PRIMARY KEY") and not _has(column, r"DEFAULT|GENERATED|(?:small|big)?serial\d?"):
        yield Kind.NOT_NULL
    if _has(column, "UNIQUE|PRIMARY KEY"):
        yield Kind.INDEX
    if _has(column, "REFERENCES|CHECK"):
        yield Kind.CONSTRAINT


def _has(text: str, words: str) -> bool:
    return re.search(rf"\b(?:{words})\b", text, re.IGNORECASE) is not None


def _names(listed: str) -> list[str]:
    return [named(one) for one in re.findall(_NAME, listed)]


def statements(sql: str) -> Iterator[str]:
    """The statements of ``sql`` without comments and values, on one line each; those of a DO block one by one."""
    bodies: list[str] = []

    def masked(found: re.Match[str]) -> str:
        text = found[0]
        if text.startswith(("--", "/*")):
            return " "
        if text.startswith('"'):
            return text
        if not text.startswith("$"):
            return "''"
        tag = len(found[1]) + 2
        bodies.append(text[tag:-tag])
        return f" $body{len(bodies) - 1}$ "

    for part in _LEXEMES.sub(masked, sql).split(";"):
        statement = " ".join(part.split())
        if re.match(r"DO\b", statement, re.IGNORECASE) and (body := _BODY.search(statement)):
            for inner in statements(bodies[int(body[1])]):
                yield from (one.strip() for one in _BLOCK_WORDS.split(inner))
        elif statement:
            yield statement


def _actions(listed: str) -> list[str]:
    """The actions of an ALTER: commas between parentheses are no ends."""
    depth, actions = 0, [""]
    for character in listed:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            actions.append("")
        else:
            actions[-1] += character
    return [action.strip() for action in actions]
