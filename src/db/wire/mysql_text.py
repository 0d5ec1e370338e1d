"""What the text of a statement tells on MySQL and MariaDB: how it has to travel, and what it does. Pure.

Read from the text as it is sent, with its values in it. What a stored procedure does inside is not seen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Blanks, comments and opening brackets. The server runs what is in /*! and /*M!: those are no comments.
_LEAD = rb"(?:[\s(]++|--[ \t][^\n]*+\n|#[^\n]*+\n|/\*(?!M?!)(?:[^*]|\*(?!/))*+\*/)*+"
_WORDS = re.compile(_LEAD + rb"([a-z]+)(?:\s+([@a-z_]+))?", re.IGNORECASE)
# What makes one answer, commits nothing by itself, and so may share a packet with what goes before and behind it.
_READS = {b"select", b"with", b"values", b"table", b"show", b"explain", b"describe", b"desc"}
_WRITES = {b"insert", b"update", b"delete", b"replace"}
# https://mariadb.com/kb/en/sql-statements-that-cause-an-implicit-commit/
# https://dev.mysql.com/doc/refman/8.4/en/implicit-commit.html
_COMMITS = {
    *(
        b"alter",
        b"analyze",
        b"cache",
        b"check",
        b"create",
        b"drop",
        b"flush",
        b"grant",
        b"install",
        b"lock",
        b"optimize",
    ),
    *(b"rename", b"repair", b"reset", b"revoke", b"stop", b"truncate", b"uninstall", b"unlock"),
}
# Of which these do so only for tables: MariaDB's ANALYZE runs a statement, and shows how.
_OF_TABLES = {b"analyze", b"check", b"optimize", b"repair"}
_TABLES = {b"table", b"tables", b"local", b"no_write_to_binlog", b"view"}
_TEMPORARY = re.compile(_LEAD + rb"(?:create\s+(?:or\s+replace\s+)?|drop\s+)temporary\b", re.IGNORECASE)
# WITH, and what MariaDB's ANALYZE runs, may write after all.
_MAY_WRITE = re.compile(rb"\b(?:update|delete|insert|replace)\b", re.IGNORECASE)
_ENDS = {b"begin", b"start", b"commit", b"rollback", b"xa", b"lock", b"unlock"}
_BACK_TO = re.compile(_LEAD + rb"rollback\s+(?:work\s+)?to\b", re.IGNORECASE)
_NOT_ATOMIC = re.compile(_LEAD + rb"begin\s+not\s+atomic\b", re.IGNORECASE)
_AUTOCOMMIT = re.compile(rb"\bautocommit\s*:?=", re.IGNORECASE)
# SET that ends with its statement or its transaction, or is for the whole server.
_SETS_NO_SESSION = {b"statement", b"transaction", b"global", b"password", b"persist"}
_SET_ISOLATION = re.compile(_LEAD + rb"set\s+(?:session\s+|local\s+)?transaction\b", re.IGNORECASE)
_LEFT_BY_FIRST = {b"prepare": "PREPARE", b"use": "USE", b"handler": "HANDLER", b"lock": "LOCK TABLES"}
_LEFT_INSIDE = (
    (re.compile(rb"\bget_lock\s*\(", re.IGNORECASE), "a lock of GET_LOCK"),
    (re.compile(rb"@[\w$.]+\s*:=|\binto\s+@", re.IGNORECASE), "a user variable"),
)
# What is a text, a name or a comment is no end of a statement; where a text has no end, nor a comment, who knows.
_TOKENS = {
    True: re.compile(rb"""'(?:[^'\\]++|\\.|'')*+'|"(?:[^"\\]++|\\.|"")*+"|`[^`]*+`|;|--|\#|/\*|['"`]""", re.DOTALL),
    False: re.compile(rb"""'[^']*+'|"[^"]*+"|`[^`]*+`|;|--|\#|/\*|['"`]"""),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """What is known of a statement by its text.

    ``rides``: it may share a packet with others. ``reads``: it is one that gives rows, and most often changes nothing.
    ``commits``: what came before it in the transaction is committed by it, unasked. ``ends``: it is about the
    transaction itself. ``leaves``: what it leaves on the session, None for nothing. ``waits``: it is about a savepoint,
    and may wait for the next statement. ``named``: its first words, which hold no value.
    """

    rides: bool
    reads: bool
    commits: bool
    ends: bool
    leaves: str | None
    waits: bool
    named: str


def kind_of(text: bytes) -> Kind:
    """What ``text`` tells."""
    match = _WORDS.match(text)
    first, second = (b"", b"") if match is None else ((word or b"").lower() for word in match.groups())
    reads = first in _READS and not (first == b"with" and _MAY_WRITE.search(text))
    is_temporary = first in {b"create", b"drop"} and _TEMPORARY.match(text) is not None
    ends = first in _ENDS and not (first == b"start" and second != b"transaction")
    if first == b"rollback":
        ends = _BACK_TO.match(text) is None
    elif first == b"begin":
        ends = _NOT_ATOMIC.match(text) is None
    elif first == b"set":
        ends = _AUTOCOMMIT.search(text) is not None
    return Kind(
        rides=first in _READS or first in _WRITES,
        reads=reads,
        commits=first in _COMMITS and not is_temporary and (first not in _OF_TABLES or second in _TABLES),
        ends=ends,
        leaves="a temporary table" if is_temporary and first == b"create" else _left(first, second, text),
        waits=_waits(first, second),
        named=b" ".join(filter(None, (first, second))).decode().upper() or "the statement",
    )


def _waits(first: bytes, second: bytes) -> bool:
    return first == b"savepoint" or (first, second) in {(b"release", b"savepoint"), (b"rollback", b"to")}


def _left(first: bytes, second: bytes, text: bytes) -> str | None:
    if first == b"set":
        if second in _SETS_NO_SESSION or second.startswith(b"@@global"):
            return None
        return "SET SESSION TRANSACTION" if _SET_ISOLATION.match(text) else "SET"
    if first in _LEFT_BY_FIRST:
        return _LEFT_BY_FIRST[first]
    return next((name for pattern, name in _LEFT_INSIDE if pattern.search(text)), None)


def may_be_several(text: bytes, *, backslashes: bool) -> bool:
    """Whether ``text`` may hold more than one statement; ``backslashes`` escape a quote in it.

    It may not where each semicolon is within a text or a name. A comment that is not looked into counts as one that
    hides an end: what is one statement after all only costs a trip.
    """
    if b";" not in text:
        return False
    return any(len(token[0]) == 1 or token[0] in {b"--", b"/*"} for token in _TOKENS[backslashes].finditer(text))
