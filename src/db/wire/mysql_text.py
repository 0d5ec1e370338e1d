"""What the text of a statement tells on MySQL and MariaDB: how it has to travel, and what it does. Pure.

Read from the text as it is sent, with its values in it. What a stored procedure does inside is not seen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

# Blanks and comments. The server runs what is in /*! and /*M!: what opens those is as good as a blank.
_COMMENT = rb"--(?:[\x00-\x09\x0b-\x20][^\n]*+)?\n|#[^\n]*+\n|/\*(?!M?!)(?:[^*]|\*(?!/))*+\*/"
_GAP = rb"(?:\s|" + _COMMENT + rb"|/\*M?!\d*+)++"
_LEAD = rb"(?:[\s(]|" + _COMMENT + rb"|/\*M?!\d*+)*+"
_WORDS = re.compile(_LEAD + rb"([a-z]+)(?:" + _GAP + rb"([@a-z_]+))?", re.IGNORECASE)
# Which server it is run by, nobody knows here: nothing of it is taken for what only reads.
_LEAD_IS_RUN = re.compile(rb"(?:[\s(]|" + _COMMENT + rb")*+/\*M?!", re.IGNORECASE)
# What makes one answer, commits nothing by itself, and so may share a packet with what goes before and behind it.
_READS = {b"select", b"with", b"values", b"table", b"show", b"explain", b"describe", b"desc"}
_WRITES = {b"insert", b"update", b"delete", b"replace"}
# https://mariadb.com/kb/en/sql-statements-that-cause-an-implicit-commit/
# https://dev.mysql.com/doc/refman/8.4/en/implicit-commit.html
_COMMITS = {
    *(
        b"alter",
        b"analyze",
        b"backup",
        b"cache",
        b"change",
        b"check",
        b"create",
        b"drop",
        b"flush",
        b"grant",
        b"import",
        b"install",
        b"lock",
        b"optimize",
    ),
    *(b"rename", b"repair", b"reset", b"revoke", b"stop", b"truncate", b"uninstall", b"unlock"),
}
_COMMITS_BY_TWO = {(b"set", b"password"), (b"set", b"default"), (b"load", b"index")}
# Of which these do so only for tables: MariaDB's ANALYZE runs a statement, and shows how.
_OF_TABLES = {b"analyze", b"check", b"optimize", b"repair"}
_TABLES = {b"table", b"tables", b"local", b"no_write_to_binlog", b"view"}
_TEMPORARY = re.compile(_LEAD + rb"(?:create%b(?:or%breplace%b)?|drop%b)temporary\b" % ((_GAP,) * 4), re.IGNORECASE)
# WITH, and what MariaDB's ANALYZE runs, may write after all.
_MAY_WRITE = re.compile(rb"\b(?:update|delete|insert|replace)\b", re.IGNORECASE)
_ENDS = {b"begin", b"start", b"commit", b"rollback", b"xa", b"lock", b"unlock"}
_BACK_TO = re.compile(_LEAD + rb"rollback%b(?:work%b)?to\b" % (_GAP, _GAP), re.IGNORECASE)
_NOT_ATOMIC = re.compile(_LEAD + rb"begin%bnot%batomic\b" % (_GAP, _GAP), re.IGNORECASE)
# MariaDB's: settings for the one statement behind them.
_SET_STATEMENT = re.compile(
    _LEAD + rb"""set%bstatement\b(?:'[^']*'|"[^"]*"|[^'"])*?\bfor\b""" % _GAP, re.IGNORECASE | re.DOTALL
)
_AUTOCOMMIT = re.compile(rb"\bautocommit\s*:?=", re.IGNORECASE)
# SET that is for the whole server. One that is for the next transaction waits for it in the pool, if none comes.
_SETS_THE_SERVER = {b"global", b"persist", b"@@global", b"@@persist"}
_SET_ISOLATION = re.compile(_LEAD + rb"set%b(?:session|local)%btransaction\b" % (_GAP, _GAP), re.IGNORECASE)
_SETS_CHARSET = re.compile(rb"\bnames\b|char", re.IGNORECASE)
_LEFT_BY_FIRST = {
    b"backup": "BACKUP",
    b"handler": "HANDLER",
    b"lock": "LOCK TABLES",
    b"prepare": "PREPARE",
    b"use": "USE",
}
_LOCKS_TABLES = re.compile(rb"\bread\s+lock\b|\bfor\s+export\b", re.IGNORECASE)
# What writes into a variable by the place where it stands.
_FILLS_VARIABLES = {b"call", b"get", b"load"}
_VARIABLE = re.compile(rb"@[\w$.`'\"]")
_LEFT_INSIDE = (
    (re.compile(rb"\bget_lock(?:%b)?\(" % _GAP, re.IGNORECASE), "a lock of GET_LOCK"),
    (re.compile(rb"""@(?:[\w$.]+|`[^`]*`|'[^']*'|"[^"]*")\s*:=|\binto\s+@""", re.IGNORECASE), "a user variable"),
)
# What is a text, a name or a comment is no end of a statement; where a text has no end, nor a comment, who knows.
# Nor is it known where one in double quotes ends that has a backslash: under ANSI_QUOTES, that is a letter of a name.
_TOKENS = {
    True: re.compile(rb"""'(?:[^'\\]++|\\.|'')*+'|"(?:[^"\\]++|"")*+"|`[^`]*+`|;|--|\#|/\*|['"`]""", re.DOTALL),
    False: re.compile(rb"""'[^']*+'|"[^"]*+"|`[^`]*+`|;|--|\#|/\*|['"`]"""),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """What is known of a statement by its text.

    ``rides``: it may share a packet with others. ``reads``: it is one that gives rows, and most often changes nothing.
    ``commits``: what came before it in the transaction is committed by it, unasked. ``ends``: it is about the
    transaction itself. ``leaves``: what it leaves on the session, None for nothing. ``waits``: it is about a savepoint,
    and may wait for the next statement. ``recodes``: what follows may be read in another character set. ``named``: its
    first words, which hold no value.
    """

    rides: bool
    reads: bool
    commits: bool
    ends: bool
    leaves: str | None
    waits: bool
    recodes: bool
    named: str


def kind_of(text: bytes) -> Kind:
    """What ``text`` tells."""
    if (setting := _SET_STATEMENT.match(text)) is not None:
        return replace(kind_of(text[setting.end() :]), rides=False)
    match = _WORDS.match(text)
    first, second = (b"", b"") if match is None else ((word or b"").lower() for word in match.groups())
    is_plain = _LEAD_IS_RUN.match(text) is None
    reads = is_plain and first in _READS and not (first == b"with" and _MAY_WRITE.search(text))
    is_temporary = first in {b"create", b"drop"} and _TEMPORARY.match(text) is not None
    ends = first in _ENDS and not (first == b"start" and second != b"transaction")
    if first == b"rollback":
        ends = _BACK_TO.match(text) is None
    elif first == b"begin":
        ends = _NOT_ATOMIC.match(text) is None
    elif first == b"set":
        ends = _AUTOCOMMIT.search(text) is not None
    commits = first in _COMMITS and not is_temporary and (first not in _OF_TABLES or second in _TABLES)
    return Kind(
        rides=is_plain and (first in _READS or first in _WRITES),
        reads=reads,
        commits=commits or (first, second) in _COMMITS_BY_TWO,
        ends=ends,
        leaves="a temporary table" if is_temporary and first == b"create" else _left(first, second, text),
        waits=_waits(first, second),
        recodes=first == b"set" and _SETS_CHARSET.search(text) is not None,
        named=b" ".join(filter(None, (first, second))).decode().upper() or "the statement",
    )


def _waits(first: bytes, second: bytes) -> bool:
    return first == b"savepoint" or (first, second) in {(b"release", b"savepoint"), (b"rollback", b"to")}


def _left(first: bytes, second: bytes, text: bytes) -> str | None:
    if first == b"set":
        return _left_by_set(second, text)
    if first == b"flush" and _LOCKS_TABLES.search(text):
        return "FLUSH TABLES WITH READ LOCK"
    if first in _FILLS_VARIABLES and _VARIABLE.search(text):
        return "a user variable"
    if first in _LEFT_BY_FIRST:
        return _LEFT_BY_FIRST[first]
    return next((name for pattern, name in _LEFT_INSIDE if pattern.search(text)), None)


def _left_by_set(second: bytes, text: bytes) -> str | None:
    if second == b"password" or (second in _SETS_THE_SERVER and b"," not in text):
        return None
    if second == b"transaction":
        return "SET TRANSACTION"
    return "SET SESSION TRANSACTION" if _SET_ISOLATION.match(text) else "SET"


def may_be_several(text: bytes, *, backslashes: bool) -> bool:
    """Whether ``text`` may hold more than one statement; ``backslashes`` escape a quote in it.

    It may not where each semicolon is within a text or a name. A comment that is not looked into counts as one that
    hides an end: what is one statement after all only costs a trip.
    """
    if b";" not in text:
        return False
    return any(len(token[0]) == 1 or token[0] in {b"--", b"/*"} for token in _TOKENS[backslashes].finditer(text))
