"""What the text of a statement tells: how it has to travel, and what it does to transaction and session. Pure.

Read from the text, as nothing else is there before it is sent. What a function does inside is not seen.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

# What few texts ask for stands here as text: it is compiled for the first of those, and kept by ``re``, not in a cold
# start.
# Blanks, comments and opening brackets. A comment within a comment is left to the server.
_LEAD = r"(?:[\s(]++|--[^\n]*+\n|/\*(?:[^*/]|\*(?!/)|/(?!\*))*+\*/)*+"
_FIRST_WORDS = re.compile(rf"{_LEAD}([a-z]+)(?:\s+([a-z_]+))?", re.IGNORECASE)
# What may share a flight: one statement, known by its first word. COPY breaks a pipeline, the text of two statements is
# refused by the extended protocol, and what ends or prepares the transaction must not be sent twice. The rest is sent
# behind an opening flight of its own, in psycopg's way, at one more trip.
_STAND_APART = {"", "copy", "prepare", "begin", "start", "commit", "end", "rollback", "abort"}
_END = {"commit", "end", "rollback", "abort", "prepare"}
_BACK_TO = rf"{_LEAD}rollback\s+(?:(?:work|transaction)\s+)?to\b"
_ENDS_INSIDE = r";\s*(?:commit|end|rollback|abort|prepare\s+transaction)\b"
# The END of a body, of DO or of a function, ends no transaction: it is within quotes, or behind BEGIN ATOMIC.
_QUOTED = r"\$([a-z_]\w*|)\$.*?\$\1\$|'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/"
_ATOMIC = r"\bbegin\s+atomic\b"
# What is said for the rest of a transaction, or lives no longer than it.
_HOLD = {"begin", "start", "lock", "declare", "fetch", "move", "close", "savepoint", "release"}
_HOLDING = re.compile(r"\b(?:set_config|pg_(?:try_)?advisory_xact_lock\w*|pg_export_snapshot)\b|;\s*set\b")
_MODES = rf"{_LEAD}set\s+(?:(?:session|local)\s+)?(?:transaction\b|transaction_(?:isolation|read_only|deferrable)\b)"
_READ_ONLY = r"\bread\s+only\b|\btransaction_read_only\b(?!.*\b(?:off|false|no|0|default)\b)"
_LOCAL = {"local", "transaction", "constraints"}
# What stays on the session, by the words that make it. In a transaction that is rolled back most of it does not stay;
# that is not looked at, as the cost is a connection.
_TEMPORARY = (
    r"(?:(?:or\s+replace|global|local)\s+)*(?:(?:temp|temporary)\s+(?!select\b|values\b|default\b|\()"
    r"|(?:unlogged\s+)?[a-z]*\s*(?:if\s+not\s+exists\s+)?pg_temp\s*\.)(?![^;]*\bon\s+commit\s+drop\b)"
)
# DEALLOCATE may take along what the driver has prepared, and still holds to be there.
_LEFT_BY_FIRST = {"listen": "LISTEN", "load": "LOAD", "prepare": "PREPARE", "deallocate": "DEALLOCATE"}
# As RESET: what a listener to "reset" may say each time.
_TO_DEFAULT = r"set\s+(?:session\s+)?(?:[\w.]+\s*(?:=|\bto\b)|authorization)\s*default\s*;?\s*$"
SET_CONFIG = "set_config for the session"
# The last argument of set_config that says "for the transaction", or a parameter, of which see ``leaves_if_false``.
_LOCALLY = r"(?:true|'(?:t|true|y|yes|on|1)'|%s|%\(\w+\)s|\$\d+|:\w+)(?:::bool(?:ean)?)?"
# The word that each takes comes first: most texts have none of them, and nothing is compiled for those.
_LEFT_INSIDE = (
    ("advisory_lock", r"\bpg_(?:try_)?advisory_lock(?:_shared)?\b", "a session advisory lock"),
    ("set_config", r"\bset_config\b[^;]*,\s*false\s*\)", SET_CONFIG),
    ("set_config", rf"\bset_config\"?\s*\((?!(?:(?!\bset_config\b)[^;])*,\s*{_LOCALLY}\s*\))", SET_CONFIG),
    ("pg_settings", r"\bupdate\s+(?:only\s+)?(?:pg_catalog\s*\.\s*)?pg_settings\b", "SET"),
    ("temp", rf"\bcreate\s+{_TEMPORARY}|\bselect\b[^;]*\binto\s+{_TEMPORARY}", "a temporary table"),
    ("hold", r"\bdeclare\b[^;]*\bwith\s+hold\b", "a cursor WITH HOLD"),
    # In a body as well, of DO for example.
    ("set", r"(?:;|\b(?:begin|then|else|loop))\s*set\s+(?!local\b|transaction\b|constraints\b)", "SET"),
    ("listen", r";\s*listen\b", "LISTEN"),
)
_CACHED_CHARS = 4_000  # of a text that is remembered: one with many rows in it is seldom met twice


@dataclass(frozen=True, slots=True)
class Kind:
    """What is known of a statement by its text.

    ``is_single``: the protocol takes it as one statement even where no parameter proves that. ``stands_apart``: it
    cannot travel behind BEGIN. ``can_wait``: it may be one that waits for the next flight. ``holds``: it is said for
    the rest of the transaction. ``sets_modes``: it must come before the transaction's first query, and
    ``says_read_only``, with that, that nothing is written in it. ``ends``, ``commits``: it may end the transaction, and
    commit it. ``leaves``: what it leaves on the session, None for nothing, and ``leaves_if_false`` where a parameter
    may say so, of set_config that it is not for the transaction alone. ``is_ordinary``: none of this, as almost always.
    """

    is_single: bool
    stands_apart: bool
    can_wait: bool
    holds: bool
    sets_modes: bool
    says_read_only: bool
    ends: bool
    commits: bool
    leaves: str | None
    leaves_if_false: bool
    is_ordinary: bool


def kind_of(text: str) -> Kind:
    """What ``text`` tells; remembered for texts of ordinary length."""
    return _remembered(text) if len(text) <= _CACHED_CHARS else _read(text)


def _read(text: str) -> Kind:
    match = _FIRST_WORDS.match(text)
    first, second = ("", "") if match is None else ((word or "").lower() for word in match.groups())
    body = text[0 if match is None else match.start(1) :].lower()  # what a comment in front says is not meant
    semicolon = body.find(";")
    several = semicolon >= 0 and bool(body[semicolon + 1 :].strip())
    ends_inside = several and _ends_inside(text)
    ends = ends_inside or (first in _END and not (first == "rollback" and re.match(_BACK_TO, text, re.IGNORECASE)))
    if first == "prepare":
        ends = ends_inside or second == "transaction"
    sets_modes = first == "set" and not several and re.match(_MODES, body) is not None
    holds = first in _HOLD or (first == "set" and (several or second in _LOCAL)) or bool(_HOLDING.search(body))
    leaves = _left(first, second, body, sets_modes=sets_modes)
    stands_apart = first in _STAND_APART
    return Kind(
        # A placeholder of the protocol's own would be met by another error there.
        is_single=not several and "$1" not in text,
        stands_apart=stands_apart,
        can_wait=sets_modes or first in {"savepoint", "release", "rollback"},
        holds=holds or sets_modes,
        sets_modes=sets_modes,
        says_read_only=sets_modes and re.search(_READ_ONLY, body, re.DOTALL) is not None,
        ends=ends,
        commits=ends and (ends_inside or first not in {"rollback", "abort"}),
        leaves=leaves,
        leaves_if_false=leaves is None and "set_config" in body,
        is_ordinary=not (several or stands_apart or holds or sets_modes or ends or leaves),
    )


_remembered = functools.lru_cache(maxsize=512)(_read)


def _ends_inside(text: str) -> bool:
    bare = re.sub(_QUOTED, " ", text, flags=re.IGNORECASE | re.DOTALL)
    ends = re.search(_ENDS_INSIDE, bare, re.IGNORECASE) is not None
    return ends and re.search(_ATOMIC, bare, re.IGNORECASE) is None


def _left(first: str, second: str, body: str, *, sets_modes: bool) -> str | None:
    if first == "set" and re.match(_TO_DEFAULT, body):
        return None
    if first == "set" and second not in _LOCAL and not sets_modes:
        return "SET ROLE" if second == "role" else "SET"
    if first in _LEFT_BY_FIRST and second != "transaction":
        return _LEFT_BY_FIRST[first]
    return next((name for word, pattern, name in _LEFT_INSIDE if word in body and re.search(pattern, body)), None)
