"""MySQL 8, and what MariaDB has in common with it: through PyMySQL, with tables of InnoDB."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from db.errors import SQLSTATE_READERS

from .kinds import EngineKind, OnceSql

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .kinds import Capability

# What the errors of server and client are called on PostgreSQL, so that code that reads an SQLSTATE, and db.verdict,
# find the same. Their own SQLSTATE, HY000 of most, says less. Numbers below 1900 are MySQL's and MariaDB's alike, those
# from 1901 to 2000 and from 4000 on MariaDB's but for 4031, the others MySQL's; 2000 to 2999 are the client's.
# https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html
# https://dev.mysql.com/doc/mysql-errors/8.4/en/client-error-reference.html
# https://mariadb.com/kb/en/mariadb-error-code-reference/
_SQLSTATES = {
    0: "08003",  # connection_does_not_exist: PyMySQL's, of a connection that is closed
    1020: "40001",  # ER_CHECKREAD: MariaDB's, under snapshot isolation
    1021: "53100",  # ER_DISK_FULL
    1037: "53200",  # ER_OUTOFMEMORY
    1038: "53200",  # ER_OUT_OF_SORTMEMORY
    1040: "53300",  # ER_CON_COUNT_ERROR: too many connections
    1041: "53200",  # ER_OUT_OF_RESOURCES
    1044: "42501",  # ER_DBACCESS_DENIED_ERROR
    1045: "28P01",  # ER_ACCESS_DENIED_ERROR
    1047: "57P03",  # ER_UNKNOWN_COM_ERROR: Galera's node is not ready
    1048: "23502",  # ER_BAD_NULL_ERROR
    1049: "3D000",  # ER_BAD_DB_ERROR
    1050: "42P07",  # ER_TABLE_EXISTS_ERROR
    1053: "57P01",  # ER_SERVER_SHUTDOWN
    1054: "42703",  # ER_BAD_FIELD_ERROR
    1062: "23505",  # ER_DUP_ENTRY
    1064: "42601",  # ER_PARSE_ERROR
    1114: "53100",  # ER_RECORD_FILE_FULL
    1129: "08004",  # ER_HOST_IS_BLOCKED: until somebody runs FLUSH HOSTS
    1130: "08004",  # ER_HOST_NOT_PRIVILEGED
    1142: "42501",  # ER_TABLEACCESS_DENIED_ERROR
    1143: "42501",  # ER_COLUMNACCESS_DENIED_ERROR
    1146: "42P01",  # ER_NO_SUCH_TABLE
    1152: "08006",  # ER_ABORTING_CONNECTION
    1153: "54000",  # ER_NET_PACKET_TOO_LARGE: program_limit_exceeded
    1158: "08006",  # ER_NET_READ_ERROR
    1159: "08006",  # ER_NET_READ_INTERRUPTED
    1160: "08006",  # ER_NET_ERROR_ON_WRITE
    1161: "08006",  # ER_NET_WRITE_INTERRUPTED
    1184: "08006",  # ER_NEW_ABORTING_CONNECTION
    1203: "53300",  # ER_TOO_MANY_USER_CONNECTIONS
    1205: "55P03",  # ER_LOCK_WAIT_TIMEOUT
    1206: "53200",  # ER_LOCK_TABLE_FULL
    1213: "40P01",  # ER_LOCK_DEADLOCK
    1216: "23503",  # ER_NO_REFERENCED_ROW
    1217: "23503",  # ER_ROW_IS_REFERENCED
    1226: "53300",  # ER_USER_LIMIT_REACHED: of connections, or see _LASTING
    1227: "42501",  # ER_SPECIFIC_ACCESS_DENIED_ERROR
    1251: "08004",  # ER_NOT_SUPPORTED_AUTH_MODE
    1264: "22003",  # ER_WARN_DATA_OUT_OF_RANGE
    1290: "25006",  # ER_OPTION_PREVENTS_STATEMENT: --read-only, or see _LASTING
    1292: "22007",  # ER_TRUNCATED_WRONG_VALUE
    1305: "3B001",  # ER_SP_DOES_NOT_EXIST: a savepoint, or a procedure
    1317: "57014",  # ER_QUERY_INTERRUPTED
    1364: "23502",  # ER_NO_DEFAULT_FOR_FIELD
    1366: "22P02",  # ER_TRUNCATED_WRONG_VALUE_FOR_FIELD
    1370: "42501",  # ER_PROCACCESS_DENIED_ERROR
    1406: "22001",  # ER_DATA_TOO_LONG
    1451: "23503",  # ER_ROW_IS_REFERENCED_2
    1452: "23503",  # ER_NO_REFERENCED_ROW_2
    1586: "23505",  # ER_DUP_ENTRY_WITH_KEY_NAME
    1614: "40P01",  # ER_XA_RBDEADLOCK
    1637: "53300",  # ER_TOO_MANY_CONCURRENT_TRXS
    1698: "28P01",  # ER_ACCESS_DENIED_NO_PASSWORD_ERROR
    1792: "25006",  # ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION
    1820: "28P01",  # ER_MUST_CHANGE_PASSWORD
    1836: "25006",  # ER_READ_ONLY_MODE
    1862: "28P01",  # ER_MUST_CHANGE_PASSWORD_LOGIN
    1927: "08006",  # ER_CONNECTION_KILLED
    1969: "57014",  # ER_STATEMENT_TIMEOUT, MariaDB's
    2002: "08001",  # CR_CONNECTION_ERROR: a socket's file
    2003: "08001",  # CR_CONN_HOST_ERROR
    2005: "08001",  # CR_UNKNOWN_HOST
    2006: "08006",  # CR_SERVER_GONE_ERROR
    2013: "08006",  # CR_SERVER_LOST
    2014: "08006",  # CR_COMMANDS_OUT_OF_SYNC
    2026: "08004",  # CR_SSL_CONNECTION_ERROR
    2055: "08006",  # CR_SERVER_LOST_EXTENDED
    2059: "08004",  # CR_AUTH_PLUGIN_CANNOT_LOAD
    2061: "08004",  # CR_AUTH_PLUGIN_ERR
    3024: "57014",  # ER_QUERY_TIMEOUT, MySQL's
    3032: "57P03",  # ER_SERVER_OFFLINE_MODE
    3101: "40001",  # ER_TRANSACTION_ROLLBACK_DURING_COMMIT: group replication's
    3118: "28000",  # ER_ACCOUNT_HAS_BEEN_LOCKED
    3159: "08004",  # ER_SECURE_TRANSPORT_REQUIRED
    3572: "55P03",  # ER_LOCK_NOWAIT
    3819: "23514",  # ER_CHECK_CONSTRAINT_VIOLATED
    4025: "23514",  # ER_CONSTRAINT_FAILED, MariaDB's
    4031: "57P05",  # ER_CLIENT_INTERACTION_TIMEOUT: idle for wait_timeout
    4151: "28000",  # ER_ACCOUNT_HAS_BEEN_LOCKED, MariaDB's
}
# One number for several things, of which some last: words of those, and their SQLSTATE.
_LASTING: dict[int, tuple[tuple[str, ...], str]] = {
    1226: (("max_questions", "max_updates", "max_connections_per_hour"), "53400"),  # configuration_limit_exceeded
    1290: (("secure-file-priv", "secure_file_priv", "skip-grant", "skip-networking"), "42501"),
}


def sqlstate_of(error: BaseException) -> str | None:
    """The SQLSTATE that PostgreSQL has for what ``error``, of PyMySQL, says; else the server's own."""
    code = error.args[0] if error.args and isinstance(error.args[0], int) else -1
    if isinstance(getattr(error, "original_exception", None), ssl.SSLError):
        return "08004"  # sqlserver_rejected_establishment_of_sqlconnection: another try would end alike
    words, lasting = _LASTING.get(code, ((), ""))
    if any(word in str(error) for word in words):
        return lasting
    if code in _SQLSTATES:
        return _SQLSTATES[code]
    own = getattr(error, "sqlstate", None)
    return own if isinstance(own, str) else None


SQLSTATE_READERS["pymysql"] = sqlstate_of

NOT_SERVED = "it is not served before this engine: connect to the database itself"
CAN: Mapping[Capability, str] = {
    "lock limit": "`innodb_lock_wait_timeout` and `lock_wait_timeout`, in whole seconds from 1 on",
    "read-only": "the session's `transaction_read_only` for the unit of work; DDL is refused before it is sent",
    "isolation": "`SET TRANSACTION ISOLATION LEVEL`; REPEATABLE READ unless named",
    "savepoints": "`SAVEPOINT`, on the way to the next statement",
    "once": "the row's unique key is the lock",
    "advisory lock": "`GET_LOCK`, which ends with the connection",
    "cancel": "`KILL QUERY` over a second connection, at SIGTERM and where a task is cancelled or a handler raises",
    "aio": "PyMySQL in greenlets: where it waits, the event loop goes on",
}
LACKS: Mapping[Capability, str] = {
    "tenant": "it has no row-level security, so every row would be seen: keep tenants in databases of their own",
    "transaction limit": "a transaction is bounded by the limits of its statements",
    "flights": "the opening shares a packet with the first statement; db.fetch and db.write send one after another",
    "copy": "it has no COPY; db.copy_rows inserts many rows at a time",
    "binary copy": "it has no COPY, whose formats these are",
    "deferred constraints": "InnoDB looks at a constraint with each row",
    "roles": "make_roles speaks to PostgreSQL: make the users by CREATE USER, and grant in a migration",
    "prologue function": "it is for RDS Proxy before PostgreSQL",
    "prime": (
        "a statement is written as the server's version asks, which the first connect tells: DB_WARM=init connects in "
        "Init"
    ),
    "replica state": "a reader does not say in the same packet how far behind it is",
}
UNSERVED: Mapping[str, str] = {
    "native_hstore": "it is for PostgreSQL only",
    "prepare": "PyMySQL sends every statement as text",
    "proxy": f"{NOT_SERVED}; RDS Proxy pins a session that is told a time limit, PgBouncer is for PostgreSQL",
    "reader_max_lag_s": LACKS["replica state"],
    "schema": "it has no search_path: a schema is a database, which DB_NAME names",
    "tenant_required": LACKS["tenant"],
    "tenant_audit": LACKS["tenant"],
    "async_driver": "it is for PostgreSQL only: PyMySQL serves db.aio here, too",
}
_DIFFERS: Mapping[str, str] = {
    "db.begin": "DDL commits at once, and what came before it: refused behind a write; an error undoes its statement, "
    "a deadlock all of the transaction",
    "db.read": "a round trip for each statement; one more with `snapshot=True`, at its end",
    "db.fetch": "one statement after another, in one transaction",
    "db.write": "one statement after another, in one transaction, in which DDL commits at once",
    "db.copy_rows": "inserts of many rows; the limit holds for each of them",
    "db.run": "not run again after DDL, which has committed",
}
DIFFERS: Mapping[str, str] = {
    **_DIFFERS,
    **{call.replace("db.", "aio."): how for call, how in _DIFFERS.items()},
    "db.check": "settings, packages, the way in, the version, `db_once`; the rest is said not to apply",
    "migrations.upgrade": "each step commits by itself: one that fails may be half done",
}

ONCE = OnceSql(
    # IGNORE is for the key: what else it would let pass, the layer has looked at.
    insert=(
        "INSERT IGNORE INTO db_once (tenant_id, `key`, payload_hash, expires_at)"
        " VALUES ('', :key, :payload_hash, UTC_TIMESTAMP(6) + INTERVAL :expires_in_s SECOND)"
    ),
    # A read that locks sees what was committed meanwhile, whatever the transaction's snapshot.
    select=(
        "SELECT payload_hash, result, CAST(FLOOR(UNIX_TIMESTAMP(expires_at)) AS SIGNED) AS ends_at"
        " FROM db_once WHERE expires_at > UTC_TIMESTAMP(6) AND tenant_id = '' AND `key` = :key LOCK IN SHARE MODE"
    ),
    delete_expired="DELETE FROM db_once WHERE expires_at <= UTC_TIMESTAMP(6) AND tenant_id = '' AND `key` = :key",
    set_result="UPDATE db_once SET result = :result WHERE tenant_id = '' AND `key` = :key",
    purge="DELETE FROM db_once WHERE expires_at <= UTC_TIMESTAMP(6) LIMIT :limit",
    tenant_default="''",
)
# Of the server, not of a database: the key is told by the database's name.
MIGRATION_LOCK = "SELECT GET_LOCK(CONCAT('db_migrations_', LEFT(MD5(DATABASE()), 16), '_', :key), 0) = 1"

KIND = EngineKind(
    name="mysql",
    title="MySQL",
    system="mysql",
    dialect="mysql_dialect",
    arguments="mysql_arguments",
    port=3306,
    in_secrets=("mysql", "maria"),  # "aurora-mysql", and what RDS calls either
    needs=("pymysql", "mysql"),
    can={**CAN, "statement limit": "`max_execution_time` for what reads; what writes is killed from outside"},
    lacks=LACKS,
    unserved=UNSERVED,
    differs=DIFFERS,
    once=ONCE,
    migration_lock=MIGRATION_LOCK,
    instead_of_leftovers=(
        "nothing of it ends with a transaction here; say it with the statement (a hint SET_VAR, MariaDB's "
        "SET STATEMENT … FOR), or pay for a connect each time"
    ),
    # MySQL itself does not; MariaDB does, and a URL may call it mysql.
    compares_json_as_text=True,
    # DDL commits at once, so each step writes down at once that it is done.
    alembic={"transaction_per_migration": True},
)
