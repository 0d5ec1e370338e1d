"""Failures that SQLAlchemy has no name for, and what every failure asks of the caller.

    DbError
    ├── ConfigurationError     fix the deployment: every problem of the settings at once
    ├── CredentialsError       fix the secret, its policy, or the way to it
    ├── CapacityError          come back later, or give the database more connections
    ├── TenantError            name the tenant that the work is for
    ├── DeadlineError          give the invocation more time: nothing was sent for it
    ├── InvalidKeyError        name the work by a usable key
    ├── KeyReusedError         send what was sent under the key before, or another key: nothing was done
    ├── AlreadyDoneError       take its ``result``: the work was done before, once and for all
    └── OutcomeUnknownError    look whether the transaction committed before trying it again

SQL errors stay SQLAlchemy's own. ``verdict()`` reads both kinds, by type, SQLSTATE and, for a refused connect, the
server's or the pooler's words, and says what may be done next. The tables for that are here and nowhere else.

What to do about each: https://serverless-data-access.github.io/serverless-data-access/run/errors/
"""

from __future__ import annotations

import enum
import importlib
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


# Where the pages of docs/ can be read. A message ends in the address of a page: who installed the package has no docs/.
DOCUMENTATION = "https://serverless-data-access.github.io/serverless-data-access/"


class DbError(Exception):
    """Root of the errors that this package raises itself. ``database`` names the one it is about; the default is None.

    See ``db.Database``.
    """

    database: str | None = None


class ConfigurationError(DbError):
    """The settings are missing or contradict each other; ``problems`` lists all that is wrong with them."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems: tuple[str, ...] = tuple(problems)
        super().__init__("; ".join(self.problems))


class CredentialsError(DbError):
    """No usable credentials. The message names the secret and the key, never a value.

    ``transient`` is true where waiting may help (Secrets Manager out of reach, throttled), false where somebody has to
    mend the secret or its policy.
    """

    def __init__(self, message: str, *, transient: bool = False) -> None:
        self.transient = transient
        super().__init__(message)


class CapacityError(DbError):
    """The database, or the pooler before it, had no connection to give for as long as there was time to wait.

    The message has the number of attempts and the seconds waited; the server's last refusal is the ``__cause__``.
    """


class TenantError(DbError, ValueError):
    """The tenant is missing where one is required, or is no usable name."""


class DeadlineError(DbError):  # no TimeoutError: SQLAlchemy drops a connection that raises one, as after a cancellation
    """The invocation has too little time left to begin the work. Nothing was sent to the database.

    ``connecting`` is true where a connect took what was left: to a database that resumes from a pause, or restarts, and
    may be there for the next invocation.
    """

    def __init__(self, message: str, *, connecting: bool = False) -> None:
        self.connecting = connecting
        super().__init__(message)


class OutcomeUnknownError(DbError):
    """COMMIT was sent and no answer came: the transaction may or may not have committed.

    Trying it again is right only where a second run has no further effect. The driver's error is the ``__cause__``.
    """


class InvalidKeyError(DbError, ValueError):
    """The key of ``db.once`` is missing, or is no usable name."""


class KeyReusedError(DbError):
    """The key has been used with another payload, so this is another request. Nothing was done for it."""


class AlreadyDoneError(DbError):
    """The block of ``db.once`` has run before and committed, and does not run again. ``result`` is what it stored."""

    def __init__(self, key: str, result: Any) -> None:
        self.result = result
        super().__init__(f"what was to be done once under the key {key!r} has been done")


class Verdict(enum.Enum):
    """What a failure asks of the caller."""

    RETRY_TRANSACTION = "retry the transaction"
    RECONNECT = "connect again, then retry the transaction"
    REFETCH_CREDENTIALS = "fetch the credentials again, then connect"
    WAIT_FOR_CAPACITY = "wait until the database has a connection to give"
    DISCARD_POOL = "drop every pooled connection, then connect again"
    GIVE_UP = "give up: another try would fail alike"
    OUTCOME_UNKNOWN = "find out whether the transaction committed"

    @property
    def transient(self) -> bool:
        """Whether the same work may succeed a little later."""
        return self not in {Verdict.GIVE_UP, Verdict.OUTCOME_UNKNOWN}


# The attribute of an error that came in place of the answer to COMMIT: by its type it could be any lost connection.
CAME_IN_COMMIT = "db_came_in_commit"
# That of one which refused a write in a transaction that its own opener had made read-only: a server that failed over
# says the same.
ASKED_TO_BE_READ_ONLY = "db_asked_to_be_read_only"

# SQLSTATEs as https://www.postgresql.org/docs/18/errcodes-appendix.html names them. A code that is not here gives up.
_BY_SQLSTATE = {
    "40001": Verdict.RETRY_TRANSACTION,  # serialization_failure
    "40P01": Verdict.RETRY_TRANSACTION,  # deadlock_detected
    "55P03": Verdict.RETRY_TRANSACTION,  # lock_not_available
    "08000": Verdict.RECONNECT,  # connection_exception
    "08001": Verdict.RECONNECT,  # sqlclient_unable_to_establish_sqlconnection
    "08003": Verdict.RECONNECT,  # connection_does_not_exist
    "08006": Verdict.RECONNECT,  # connection_failure
    "57P01": Verdict.RECONNECT,  # admin_shutdown
    "57P02": Verdict.RECONNECT,  # crash_shutdown
    "57P03": Verdict.RECONNECT,  # cannot_connect_now
    "57P05": Verdict.RECONNECT,  # idle_session_timeout
    "28000": Verdict.REFETCH_CREDENTIALS,  # invalid_authorization_specification
    "28P01": Verdict.REFETCH_CREDENTIALS,  # invalid_password
    "53300": Verdict.WAIT_FOR_CAPACITY,  # too_many_connections
    "25006": Verdict.DISCARD_POOL,  # read_only_sql_transaction: a writer that failed over
    "OC000": Verdict.RETRY_TRANSACTION,  # Aurora DSQL's own names, said in the text of 40001: a row was changed
    "OC001": Verdict.RETRY_TRANSACTION,  # likewise: the schema was
    "57014": Verdict.GIVE_UP,  # query_canceled: a time limit, even where the connection was closed for it
    "08007": Verdict.OUTCOME_UNKNOWN,  # transaction_resolution_unknown
}

# libpq gives no SQLSTATE for a connection that it could not open, and a pooler one for all that it refuses: there the
# message is all there is. tests/postgres/test_errors.py holds the texts against a real server and a real PgBouncer;
# those of RDS Proxy are AWS's: https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-proxy.troubleshooting.html
# The first that matches decides. None, where the network may have been in the way: reconnect.
_BY_MESSAGE = (
    ("query timeout", Verdict.GIVE_UP),  # PgBouncer's query_timeout: the statement was too long, and would be again
    ("query_timeout", Verdict.GIVE_UP),
    ("transaction timeout", Verdict.GIVE_UP),
    ("transaction_timeout", Verdict.GIVE_UP),
    ("idle transaction timeout", Verdict.RECONNECT),
    ("too many connections", Verdict.WAIT_FOR_CAPACITY),
    ("too many clients", Verdict.WAIT_FOR_CAPACITY),
    ("remaining connection slots", Verdict.WAIT_FOR_CAPACITY),
    ("no more connections allowed", Verdict.WAIT_FOR_CAPACITY),  # PgBouncer's max_client_conn
    ("client connections exceeded", Verdict.WAIT_FOR_CAPACITY),  # its limits for a user and a database, since 1.24
    ("query_wait_timeout", Verdict.WAIT_FOR_CAPACITY),  # PgBouncer had no server connection to lend
    ("Timed-out waiting to acquire database connection", Verdict.WAIT_FOR_CAPACITY),  # nor had RDS Proxy
    ("number of client connections to the proxy exceeded", Verdict.WAIT_FOR_CAPACITY),
    ("Rate of connection to proxy exceeded", Verdict.WAIT_FOR_CAPACITY),
    ("too many open connections", Verdict.WAIT_FOR_CAPACITY),  # Aurora DSQL
    ("connection, rate exceeded", Verdict.WAIT_FOR_CAPACITY),  # likewise: its connections a second
    ("too many competing requests", Verdict.WAIT_FOR_CAPACITY),  # IAM's rate, through RDS Proxy
    ("does not exist", Verdict.GIVE_UP),  # database, role, or the file of root certificates
    # libpq's own words for what no server has seen yet.
    ("invalid port number", Verdict.GIVE_UP),
    ("port numbers to", Verdict.GIVE_UP),  # could not match them to as many hosts
    ("invalid integer value", Verdict.GIVE_UP),  # for connection option
    ("definition of service", Verdict.GIVE_UP),  # not found
    ("GSSAPI encryption required", Verdict.GIVE_UP),
    ("could not parse network address", Verdict.GIVE_UP),
    ("no certificate or crl found", Verdict.GIVE_UP),
    ("no such database", Verdict.GIVE_UP),
    # PgBouncer, where it cannot reach the server itself, or is refused by it: no password of ours was.
    ("client_login_timeout", Verdict.RECONNECT),
    ("cannot connect", Verdict.RECONNECT),
    ("server conn crashed", Verdict.RECONNECT),
    ("server login failed", Verdict.RECONNECT),
    ("server login has been failing", Verdict.RECONNECT),
    ("password authentication failed", Verdict.REFETCH_CREDENTIALS),
    ("PAM authentication failed", Verdict.REFETCH_CREDENTIALS),  # RDS IAM: the token was refused
    ("SASL authentication failed", Verdict.REFETCH_CREDENTIALS),  # PgBouncer, by SCRAM
    ("no such user", Verdict.REFETCH_CREDENTIALS),  # likewise; PostgreSQL calls it a wrong password
    ("auth failed", Verdict.REFETCH_CREDENTIALS),  # PgBouncer below 1.12
    ("The password that was provided for the role", Verdict.REFETCH_CREDENTIALS),  # RDS Proxy: it is wrong
    ("no credentials for the role", Verdict.REFETCH_CREDENTIALS),  # a rotation between two users
    ("IAM authentication failed for", Verdict.REFETCH_CREDENTIALS),  # the token has expired
    ("connection, access denied", Verdict.REFETCH_CREDENTIALS),  # Aurora DSQL, of a token
    ("the database system is", Verdict.RECONNECT),  # starting up, shutting down, in recovery, not yet accepting
    ("terminating connection due to", Verdict.RECONNECT),  # a shutdown that overtook the connect
    ("canceling authentication due to timeout", Verdict.RECONNECT),
    ("certificate verify failed", Verdict.GIVE_UP),
    ("server certificate for", Verdict.GIVE_UP),  # it names another host
    ("could not read root certificate file", Verdict.GIVE_UP),  # empty, or no PEM
    ("could not read certificate file", Verdict.GIVE_UP),  # the client's own
    ("[SSL] PEM lib", Verdict.GIVE_UP),  # asyncpg, through Python's ssl
    ("key values mismatch", Verdict.GIVE_UP),  # likewise
    ("could not load private key file", Verdict.GIVE_UP),
    ("private key file", Verdict.GIVE_UP),  # it is missing, readable for all, or of another certificate
    ("alert unknown ca", Verdict.GIVE_UP),  # the server does not trust the client's certificate
    ("alert certificate", Verdict.GIVE_UP),  # it has expired, was revoked, is required
    ("alert bad certificate", Verdict.GIVE_UP),
    ("does not support SSL", Verdict.GIVE_UP),
    ("no password supplied", Verdict.GIVE_UP),
    # Whatever else the server refuses, it has understood: no pg_hba.conf entry, permission denied, an unknown setting.
    ("FATAL:", Verdict.GIVE_UP),
)
# What a session has kept and a migration has overtaken: a statement's plan, or a type's parts. asyncpg has names for
# it, and what SQLAlchemy makes of those has no SQLSTATE. Else it is 0A000, which is said of all that PostgreSQL cannot
# do: the server's function tells it from that, in any language; or the text, where a server only speaks as PostgreSQL.
_OVERTAKEN = {
    "sqlalchemy.dialects.postgresql.asyncpg.InvalidCachedStatementError",
    "asyncpg.exceptions.InvalidCachedStatementError",
    "asyncpg.exceptions._base.OutdatedSchemaCacheError",
}
_PLAN_CHECK = "RevalidateCachedQuery"
_PLAN_CHANGED = "cached plan must not change result type"
# Where too many came at once: to give a connection back, and connect again, would only add to them.
_OF_RATE = ("Rate of connection to proxy exceeded", "connection, rate exceeded", "too many competing requests")
# protocol_violation: the one code that PgBouncer and RDS Proxy have for whatever they refuse; and
# connection_does_not_exist, in which asyncpg hides it where that ends the connection.
_OF_POOLERS = {"08P01", "08003"}
# What PgBouncer says of a server that it has not reached. Of one that it has, it says "server conn crashed".
_NO_SERVER = ("cannot connect", "server login failed", "server login has been failing")
# invalid_authorization_specification: of a role that may not, or of rules (pg_hba.conf) that name nobody like it.
_NOT_LET_IN = "28000"
# What psycopg raises where a connect fails, and what stands in for it with asyncpg.
_OPERATIONAL = {"psycopg.OperationalError", "sqlalchemy.dialects.postgresql.asyncpg.OperationalError"}
_QUOTED = re.compile(r"""\"[^"]*"|'[^']*'""")
_INVALID_OPTION = re.compile(r"connection is bad: invalid \S* ?value: ")


# What is said of the default database's settings and calls, and is another's where that has them.
_SETTING = re.compile(r"\bDB_(?=[A-Z])")
_CALL = re.compile(
    r"\bdb\.(?=(?:aio|batch|begin|configure|copy_rows|dispose|engine|fetch|idempotent|once|purge_once|read|reflect|"
    r"run|session|status|write)\b)"
)


def in_words_of(said: str, *, database: str, prefix: str) -> str:
    """``said``, with the names of settings and calls as they are of ``database``."""
    return _CALL.sub(f"{database}.", _SETTING.sub(prefix, said))


def claim(error: BaseException, *, database: str | None, prefix: str) -> None:
    """Have ``error`` name the database that it is about: the first to claim it, as units of others may be around."""
    from sqlalchemy import exc as sa_exc

    if not isinstance(error, DbError | sa_exc.DBAPIError | sa_exc.TimeoutError) or "database" in vars(error):
        return
    error.database = database  # type: ignore[union-attr]  # SQLAlchemy's have a dict
    if database is None:
        return
    if isinstance(error, sa_exc.DBAPIError):
        error.add_note(f"on the database {database!r}")
        return
    if isinstance(error, ConfigurationError):
        error.problems = tuple(in_words_of(said, database=database, prefix=prefix) for said in error.problems)
    if error.args and isinstance(error.args[0], str):
        said = in_words_of(error.args[0], database=database, prefix=prefix)
        error.args = f"database {database!r}: {said}", *error.args[1:]


# For drivers that give no SQLSTATE, by their package: what says which one their errors stand for. An engine that has
# such a driver adds it when it is loaded.
_READ_IN = {"pymysql": "db.settings.engines.mysql"}  # for an error that is looked at where the engine is not at work
SQLSTATE_READERS: dict[str, Callable[[BaseException], str | None]] = {}


def sqlstate(error: BaseException) -> str | None:
    """The five-character SQLSTATE behind ``error``, through SQLAlchemy's wrapping; None where there is none.

    SQLite's result codes, and MySQL's numbers, are given the names that PostgreSQL has for the same.
    """
    cause = getattr(error, "orig", None) or error
    driver = type(cause).__module__.partition(".")[0]
    if driver in _READ_IN and driver not in SQLSTATE_READERS:
        importlib.import_module(_READ_IN[driver])
    reader = SQLSTATE_READERS.get(driver)
    if reader is not None and (named := reader(cause)) is not None:
        return named
    code = getattr(cause, "sqlstate", None)
    return code if isinstance(code, str) else None


def verdict(error: BaseException) -> Verdict:
    """What ``error`` asks of the caller. Total: an error that is not known gives up."""
    from sqlalchemy import exc as sa_exc  # here, so that an error can be raised about a SQLAlchemy that does not load

    cause = getattr(error, "orig", None) or error
    # A time limit in a block of its own, as asyncio.timeout, raises another error than the one that came.
    if isinstance(error, OutcomeUnknownError) or any(_came_in_commit(one) for one in (cause, error.__cause__)):
        return Verdict.OUTCOME_UNKNOWN
    if getattr(cause, ASKED_TO_BE_READ_ONLY, False):
        return Verdict.GIVE_UP
    match error:
        case CredentialsError(transient=True) | DeadlineError(connecting=True):
            return Verdict.RECONNECT
        case CapacityError():
            return Verdict.WAIT_FOR_CAPACITY
        case sa_exc.DBAPIError(orig=BaseException() as orig):
            return _driver_verdict(orig, lost=error.connection_invalidated, connecting=error.statement is None)
    return _driver_verdict(error, lost=False, connecting=True)


def _came_in_commit(error: BaseException | None) -> bool:
    return bool(getattr(error, CAME_IN_COMMIT, False))


def _driver_verdict(error: BaseException, *, lost: bool, connecting: bool) -> Verdict:
    if _is_overtaken(error):
        return Verdict.RETRY_TRANSACTION
    code = sqlstate(error)
    otherwise = Verdict.RECONNECT if lost else Verdict.GIVE_UP
    if code in _OF_POOLERS and (said := _by_message(error)):
        return said
    if code == _NOT_LET_IN and is_of_rules(error):
        return Verdict.GIVE_UP  # no password was looked at, so none will help
    if code is not None:
        return _BY_SQLSTATE.get(code, otherwise)
    if lost:
        return Verdict.RECONNECT
    return connect_verdict(error) if connecting and _is_operational(error) else Verdict.GIVE_UP


def connect_verdict(error: BaseException) -> Verdict:
    """What a failed attempt to connect asks of the caller, by the server's message."""
    return _by_message(error) or Verdict.RECONNECT


def first_flight_verdict(error: BaseException) -> Verdict:
    """What the end of a connection asks of the caller, where it came in place of the first answer.

    A pooler accepts a login by itself, and refuses what needs a server when a statement does: that is a connect which
    failed, and asks for what one does.
    """
    return _driver_verdict(error, lost=is_in_words(error), connecting=True)


def is_in_words(error: BaseException) -> bool:
    """Whether ``error`` is a pooler's, which has one code for all and says the rest in words."""
    code = sqlstate(error)
    return code == "08P01" or (code in _OF_POOLERS and _by_message(error) is not None)


def ran_nowhere(error: BaseException) -> bool:
    """Whether ``error`` is a pooler's, which had no server for what was sent: it has not left the pooler."""
    if not is_in_words(error):
        return False
    if _by_message(error) in {Verdict.WAIT_FOR_CAPACITY, Verdict.REFETCH_CREDENTIALS}:
        return True
    return any(part in str(error) for part in _NO_SERVER)


def is_of_rate(error: BaseException) -> bool:
    """Whether ``error`` refuses a connection because so many were asked for at once, and not because many are open."""
    return any(part in str(error) for part in _OF_RATE)


def is_of_rules(error: BaseException) -> bool:
    """Whether the server lets nobody like that in, by pg_hba.conf: for good, or because it has only just come up."""
    return "no pg_hba.conf entry" in str(error)


def _by_message(error: BaseException) -> Verdict | None:
    text = _QUOTED.sub("", str(error))  # a host or a database may be called anything
    if _INVALID_OPTION.search(text):  # libpq's, of a connect argument: 'invalid sslmode value: "maybe"'
        return Verdict.GIVE_UP
    return next((verdict for part, verdict in _BY_MESSAGE if part in text), None)


def _is_overtaken(error: BaseException) -> bool:
    if _is_one_of(_OVERTAKEN, error) or _is_one_of(_OVERTAKEN, error.__cause__):
        return True
    function = getattr(getattr(error, "diag", None), "source_function", None)
    return sqlstate(error) == "0A000" and (function == _PLAN_CHECK or _PLAN_CHANGED in str(error))


def _is_operational(error: BaseException) -> bool:
    return _is_one_of(_OPERATIONAL, error)


def _is_one_of(names: set[str], error: BaseException | None) -> bool:
    # A driver's, told by name: reading an error must not import it.
    return any(f"{base.__module__}.{base.__name__}" in names for base in type(error).__mro__)
