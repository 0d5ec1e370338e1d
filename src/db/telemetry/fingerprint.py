"""What a statement is, whatever its values: its text with every literal and placeholder as ``?``, and a short hash.

Logs, warnings and spans show this and never the text itself, since a statement may carry values in its text. Where the
reading is in doubt (a quote that never ends, a backslash before a quote) all that follows becomes one ``?``.
"""

from __future__ import annotations

import functools
import hashlib
import re
from typing import NamedTuple

LONGEST_CHARS = 200_000  # of a statement that is read; what follows counts as a value

# One token at a time. What `broken` matches begins something that does not end.
_TOKEN = re.compile(
    r"""
      (?P<space> \s+ | --[^\n]* )
    | (?P<comment> /\* )
    | (?P<value>
          [eE]'(?:[^'\\]|\\.|'')*'
        | (?:[bBnNxX]|[uU]&)?'(?:[^'\\]|''|\\(?!'))*'
        | (?P<tag>\$(?:[^\W\d]\w*)?\$).*?(?P=tag)
        | \$\d+ | %\([^)]{1,100}\)[sbt] | %[sbt]
        | 0[xXoObB][\da-fA-F_]+
        | (?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:[eE][+-]?\d+)?
        | (?:true|false)(?![\w$])
      )
    | (?P<quoted_name> "(?:[^"]|"")*" )
    | (?P<broken> (?:[bBeEnNxX]|[uU]&)?' | " | \$(?:[^\W\d]\w*)?\$ )
    | (?P<percent> %% )
    | (?P<other> [^\W\d][\w$]* | . )
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")

_ITEM = r"\?(?:::\w[\w ]*(?:\(\?(?:, \?)?\))?(?:\[\])*)?"
_ROW = rf"\({_ITEM}(?:, {_ITEM})*\)"
_ELEMENTS = rf"(?:{_ITEM}|{_ROW})(?:, (?:{_ITEM}|{_ROW}))*"
# In this order, each on the outcome of the one before.
_TIDYING = [
    (re.compile(r"\s+"), " "),
    (re.compile(r"(?<=[(\[]) | (?=[)\],;])"), ""),
    (re.compile(r",(?! )"), ", "),
    (re.compile(r"([=<>(,\[] ?)[-+] ?\?"), r"\1?"),
    (re.compile(rf"\bIN \({_ELEMENTS}\)", re.IGNORECASE), "IN (...)"),
    (re.compile(rf"\bARRAY\[{_ELEMENTS}\]", re.IGNORECASE), "ARRAY[...]"),
    (re.compile(rf"({_ROW})(?:, {_ROW})+"), r"\1, ..."),
    # A bare word is a value there, as it is not in UPDATE … SET.
    (re.compile(r"((?:^|; ?)SET (?:LOCAL |SESSION )?[^\s=;]+ ?(?:=|TO\b))[^;]*", re.IGNORECASE), r"\1 ?"),
    (
        re.compile(
            r"((?:^|; ?)(?:ALTER|CREATE(?: OR REPLACE)?) (?:ROLE|USER|DATABASE|SYSTEM|FUNCTION|PROCEDURE|ROUTINE)\b"
            r"[^;]*?\bSET [^\s=;]+ ?(?:=|TO\b))[^;]*",
            re.IGNORECASE,
        ),
        r"\1 ?",
    ),
    (re.compile(r"[\s;]+$"), ""),
]
_TARGET = re.compile(r"\b(?:FROM|INTO|UPDATE|JOIN) ([\w.\"$]+)", re.IGNORECASE)


class Fingerprint(NamedTuple):
    """``text`` holds no value; ``id`` is its hash, the same in every process and version of Python."""

    id: str
    text: str

    @property
    def summary(self) -> str:
        """Its first word and the first table it names: ``SELECT orders``."""
        verb = self.text.partition(" ")[0].upper()
        target = _TARGET.search(self.text)
        return f"{verb} {target[1]}" if target else verb


@functools.lru_cache(maxsize=256)
def fingerprint(statement: str) -> Fingerprint:
    """The fingerprint of ``statement``, as PostgreSQL or SQLite would read it."""
    text = "".join(_without_values(statement[:LONGEST_CHARS])).strip()
    for pattern, replacement in _TIDYING:
        text = pattern.sub(replacement, text)
    return Fingerprint(hashlib.blake2b(text.encode(errors="replace"), digest_size=6).hexdigest(), text)


def _without_values(statement: str) -> list[str]:
    tokens: list[str] = []
    position = 0
    while match := _TOKEN.match(statement, position):
        position = match.end()
        match match.lastgroup:
            case "space":
                tokens.append(" ")
            case "comment":
                tokens.append(" ")
                position = _end_of_comment(statement, position)
            case "value":
                tokens.append("?")
            case "broken":
                return [*tokens, "?"]
            case "percent":
                tokens.append("%")
            case _:
                tokens.append(match[0])
    return tokens


def _end_of_comment(statement: str, start: int) -> int:
    """Where the comment whose opening ends at ``start`` has ended: PostgreSQL's may hold others."""
    depth = 1
    for edge in _COMMENT_EDGE.finditer(statement, start):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(statement)
