"""Aurora DSQL: PostgreSQL's protocol before a distributed store that takes no locks and refuses a COMMIT instead.

What it can and refuses is AWS's word, and that of a test suite which AWS runs against a cluster; this package has not
seen one. The page about it names the source of each fact, and its date.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .kinds import EngineKind, OnceSql

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .kinds import Capability

# <cluster>.dsql.<region>.on.aws, and with a suffix to "dsql" where it is reached through PrivateLink.
_ENDPOINT = re.compile(r"[a-z0-9]+\.dsql(?:-[a-z0-9]+)?\.(?P<region>[a-z0-9-]+)\.on\.aws")
ADMIN = "admin"  # the role that a cluster is made with, which needs a right of its own
DATABASE = "postgres"  # a cluster has this one and no other
# A session ends after an hour, and a transaction after five minutes.
_SESSION_S, _TRANSACTION_S = 3600, 300
MOST_ROWS = 3000  # that a transaction may write

_NO_READERS = "it has no readers: each endpoint of a cluster reads and writes"
_MINE = "tenant_id = '' AND key = :key"

_LACKS: Mapping[Capability, str] = {
    "tenant": "it has no row-level security, so every row would be seen: keep tenants in clusters of their own",
    "isolation": "each transaction is REPEATABLE READ: leave isolation out",
    "savepoints": "it has none: what is to be undone by itself is a transaction of its own",
    "advisory lock": "it has none: a lease in the table db_migration_lease keeps a second runner out",
    "roles": "it knows IAM and no passwords: make the roles by CREATE ROLE … WITH LOGIN and AWS IAM GRANT",
    "binary copy": "its documents name text and CSV alone",
    "prologue function": "it is for RDS Proxy, which does not stand before a cluster",
    "replica state": _NO_READERS,
}

_DIFFERS = {
    "db.begin": "two that write the same row do not wait for each other: the later COMMIT is refused (40001)",
    "db.read": "one REPEATABLE READ transaction for the block: a round trip for each statement and one at its end",
    "db.fetch": "one more round trip, at the end of the transaction",
    "db.write": "the COMMIT that travels with it is refused (40001) where another wrote the same row before",
    "db.run": "run again where a COMMIT was refused, too (OC000, OC001)",
    "db.once": "a duplicate does not wait: `run` finds the record when its COMMIT is refused, a block raises 40001",
    "db.batch": "a transaction for each record",
    "db.copy_rows": "3,000 rows at most; more of them by `chunk_rows=`, which commits after each chunk",
    "db.purge_once": "3,000 records to a transaction at most",
    "db.invocation": "the request id is not said to the server",
}


def region_of(host: str) -> str | None:
    """The region in the name of a cluster's endpoint; None for what is no such name."""
    found = _ENDPOINT.fullmatch(host)
    return None if found is None else found["region"]


KIND = EngineKind(
    name="dsql",
    title="Aurora DSQL",
    system="postgresql",  # OpenTelemetry has no name for it; what is spoken is PostgreSQL
    dialect="dsql_dialect",
    not_by_url="is entered by a token, which no URL can hold: set DB_AUTH=dsql, DB_HOST and DB_USER",
    can={
        "statement limit": "the client closes the connection; DSQL ends the transaction after five minutes at most",
        "lock limit": "nobody waits for a lock: a conflict refuses a COMMIT",
        "transaction limit": "likewise, after five minutes",
        "read-only": "`BEGIN READ ONLY`",
        "flights": "BEGIN and first statement in one round trip",
        "copy": "`COPY FROM STDIN`, 3,000 rows to a transaction",
        "once": "the row's unique key: of two at a time, one is refused at COMMIT and run again",
        "deferred constraints": "COMMIT looks at them",
        "cancel": "the connection is closed, and the limits above",
        "prime": "statements are compiled as the driver takes them",
        "aio": "psycopg",
    },
    lacks=_LACKS,
    unserved={
        "engine": "DB_AUTH=dsql says so already",
        "reader_host": _NO_READERS,
        "reader_port": _NO_READERS,
        "reader_max_lag_s": _NO_READERS,
        "proxy": "nothing stands before a cluster",
        "prepare": "what a session of it keeps of a statement is not known",
        "native_hstore": "it has no extensions",
        "tenant_required": _LACKS["tenant"],
        "tenant_audit": _LACKS["tenant"],
        "async_driver": "it is reached through psycopg",
    },
    at_most={
        "pool_recycle_s": (
            _SESSION_S - _TRANSACTION_S,
            "a session ends after an hour, and a transaction that began before may take five minutes",
        ),
        "statement_timeout_s": (_TRANSACTION_S, "a transaction ends after five minutes"),
    },
    differs=_DIFFERS
    | {call.replace("db.", "aio."): how for call, how in _DIFFERS.items() if call != "db.invocation"}
    | {
        "db.check": "settings, packages, the way in, the version, `db_once`; the rest is said not to apply",
        "migrations.upgrade": "each statement commits by itself: a step that fails may be half done",
        "operations.create_once_table": "the same table, without policies; its index is built meanwhile",
    },
    most_rows=MOST_ROWS,
    commits_each_statement=True,
    once=OnceSql(
        insert=(
            "INSERT INTO db_once (tenant_id, key, payload_hash, expires_at)"
            " VALUES ('', :key, :payload_hash, now() + :expires_in_s * interval '1 second')"
            " ON CONFLICT (tenant_id, key) DO NOTHING RETURNING key"
        ),
        select=(
            "SELECT payload_hash, result, CAST(floor(extract(epoch FROM expires_at)) AS bigint) AS ends_at"  # noqa: S608 - a constant
            " FROM db_once WHERE expires_at > now() AND " + _MINE
        ),
        delete_expired="DELETE FROM db_once WHERE expires_at <= now() AND " + _MINE,  # noqa: S608 - a constant
        set_result="UPDATE db_once SET result = :result WHERE " + _MINE,  # noqa: S608 - a constant
        # No row has an address there.
        purge=(
            "DELETE FROM db_once WHERE (tenant_id, key) IN"
            " (SELECT tenant_id, key FROM db_once WHERE expires_at <= now() LIMIT :limit) AND expires_at <= now()"
        ),
        tenant_default="''",
        riding="UPDATE db_once SET result = $2 WHERE tenant_id = '' AND key = $1",
    ),
    # A transaction holds one statement of DDL, and none of another kind beside it.
    alembic={"transactional_ddl": False},
)
