"""PostgreSQL: the engine that all promises were made on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .kinds import EngineKind, OnceSql

if TYPE_CHECKING:
    from collections.abc import Sequence

# The first that can bound a whole transaction.
TRANSACTION_TIMEOUT_SINCE = (17,)
_TENANT = "coalesce(current_setting('app.tenant_id', true), '')"
# Row-level security says the same; a role that bypasses it must not meet another tenant's key either.
_MINE = f"tenant_id = {_TENANT} AND key = :key"
_SET_RESULT = f"UPDATE db_once SET result = :result WHERE {_MINE}"  # noqa: S608 - constants


def _session_limits(version: Sequence[Any], statement_s: float | None, lock_s: float) -> list[str]:
    limits = {}
    if statement_s is not None:
        limits["statement_timeout"] = statement_s
        if tuple(version) >= TRANSACTION_TIMEOUT_SINCE:
            limits["transaction_timeout"] = statement_s
    limits["lock_timeout"] = lock_s
    return [f"SELECT set_config('{name}', '{int(value * 1000)}ms', false)" for name, value in limits.items()]


KIND = EngineKind(
    name="postgresql",
    title="PostgreSQL",
    system="postgresql",
    dialect="psycopg_dialect",
    in_secrets=("postgres",),
    can={
        "tenant": "row-level security compares `current_setting('app.tenant_id')`",
        "statement limit": "`statement_timeout`, in the transaction's prologue",
        "lock limit": "`lock_timeout`, likewise",
        "transaction limit": "`transaction_timeout`, from PostgreSQL 17 on",
        "read-only": "`BEGIN READ ONLY`",
        "isolation": "READ COMMITTED, REPEATABLE READ, SERIALIZABLE",
        "savepoints": "`SAVEPOINT`, on the way to the next statement",
        "flights": "BEGIN, prologue and first statement in one round trip, and COMMIT too in db.write",
        "copy": "`COPY FROM STDIN`",
        "binary copy": "`WITH (FORMAT binary)`, by the types that the catalogue has",
        "once": "the row's unique key is the lock",
        "deferred constraints": "`SET CONSTRAINTS ALL IMMEDIATE`",
        "advisory lock": "`pg_try_advisory_lock`",
        "roles": "`GRANT`, and roles made from secrets",
        "prologue function": "a stored function, for RDS Proxy",
        "replica state": "`pg_is_in_recovery()` and the lag",
        "cancel": "a cancel request at SIGTERM, and the limits above",
        "prime": "statements are compiled as the driver takes them",
        "aio": "psycopg, or asyncpg",
    },
    is_told_in_sql=True,
    once=OnceSql(
        insert=(
            "INSERT INTO db_once (key, payload_hash, expires_at)"
            " VALUES (:key, :payload_hash, now() + make_interval(secs => :expires_in_s))"
            " ON CONFLICT (tenant_id, key) DO NOTHING RETURNING key"
        ),
        select=(
            "SELECT payload_hash, result, floor(extract(epoch FROM expires_at))::bigint AS ends_at"  # noqa: S608 - two constants
            " FROM db_once WHERE expires_at > now() AND " + _MINE
        ),
        delete_expired="DELETE FROM db_once WHERE expires_at <= now() AND " + _MINE,  # noqa: S608 - two constants
        set_result=_SET_RESULT,
        purge=(
            "DELETE FROM db_once WHERE ctid = ANY (ARRAY("
            "SELECT ctid FROM db_once WHERE expires_at <= now() LIMIT :limit)) AND expires_at <= now()"
        ),
        tenant_default=_TENANT,
        riding=_SET_RESULT.replace(":key", "$1").replace(":result", "$2"),
    ),
    migration_lock="SELECT pg_try_advisory_lock(:key)",
    session_limits=_session_limits,
    check_constraints="SET CONSTRAINTS ALL IMMEDIATE",
)
