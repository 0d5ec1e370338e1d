"""What is left on a session: who is told of it, and what makes it fit for its next user.

A unit of work is told itself (``Unit.leaves``). Outside of one, it is noted in what the pool knows of the connection,
``ConnectionPoolEntry.info``, while somebody has it from there: what a pool's listener says is the connection's own.
"""

from __future__ import annotations

from typing import Any

IN_HANDS = "db_in_hands"  # somebody has it, and the listeners to its checkout have spoken
LEFT = "db_left"  # the kinds of what that one left; absent for nothing


class SessionLeftError(Exception):
    """Why a connection was dropped unasked: something was left on its session. Never raised."""


def note_left(pools_notes: dict[Any, Any] | None, kind: str) -> None:
    """Note that a connection's user outside of any unit leaves this on it; None is one that no pool will keep."""
    if pools_notes is not None and pools_notes.get(IN_HANDS):
        pools_notes.setdefault(LEFT, set()).add(kind)


# Goes ahead of a COMMIT with the cleaning behind it. What is deferred to COMMIT fails here, where the transaction is
# still open, and its ROLLBACK cleans: once a COMMIT has failed, a pooler may have given the session to another client.
# In a transaction that has failed already it fails as well, where COMMIT would have been answered.
CHECKING = b"SET CONSTRAINTS ALL IMMEDIATE"

# DISCARD ALL, which is refused next to other statements, in the parts that are not, as its page has them in this order:
# https://www.postgresql.org/docs/18/sql-discard.html
CLEANING = (
    b"CLOSE ALL",
    b"SET SESSION AUTHORIZATION DEFAULT",
    b"RESET ALL",
    b"DEALLOCATE ALL",
    b"UNLISTEN *",
    b"SELECT pg_advisory_unlock_all()",
    b"DISCARD TEMP",
    b"DISCARD SEQUENCES",
)
