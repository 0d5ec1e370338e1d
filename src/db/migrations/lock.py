"""One runner of migrations at a time: an advisory lock, and a connection with limits of its own that holds it.

Straight at the writer: behind a proxy that pools transactions, lock and limits would be those of whoever is lent the
server's connection next, and lost to the runner. Such a proxy is refused (``pooler``).
"""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import text

from db.environment import process
from db.timing.deadline import usable_s
from db.timing.invocation import current_invocation
from db.transactions.prologue import TRANSACTION_TIMEOUT_SINCE

from .pooler import refuse_pooler, refuse_proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from db.environment.process import Runtime

# One lock for all migrations of a database: an arbitrary key in the 64-bit space, the same in every release.
LOCK_KEY = 0x6D69_6772_6174_6500  # "migrate" in ASCII
# DDL that waits for a busy table makes all who come after it wait too, so it gives way and fails instead.
LOCK_TIMEOUT_S = 5.0
LOCK_POLL_S = 0.25


@contextmanager
def locked_connection(runtime: Runtime | None = None) -> Iterator[Connection]:
    """A connection that holds the migration lock and closes with the block: lock and settings end with it.

    It is one of ``runtime``, by default of the process's own. Raises ConfigurationError where a proxy that pools
    transactions stands in between.
    """
    now = runtime or process.current()
    refuse_proxy(now.settings)
    with now.engine("unpooled").connect() as conn:
        refuse_pooler(conn)
        if now.settings.schema:
            _set(conn, "search_path", now.settings.schema)
        while not _has_lock(conn):
            time.sleep(min(LOCK_POLL_S, _left_s(now, LOCK_POLL_S)))
        left_s = _left_s(now, math.inf)
        if left_s < math.inf:
            _set(conn, "statement_timeout", f"{int(left_s * 1000)}ms")
            if (conn.dialect.server_version_info or ()) >= TRANSACTION_TIMEOUT_SINCE:
                _set(conn, "transaction_timeout", f"{int(left_s * 1000)}ms")
        _set(conn, "lock_timeout", f"{int(LOCK_TIMEOUT_S * 1000)}ms")
        conn.commit()
        yield conn


def _has_lock(conn: Connection) -> bool:
    # Asked for again and again, not waited for: a statement that waits holds a snapshot, and CREATE INDEX CONCURRENTLY,
    # which the holder may be running, waits for all snapshots in its turn.
    taken: bool = conn.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": LOCK_KEY}).scalar_one()
    conn.commit()
    return taken


def _left_s(now: Runtime, at_most_s: float) -> float:
    deadline, reserve_s = current_invocation().deadline, now.settings.deadline_reserve_s
    return usable_s(deadline, now=now.clock(), reserve_s=reserve_s, at_most_s=at_most_s)


def _set(conn: Connection, name: str, value: str) -> None:
    conn.execute(text("SELECT set_config(:name, :value, false)"), {"name": name, "value": value})
