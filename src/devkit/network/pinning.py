"""What pins an RDS Proxy session to one server connection, so that no other client can use that until the session ends.

The conditions are AWS's for PostgreSQL: https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/rds-proxy-pinning.html
Where AWS's pages differ, the stricter one holds here: SET LOCAL and ``set_config(..., true)`` pin, and so do prepared
statements of the protocol. SHOW is in no list: it does not pin. What a stored function does is not looked at, by the
proxy neither: that is where a ``set_config`` may hide.

``no_pinning`` is for MySQL as well, by the conditions of ``mysql_pinning``.
"""

from __future__ import annotations

import contextlib
import re
import sys
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from . import mysql_pinning
from .mysql_statements import MySqlWire
from .statements import Startup, Statement, texts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .statements import Message, PostgresWire

STATEMENT_MAX_BYTES = 16 * 1024
SHOWN_CHARS = 200

COMMANDS = {
    "set": "sets a parameter",
    "reset": "resets a parameter",
    "prepare": "keeps a prepared statement",
    "execute": "uses a prepared statement",
    "deallocate": "drops a prepared statement",
    "discard": "discards the session's state",
    "declare": "opens a cursor",
    "listen": "listens on a channel",
    "load": "loads a library",
}

FUNCTIONS = {
    "set_config": "sets a parameter",
    "nextval": "moves a sequence",
    "setval": "moves a sequence",
    # What a sequence has given to this session: on another connection it is an error, or another client's number.
    "lastval": "reads what a sequence gave to the session",
    "currval": "reads what a sequence gave to the session",
    "pg_advisory_lock": "takes a lock of the session",
    "pg_advisory_lock_shared": "takes a lock of the session",
    "pg_try_advisory_lock": "takes a lock of the session",
    "pg_try_advisory_lock_shared": "takes a lock of the session",
    "pg_advisory_unlock": "releases a lock of the session",
    "pg_advisory_unlock_shared": "releases a lock of the session",
    "pg_advisory_unlock_all": "releases the locks of the session",
}

# https://www.postgresql.org/docs/18/sql-syntax-lexical.html. Block comments nest, so they are not a pattern's work.
TOKEN = re.compile(
    r"""
      (?P<nothing> \s+ | --[^\r\n]* )
    | (?P<comment> /\* )
    | (?P<literal> [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | (?P<tag>\$(?:[^\W\d]\w*)?\$).*?(?P=tag) )
    | (?P<escaped> [uU]&"(?:[^"]|"")*" )
    | (?P<quoted> "(?:[^"]|"")*" )
    | (?P<word> [^\W\d][\w$]* )
    | (?P<other> \$?\d+ | . )
    """,
    re.VERBOSE | re.DOTALL,
)
COMMENT_EDGE = re.compile(r"/\*|\*/")
UESCAPE = re.compile(r"\s+UESCAPE\s*'([^0-9a-fA-F+'\"\s])'", re.IGNORECASE)
OF_TEMPORARY_OBJECTS = re.compile(r"pg_temp(?:_\d+)?|pg_toast_temp_\d+")


class PinningError(AssertionError):
    """A block pinned its session, or would have been refused by the proxy. The message lists by what."""


def pins(statement: str) -> str | None:
    """Why ``statement`` (the text that is sent; several may stand in it) would pin an RDS Proxy session, else None.

    What stands in literals, comments and quoted names does not matter, a quoted name that is called excepted.
    """
    size = len(statement.encode())
    if size > STATEMENT_MAX_BYTES:
        return f"its text has {size:,} bytes, more than {STATEMENT_MAX_BYTES:,}"
    for ends, tokens in groupby(tokens_of(statement), key=";".__eq__):
        reason = None if ends else _reason(list(tokens))
        if reason:
            return reason
    return None


@contextlib.contextmanager
def no_pinning(wire: PostgresWire | MySqlWire) -> Iterator[None]:
    """Raise PinningError if anything that passes ``wire`` in the block pins a session, whoever sent it.

    RuntimeError if nothing passes, or what passes is encrypted: then the block proves nothing.
    """
    before = len(wire.messages())
    yield
    passed = wire.messages()[before:]
    if not texts_of(passed):
        raise RuntimeError("no statement passed this wire: the block used another connection")
    reason_of = mysql_pinning.pins if isinstance(wire, MySqlWire) else pins
    found = [line for message in passed if (line := _complaint(message, reason_of))]
    if found:
        raise PinningError("\n".join(["this pins an RDS Proxy session:", *found]))


def _complaint(message: Message, reason_of: Callable[[str], str | None]) -> str | None:
    match message:
        case Startup(parameters) if "options" in parameters:
            return f"- the startup options {parameters['options']!r}: the proxy refuses them"
        case Statement(text, name):
            reason = reason_of(text) or (f"is kept as the prepared statement {name!r}" if name else None)
            return f"- {reason}: {text[:SHOWN_CHARS]}" if reason else None
    return None


def _reason(tokens: list[str]) -> str | None:
    tokens = _explained(tokens)
    first = tokens[0]
    if first in COMMANDS:
        return f"{first.upper()} {COMMANDS[first]}"
    if first == "create" and "execute" in _after_as(tokens):
        return f"EXECUTE {COMMANDS['execute']}"
    for name, following in pairwise(tokens):
        called = name.strip('"')
        if following == "(" and called in FUNCTIONS:
            return f"{called} {FUNCTIONS[called]}"
        if following == "." and OF_TEMPORARY_OBJECTS.fullmatch(called):
            return "it uses a temporary object"
    if first == "update" and _updated(tokens).strip('"') == "pg_settings":
        return "UPDATE of pg_settings sets a parameter"  # the view's rule calls set_config
    return "it makes a temporary object" if _makes_temporary(tokens) else None


def _explained(tokens: list[str]) -> list[str]:
    """What EXPLAIN explains, and with ANALYZE runs; any other statement as it is."""
    if tokens[0] != "explain":
        return tokens
    place = 1
    if tokens[1:2] == ["("] and tokens[2:3] != ["("] and tokens[2:3] not in (["select"], ["with"], ["values"]):
        place = tokens.index(")") + 1 if ")" in tokens else len(tokens)
    while tokens[place : place + 1] in (["analyze"], ["analyse"], ["verbose"]):
        place += 1
    return tokens[place:] or tokens


def _after_as(tokens: list[str]) -> list[str]:
    """The word behind the AS of CREATE TABLE … AS; that of a column, a cast or a query is not meant."""
    depth = 0
    for word, following in pairwise(tokens):
        depth += (word == "(") - (word == ")")
        if word == "as" and not depth:
            return [following]
    return []


def _updated(tokens: list[str]) -> str:
    """The table of an UPDATE, without its schema."""
    named = tokens[2:] if tokens[1:2] == ["only"] else tokens[1:]
    return "".join(named[2:3] if named[1:2] == ["."] else named[:1])


def _makes_temporary(tokens: list[str]) -> bool:
    if tokens[0] == "create":
        return _is_temporary(tokens[3:] if tokens[1:3] == ["or", "replace"] else tokens[1:])
    # SELECT INTO TEMP makes a table; INSERT INTO temp and MERGE INTO temp write to one that is called so.
    return any(
        pair[1] == "into" and pair[0] not in {"insert", "merge"} and _is_temporary(tokens[place + 2 :])
        for place, pair in enumerate(pairwise(tokens))
    )


def _is_temporary(what: list[str]) -> bool:
    kind = what[1:2] if what[:1] in (["global"], ["local"]) else what[:1]
    return kind in (["temp"], ["temporary"])


def tokens_of(statement: str) -> Iterator[str]:
    """Words in lower case, quoted names with their quotes, a quote for a literal, and the other characters."""
    place = 0
    while match := TOKEN.match(statement, place):
        place = match.end()
        match match.lastgroup:
            case "comment":
                place = _after_comment(statement, place)
            case "word":
                yield match[0].lower()
            case "literal":
                yield "'"
            case "escaped":
                given = UESCAPE.match(statement, place)
                place = given.end() if given else place
                yield _unescaped(match[0][2:], given[1] if given else "\\")
            case "quoted" | "other":
                yield match[0]


def _unescaped(name: str, mark: str) -> str:
    r"""What ``U&"set\005fconfig"`` is called; ``mark`` stands before the digits."""
    mark = re.escape(mark)
    digits = re.compile(rf"{mark}(?:([0-9a-fA-F]{{4}})|\+([0-9a-fA-F]{{6}})|({mark}))")
    return digits.sub(lambda found: found[3] or _character(found[1] or found[2]), name)


def _character(digits: str) -> str:
    code = int(digits, 16)
    return chr(code) if code <= sys.maxunicode else ""


def _after_comment(statement: str, place: int) -> int:
    depth = 1
    while depth:
        edge = COMMENT_EDGE.search(statement, place)
        if edge is None:
            return len(statement)
        depth += 1 if edge[0] == "/*" else -1
        place = edge.end()
    return place
