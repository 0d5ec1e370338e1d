"""One runner of migrations at a time: an advisory lock, and a connection with limits of its own that holds it.

Where an engine has no such lock, a lease stands in for it (``lease``).

Straight at the writer: behind a proxy that pools transactions, lock and limits would be those of whoever is lent the
server's connection next, and lost to the runner. Such a proxy is refused (``pooler``).
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from db.environment import process
from db.timing.deadline import usable_s
from db.timing.invocation import current_invocation

from .pooler import refuse_pooler, refuse_proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, TextClause

    from db.environment.runtime import Runtime
    from db.settings.engines.kinds import EngineKind

# One lock for all migrations of a database: an arbitrary key in the 64-bit space, the same in every release.
LOCK_KEY = 0x6D69_6772_6174_6500  # "migrate" in ASCII
# DDL that waits for a busy table makes all who come after it wait too, so it gives way and fails instead.
LOCK_TIMEOUT_S = 5.0
LOCK_POLL_S = 0.25


@contextlib.contextmanager
def locked_connection(runtime: Runtime | None = None) -> Iterator[Connection]:
    """A connection that holds the migration lock and closes with the block: lock and settings end with it.

    It is one of ``runtime``, by default of the process's own. Raises ConfigurationError where a proxy that pools
    transactions stands in between.
    """
    now = runtime or process.current()
    kind = now.settings.engine_kind
    refuse_proxy(now.settings)
    with now.engine("unpooled").connect() as conn, contextlib.ExitStack() as held:
        if kind.commits_each_statement:
            conn.execution_options(isolation_level="AUTOCOMMIT")
        else:
            refuse_pooler(conn)
        if now.settings.schema and kind.is_told_in_sql:
            _set(conn, "search_path", now.settings.schema)
        take = _lock_of(conn, kind, held, length_s=_left_s(now, math.inf))
        while not take():
            time.sleep(min(LOCK_POLL_S, _left_s(now, LOCK_POLL_S)))
        left_s = _left_s(now, math.inf)
        _limit(conn, kind, left_s, held)
        conn.commit()
        yield conn


def _lock_of(conn: Connection, kind: EngineKind, held: contextlib.ExitStack, *, length_s: float) -> Callable[[], bool]:
    """One try to take the lock, which ends with ``held``, or with the connection."""
    if kind.migration_lock is not None:
        return functools.partial(_has_lock, conn, text(kind.migration_lock))
    if kind.commits_each_statement:
        from .lease import Lease

        lease = Lease(conn, key=LOCK_KEY, length_s=length_s)
        held.callback(lease.release)
        return lease.take
    dialect: Any = conn.dialect
    lock = dialect.migration_lock(conn.engine.url)
    held.callback(lock.release)
    taken: Callable[[], bool] = lock.take
    return taken


def _has_lock(conn: Connection, statement: TextClause) -> bool:
    # Asked for again and again, not waited for: a statement that waits holds a snapshot, and CREATE INDEX CONCURRENTLY,
    # which the holder may be running, waits for all snapshots in its turn.
    taken: bool = conn.execute(statement, {"key": LOCK_KEY}).scalar_one()
    conn.commit()
    return taken


def _limit(conn: Connection, kind: EngineKind, left_s: float, held: contextlib.ExitStack) -> None:
    """Bound what the session does, in SQL or, where the connection looks to that itself, by telling it."""
    if kind.is_told_in_sql:
        version = conn.dialect.server_version_info or ()
        for statement in kind.session_limits(version, None if left_s == math.inf else left_s, LOCK_TIMEOUT_S):
            conn.exec_driver_sql(statement)
        return
    conn.rollback()
    driver: Any = conn.connection.dbapi_connection
    held.callback(driver.let_go)
    driver.hold(left_s, min(LOCK_TIMEOUT_S, left_s))


def _left_s(now: Runtime, at_most_s: float) -> float:
    deadline, reserve_s = current_invocation().deadline, now.settings.deadline_reserve_s
    return usable_s(deadline, now=now.clock(), reserve_s=reserve_s, at_most_s=at_most_s)


def _set(conn: Connection, name: str, value: str) -> None:
    conn.execute(text("SELECT set_config(:name, :value, false)"), {"name": name, "value": value})
