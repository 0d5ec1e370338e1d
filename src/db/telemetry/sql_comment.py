"""A comment behind each statement that says who sent it, in sqlcommenter's format, for the server's log and views.

https://google.github.io/sqlcommenter/spec/: keys sorted, keys and values URL-encoded, values in single quotes, behind
the statement, and none where the statement has a comment already. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

# The dialect knows these by their text and lets them travel with the next statement.
_LEFT_ALONE = ("SAVEPOINT ", "RELEASE SAVEPOINT ", "ROLLBACK TO SAVEPOINT ")


def comment(facts: Mapping[str, str | None]) -> str:
    """`` /*key='value',…*/`` from the facts that are known; empty where none is."""
    # quote() leaves letters, digits and "_.-~": neither quotes nor what would end the comment.
    pairs = [f"{quote(key, safe='')}='{quote(value, safe='')}'" for key, value in sorted(facts.items()) if value]
    return f" /*{','.join(pairs)}*/" if pairs else ""


def with_comment(statement: str, addition: str, *, escaped: bool) -> str:
    """``statement`` with ``addition`` behind it, or unchanged where it may have a comment of its own.

    A comment that the statement opens and does not close, or one to the end of its line, would swallow the addition.
    ``escaped``: the driver reads ``%`` as the beginning of a placeholder and ``%%`` as itself.
    """
    if "--" in statement or "/*" in statement or statement.startswith(_LEFT_ALONE):
        return statement
    return statement + (addition.replace("%", "%%") if escaped else addition)
