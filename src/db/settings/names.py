"""What people write instead of a setting's name, and what is to be written. Loaded where a name looks like that.

A name without effect would be a time limit that does not hold, or a certificate that nobody looks at. So it is an
error, which names the right one; DB_IGNORE is for names that are another program's.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from .kinds import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# By what is meant: the words behind DB_ of other libraries, of tutorials, of the AWS console and its blueprints.
_WORDS = {
    "is DB_SECRET_ID meant?": (
        "SECRET SECRETS SECRET_ARN SECRET_NAME SECRETARN SECRETID SECRETNAME SECRETS_ARN SECRETS_NAME SECRETS_ID "
        "SECRETSMANAGER_ARN SECRETSMANAGER_ID SECRETSMANAGER_SECRET SECRETS_MANAGER_ARN SECRETS_MANAGER_SECRET "
        "SECRET_MANAGER_ARN CREDENTIALS CREDENTIALS_ARN CREDENTIALS_SECRET CREDENTIALS_SECRET_ARN CREDS_SECRET "
        "AWS_SECRET AWS_SECRET_ID AWS_SECRET_ARN AWS_SECRET_NAME SECRET_ID_ARN MASTER_SECRET_ARN "
        "MASTER_USER_SECRET_ARN PASSWORD_SECRET PASSWORD_SECRET_ARN"
    ),
    "is DB_URL meant?": (
        "URI DSN DATABASE_URL DATABASE_URI CONNECTION CONNECTION_STRING CONNECTION_URL CONNECTION_URI CONN_STR "
        "CONN CONNSTR CONN_STRING POSTGRES_URL POSTGRESQL_URL PG_URL WRITER_URL PRIMARY_URL SQLALCHEMY_URL "
        "SQLALCHEMY_DATABASE_URI JDBC_URL"
    ),
    "the password stands in the secret (DB_SECRET_ID) or in DB_URL": (
        "PASSWORD PASS PASSWD PWD USER_PASSWORD MASTER_PASSWORD ROOT_PASSWORD USERPASSWORD PASSWORD_FILE"
    ),
    "is DB_USER meant?": "USERNAME USER_NAME LOGIN ROLE MASTER_USER MASTER_USERNAME UID ROOT_USER",
    "is DB_NAME meant?": "DATABASE DATABASE_NAME DBNAME DB DB_NAME SID CATALOG INITIAL_CATALOG",
    "is DB_HOST meant?": (
        "HOSTNAME HOST_NAME SERVER SERVERNAME ENDPOINT ADDRESS ADDR HOSTADDR WRITER_HOST WRITER_ENDPOINT "
        "PRIMARY_HOST PRIMARY_ENDPOINT MASTER_HOST CLUSTER_ENDPOINT CLUSTER_HOST WRITE_HOST HOST_WRITER IP"
    ),
    "is DB_HOST meant, with DB_PROXY=rds-proxy or pgbouncer?": (
        "PROXY_HOST PROXY_ENDPOINT PROXY_URL PROXY_ADDRESS RDS_PROXY_HOST RDS_PROXY_ENDPOINT PGBOUNCER_HOST"
    ),
    "is DB_PROXY meant?": "PROXY_TYPE PROXY_KIND PROXY_MODE USE_PROXY RDS_PROXY USE_RDS_PROXY PGBOUNCER POOLER",
    "is DB_READER_HOST meant?": (
        "READER READER_ENDPOINT READER_ADDRESS READER_HOSTNAME REPLICA REPLICA_HOST REPLICA_ENDPOINT READ_HOST "
        "READ_REPLICA READ_REPLICA_HOST READ_REPLICA_ENDPOINT READ_ENDPOINT READONLY_HOST READ_ONLY_HOST "
        "READONLY_ENDPOINT RO_HOST RO_ENDPOINT SLAVE_HOST SECONDARY_HOST STANDBY_HOST HOST_READER HOST_RO "
        "HOST_READ HOST_READONLY"
    ),
    "a reader has the secret, or DB_URL, of the writer: is DB_READER_HOST meant?": (
        "READER_URL READER_URI READER_DSN REPLICA_URL REPLICA_URI READ_URL RO_URL READONLY_URL READ_ONLY_URL "
        "READ_REPLICA_URL SLAVE_URL READER_SECRET_ID READER_SECRET_ARN REPLICA_SECRET_ID REPLICA_SECRET_ARN "
        "READER_USER READER_NAME"
    ),
    "is DB_READER_PORT meant?": "REPLICA_PORT READ_PORT RO_PORT READONLY_PORT",
    "is DB_READER_MAX_LAG_S meant?": "MAX_LAG MAX_LAG_S REPLICA_MAX_LAG REPLICA_LAG READER_LAG READER_LAG_S LAG_S",
    "is DB_SECRET_TTL_S meant?": "SECRET_TTL SECRET_CACHE_TTL SECRET_MAX_AGE SECRET_CACHE_S CACHE_TTL CACHE_TTL_S",
    "is DB_AUTH=iam meant?": (
        "IAM IAM_AUTH IAM_AUTHENTICATION USE_IAM USE_IAM_AUTH IAM_ENABLED ENABLE_IAM AUTH_IAM IAM_TOKEN RDS_IAM"
    ),
    "is DB_AUTH meant?": "AUTH_TYPE AUTH_MODE AUTH_METHOD AUTHENTICATION AUTHENTICATION_TYPE CREDENTIALS_SOURCE",
    "is DB_POOL meant?": "POOLCLASS POOL_CLASS POOL_KIND POOL_TYPE POOL_MODE POOLING POOL_IMPL NULLPOOL NULL_POOL",
    "is DB_POOL_SIZE meant?": (
        "MAX_CONNECTIONS MAX_CONNS MAX_CONN CONNECTIONS CONNECTION_LIMIT POOL_MAX POOL_MAX_SIZE MAX_POOL_SIZE "
        "POOL_MIN POOL_MIN_SIZE MIN_POOL_SIZE POOLSIZE CONN_LIMIT POOL_CONNECTIONS MAX_OPEN_CONNS MAX_IDLE_CONNS"
    ),
    "is DB_MAX_OVERFLOW meant?": "POOL_MAX_OVERFLOW OVERFLOW POOL_OVERFLOW",
    "is DB_ASYNC_CONNECTIONS meant?": (
        "ASYNC_POOL_SIZE ASYNC_SIZE AIO_CONNECTIONS AIO_POOL_SIZE ASYNC_MAX_CONNECTIONS"
    ),
    "is DB_ASYNC_DRIVER meant?": "ASYNC ASYNC_DRIVERNAME AIO_DRIVER ASYNCPG USE_ASYNCPG",
    "is DB_POOL_TIMEOUT_S meant?": "CHECKOUT_TIMEOUT ACQUIRE_TIMEOUT POOL_WAIT POOL_WAIT_S POOL_CHECKOUT_TIMEOUT",
    "is DB_POOL_RECYCLE_S meant?": (
        "RECYCLE RECYCLE_S CONN_MAX_AGE MAX_AGE MAX_LIFETIME CONN_MAX_LIFETIME CONNECTION_MAX_AGE POOL_MAX_LIFETIME"
    ),
    "is DB_POOL_IDLE_S meant?": (
        "IDLE IDLE_S IDLE_TIMEOUT IDLE_TIMEOUT_S MAX_IDLE MAX_IDLE_TIME CONN_MAX_IDLE POOL_IDLE_TIMEOUT POOL_MAX_IDLE"
    ),
    "is DB_POOL_PRE_PING meant?": (
        "PRE_PING PREPING PING HEALTH_CHECK HEALTH_CHECKS CONN_HEALTH_CHECKS TEST_ON_BORROW"
    ),
    "is DB_SSLMODE meant?": (
        "SSL TLS USE_SSL USE_TLS SSL_ENABLED SSL_REQUIRED REQUIRE_SSL SSL_MODE TLS_MODE SSL_VERIFY TLS_VERIFY "
        "VERIFY_SSL VERIFY_TLS ENABLE_SSL"
    ),
    "is DB_SSLROOTCERT meant?": (
        "CA CA_CERT CA_FILE CA_PATH CA_BUNDLE CACERT CAFILE CERT CERTIFICATE CERTS CERT_PATH ROOT_CERT ROOTCERT "
        "SSL_CA SSL_CA_CERT SSL_CERT SSL_ROOT_CERT SSL_ROOTCERT SSL_CA_FILE SSL_CERT_FILE TLS_CA SSLCA SSLCERT"
    ),
    "is DB_CONNECT_ARGS meant?": "OPTIONS OPTS CONNECT_OPTIONS CONN_ARGS CONNECTION_ARGS CONNECT_KWARGS ARGS",
    "is DB_CONNECT_ARGS meant, with the word of libpq or of psycopg?": (
        "SSLKEY SSL_KEY CLIENT_CERT CLIENT_KEY SSLPASSWORD SSLCRL KEEPALIVE KEEPALIVES KEEPALIVES_IDLE "
        "TCP_USER_TIMEOUT PREPARE_THRESHOLD PREPARED_STATEMENTS STATEMENT_CACHE_SIZE CHANNEL_BINDING "
        "TARGET_SESSION_ATTRS"
    ),
    "is DB_SCHEMA meant?": "SEARCH_PATH SEARCHPATH DEFAULT_SCHEMA SCHEMA_NAME CURRENT_SCHEMA SCHEMAS",
    "is DB_APPLICATION_NAME meant?": "APP_NAME APPNAME APPLICATION CLIENT_NAME PROGRAM_NAME SERVICE_NAME",
    "is DB_CONNECT_TIMEOUT_S meant?": "CONN_TIMEOUT CONN_TIMEOUT_S LOGIN_TIMEOUT CONNECTION_TIMEOUT",
    "is DB_CONNECT_WAIT_S meant?": (
        "RETRIES RETRY MAX_RETRIES RETRY_COUNT CONNECT_RETRIES CONNECT_RETRY RETRY_TIMEOUT WAIT WAIT_S CONNECT_ATTEMPTS"
    ),
    "is DB_STATEMENT_TIMEOUT_S meant, or DB_CONNECT_TIMEOUT_S?": "TIMEOUT TIMEOUT_S TIMEOUT_MS TIMEOUT_SECONDS",
    "is DB_STATEMENT_TIMEOUT_S meant?": (
        "QUERY_TIMEOUT QUERY_TIMEOUT_S QUERY_TIMEOUT_MS COMMAND_TIMEOUT COMMAND_TIMEOUT_S EXECUTION_TIMEOUT "
        "SOCKET_TIMEOUT READ_TIMEOUT MAX_EXECUTION_TIME SQL_TIMEOUT"
    ),
    "a pause between two statements may take DB_STATEMENT_TIMEOUT_S": (
        "IDLE_IN_TRANSACTION_TIMEOUT IDLE_IN_TRANSACTION_SESSION_TIMEOUT IDLE_TRANSACTION_TIMEOUT"
    ),
    "is DB_LOCK_TIMEOUT_S meant?": "LOCK_WAIT LOCK_WAIT_S LOCK_WAIT_TIMEOUT",
    "is DB_DEADLINE_RESERVE_S meant?": "RESERVE RESERVE_S DEADLINE DEADLINE_S DEADLINE_MARGIN",
    "is DB_SHUTDOWN_HOOK meant?": "SIGTERM SIGTERM_HOOK SHUTDOWN GRACEFUL_SHUTDOWN",
    "a tenant is said in code, by db.scope(tenant=...); is DB_TENANT_REQUIRED meant?": (
        "TENANT TENANT_ID TENANTS MULTI_TENANT MULTITENANT TENANCY REQUIRE_TENANT RLS"
    ),
    "is DB_SLOW_QUERY_S meant?": (
        "SLOW SLOW_S SLOW_LOG SLOW_MS SLOW_QUERY_LOG SLOW_QUERIES SLOW_THRESHOLD SLOW_QUERY_THRESHOLD"
    ),
    "is DB_STATEMENT_REPEATS meant?": "REPEATS N_PLUS_ONE NPLUSONE N_PLUS_1",
    "is DB_SQL_COMMENTS meant?": "COMMENTS COMMENT SQLCOMMENTER SQL_COMMENTER QUERY_TAGS QUERY_COMMENTS",
    "is DB_TRACE meant?": "TRACING TRACES TRACER XRAY OTEL OPENTELEMETRY ENABLE_TRACING TRACE_ENABLED SPANS",
    "is DB_ECHO meant?": "DEBUG VERBOSE LOG_SQL LOG_QUERIES SQL_ECHO ECHO_SQL SHOW_SQL LOG_STATEMENTS",
    "is DB_HIDE_PARAMETERS meant?": "HIDE_PARAMS HIDE_VALUES SHOW_PARAMETERS LOG_PARAMETERS LOG_PARAMS",
    "the level of the log is POWERTOOLS_LOG_LEVEL": "LOG_LEVEL LOGLEVEL",
    "the database is PostgreSQL, unless DB_URL says otherwise": "ENGINE DRIVER DIALECT TYPE BACKEND",
    "the region is Lambda's AWS_REGION": "REGION AWS_REGION REGION_NAME",
    "the Data API is not used: DB_SECRET_ID or DB_HOST say where the database is": "CLUSTER_ARN RESOURCE_ARN",
    "the client's encoding is UTF-8": "CHARSET ENCODING CLIENT_ENCODING",
    "sessions keep the server's TimeZone: ALTER ROLE ... SET timezone": "TIMEZONE TIME_ZONE TZ",
    "a read that cannot write is db.read()": "READ_ONLY READONLY",
    "what cannot run in a transaction goes over db.engine(), by its isolation level AUTOCOMMIT": "AUTOCOMMIT",
    "isolation is said in code, by db.begin(isolation=...)": "ISOLATION ISOLATION_LEVEL TRANSACTION_ISOLATION",
}
_MEANT = {PREFIX + word: meant for meant, words in _WORDS.items() for word in words.split()}
# Names of others for where a database is, by the setting that is meant. They count where no setting says it.
_WITHOUT_PREFIX = {
    "SECRET_ID": "DB_SECRET_ID",
    "SECRET_ARN": "DB_SECRET_ID",
    "SECRET_NAME": "DB_SECRET_ID",
    "SECRETS_MANAGER_ARN": "DB_SECRET_ID",
    "DATABASE_SECRET_ARN": "DB_SECRET_ID",
    "DATABASE_SECRET_ID": "DB_SECRET_ID",
    "RDS_SECRET_ARN": "DB_SECRET_ID",
    "DATABASE_URL": "DB_URL",
    "DATABASE_URI": "DB_URL",
    "POSTGRES_URL": "DB_URL",
    "POSTGRESQL_URL": "DB_URL",
    "SQLALCHEMY_DATABASE_URI": "DB_URL",
    "SQLALCHEMY_URL": "DB_URL",
}
# How people end a name: with a unit of time, or with what makes it a switch.
_UNIT = re.compile(r"_(?:MS|MSEC|MILLIS|MILLISECONDS|S|SEC|SECS|SECONDS|MIN|MINUTES|ENABLED)$")
_OTHERWISE = "if it is another program's, name it in DB_IGNORE"


def mistaken(environ: Mapping[str, str], table: Mapping[str, object], *, ignored: str) -> Iterator[str]:
    """A problem for each variable that is not empty, and by whose name one of ``table`` is meant.

    A name that begins with DB_ and resembles nothing is another program's, and left alone, as are those in ``ignored``.
    """
    left_alone = {name.strip() for name in ignored.split(",")}
    for name in sorted(environ):
        if name in table or name in left_alone or not environ[name].strip():
            continue
        is_prefixed = name[: len(PREFIX)].upper() == PREFIX
        meant = _meant(name.upper(), table) if is_prefixed else _without_prefix(name, environ)
        if meant is not None:
            yield f"{name} is not a setting: {meant} ({_OTHERWISE})"


def _meant(name: str, table: Mapping[str, object]) -> str | None:
    if name in table:
        return f"names are in upper case: is {name} meant?"
    for word in (name, _UNIT.sub("", name)):
        if word in _MEANT:
            return _MEANT[word]
        if word in table or f"{word}_S" in table:
            return f"is {word if word in table else word + '_S'} meant?"
    if near := difflib.get_close_matches(name, table, n=1, cutoff=0.87):
        return f"is {near[0]} meant?"
    near = difflib.get_close_matches(name, _MEANT, n=1, cutoff=0.9)  # these are many, and some of them short
    return _MEANT[near[0]] if near else None


def _without_prefix(name: str, environ: Mapping[str, str]) -> str | None:
    meant = _WITHOUT_PREFIX.get(name)
    if meant is None or any(environ.get(said) for said in (meant, "DB_SECRET_ID", "DB_AUTH")):
        return None
    return f"is {meant} meant?"
