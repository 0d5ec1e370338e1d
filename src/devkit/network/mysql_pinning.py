"""What pins an RDS Proxy session before MySQL and MariaDB: other statements than before PostgreSQL, for which see
``pinning``, that has the check of a whole block for both.

The conditions are AWS's: https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/rds-proxy-pinning.html#rds-proxy-pinning.mysql
What its page says to pin *sometimes* counts as what pins. SET LOCAL, which is not to pin by that page, is another word
for SET SESSION here, and counts as that. Several statements in one text are in no list: each is looked at.
"""

from __future__ import annotations

import re
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

STATEMENT_MAX_BYTES = 16 * 1024

# Of these the proxy keeps account, and gives the session a connection that has the same.
TRACKED = {
    "autocommit",
    "auto_increment_increment",
    "character_set_client",
    "character_set_database",
    "character_set_filesystem",
    "character_set_connection",
    "character_set_results",
    "character_set_server",
    "collation_connection",
    "collation_database",
    "collation_server",
    "interactive_timeout",
    "net_write_timeout",
    "query_cache_type",
    "session_track_schema",
    "sql_mode",
    "time_zone",
    "wait_timeout",
    "transaction_isolation",
    "tx_isolation",
    "transaction_read_only",
    "tx_read_only",
}
# Said by `SET @@name`, they are for the next transaction alone, which it keeps no account of.
OF_TRANSACTIONS = {"transaction_isolation", "tx_isolation", "transaction_read_only", "tx_read_only"}
SCOPES = {"session", "local", "global", "persist", "persist_only"}
OF_THE_SERVER = {"global", "persist", "persist_only"}
FUNCTIONS = {
    "get_lock": "takes a lock of the session",
    "row_count": "reads what the last statement left",
    "found_rows": "reads what the last statement left",
    "last_insert_id": "reads what the last statement left",
}
COMMANDS = {
    "prepare": "keeps a prepared statement",
    "execute": "uses a prepared statement",
    "deallocate": "drops a prepared statement",
    "drop prepare": "drops a prepared statement",
    "lock table": "locks for the session",
    "lock tables": "locks for the session",
}

# https://dev.mysql.com/doc/refman/8.4/en/lexical-structure.html
TOKEN = re.compile(
    r"""
      (?P<run> /\*M?! )
    | (?P<nothing> \s+ | --(?=\s|$)[^\n]* | \#[^\n]* | /\*.*?(?:\*/|$) )
    | (?P<literal> '(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.|"")*" )
    | (?P<quoted> `(?:[^`]|``)*` )
    | (?P<sign> := | @@ | @ )
    | (?P<word> [\w$]+ )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)


def pins(statement: str) -> str | None:
    """Why ``statement`` (the text that is sent; several may stand in it) would pin an RDS Proxy session, else None.

    What stands in literals, comments and quoted names does not matter, but for comments that the server runs.
    """
    size = len(statement.encode())
    if size > STATEMENT_MAX_BYTES:
        return f"its text has {size:,} bytes, more than {STATEMENT_MAX_BYTES:,}"
    for ends, tokens in groupby(_tokens(statement), key=";".__eq__):
        if not ends and (reason := _reason(list(tokens))):
            return reason
    return None


def _reason(tokens: list[str]) -> str | None:
    if "/*!" in tokens:
        return "a comment that the server runs cannot be looked into"
    if tokens[0] == "set" and (reason := _reason_of_set(tokens[1:])):
        return reason
    return _reason_of_command(tokens) or _reason_of_what_is_inside(tokens)


def _reason_of_command(tokens: list[str]) -> str | None:
    words = " ".join(tokens[:2])
    for command, reason in COMMANDS.items():
        if words == command or tokens[0] == command:
            return f"{command.upper()} {reason}"
    if tokens[0] == "flush" and _has(tokens, "read", "lock"):
        return "FLUSH TABLES WITH READ LOCK locks for the session"
    if tokens[0] == "create" and "temporary" in tokens[1:4]:
        return "it makes a temporary table"
    return None


def _reason_of_what_is_inside(tokens: list[str]) -> str | None:
    for name, behind in pairwise(tokens):
        if behind == "(" and name in FUNCTIONS:
            return f"{name.upper()} {FUNCTIONS[name]}"
    if _has(tokens, "into", "@") or any(one == ":=" and tokens[place - 2] == "@" for place, one in enumerate(tokens)):
        return "it sets a user variable"
    return None


def _reason_of_set(tokens: list[str]) -> str | None:
    if tokens[:1] == ["statement"]:
        return "SET STATEMENT sets a variable"
    if tokens[:1] == ["transaction"]:
        return "SET TRANSACTION is for the next transaction alone"
    if tokens[1:2] == ["transaction"] or tokens[:1] == ["password"]:
        return None
    for assignment in _assignments(tokens):
        if reason := _reason_of_assignment(assignment):
            return reason
    return None


def _reason_of_assignment(tokens: list[str]) -> str | None:
    """Why one ``name = value`` of a SET pins. The value may be anything."""
    if tokens[:1] == ["@"]:
        return "SET sets a user variable"
    if tokens[:1] in (["names"], ["charset"]) or tokens[:2] in (["character", "set"], ["char", "set"]):
        return None
    is_marked, scope, named = tokens[:1] == ["@@"], None, tokens
    if is_marked:
        named = tokens[1:]
    if named[:1] and named[0] in SCOPES and (not is_marked or named[1:2] == ["."]):
        scope, named = named[0], named[2:] if is_marked else named[1:]
    name = named[0].strip("`").lower() if named else ""
    if scope in OF_THE_SERVER or name not in TRACKED:
        return f"SET sets {name}"
    if name in OF_TRANSACTIONS and is_marked and scope is None:
        return f"SET @@{name} is for the next transaction alone"
    return None


def _assignments(tokens: list[str]) -> Iterator[list[str]]:
    """What stands between the commas; those within parentheses do not count."""
    found: list[str] = []
    depth = 0
    for one in tokens:
        depth += (one == "(") - (one == ")")
        if one == "," and not depth:
            yield found
            found = []
        else:
            found.append(one)
    yield found


def _has(tokens: list[str], *pair: str) -> bool:
    return any(found == pair for found in pairwise(tokens))


def _tokens(statement: str) -> Iterator[str]:
    """Words in lower case, quoted names with their quotes, a quote for a literal, and the other characters."""
    for match in TOKEN.finditer(statement):
        match match.lastgroup:
            case "run":
                yield "/*!"
            case "word":
                yield match[0].lower()
            case "literal":
                yield "'"
            case "quoted" | "sign" | "other":
                yield match[0]
