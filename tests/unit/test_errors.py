"""Verdicts: what a failure asks of the caller."""

from typing import Any

import asyncpg
import psycopg
import pytest
from psycopg import errors as pg
from sqlalchemy import exc
from sqlalchemy.dialects.postgresql import asyncpg as adapter

from db import errors
from db.errors import CredentialsError, OutcomeUnknownError, Verdict, sqlstate, verdict

ADAPTED: Any = adapter.AsyncAdapt_asyncpg_dbapi  # not typed


def wrapped(error: Exception, *, lost: bool = False) -> exc.DBAPIError:
    return exc.OperationalError("SELECT 1", None, error, connection_invalidated=lost)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (pg.SerializationFailure(), Verdict.RETRY_TRANSACTION),
        (pg.DeadlockDetected(), Verdict.RETRY_TRANSACTION),
        (pg.LockNotAvailable(), Verdict.RETRY_TRANSACTION),
        (pg.AdminShutdown(), Verdict.RECONNECT),
        (pg.IdleSessionTimeout(), Verdict.RECONNECT),
        (pg.CannotConnectNow(), Verdict.RECONNECT),
        (pg.InvalidPassword(), Verdict.REFETCH_CREDENTIALS),
        (pg.TooManyConnections(), Verdict.WAIT_FOR_CAPACITY),
        (pg.ReadOnlySqlTransaction(), Verdict.DISCARD_POOL),
        (pg.QueryCanceled(), Verdict.GIVE_UP),
        (pg.UniqueViolation(), Verdict.GIVE_UP),
        (pg.UndefinedTable(), Verdict.GIVE_UP),
    ],
)
def test_a_sqlstate_decides_through_sqlalchemys_wrapping(error: Exception, expected: Verdict) -> None:
    """The driver's error and SQLAlchemy's around it ask the same."""
    assert verdict(error) is expected
    assert verdict(wrapped(error)) is expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ('FATAL:  password authentication failed for user "app"', Verdict.REFETCH_CREDENTIALS),
        ('FATAL:  PAM authentication failed for user "app"', Verdict.REFETCH_CREDENTIALS),
        ("FATAL:  sorry, too many clients already", Verdict.WAIT_FOR_CAPACITY),
        ("FATAL:  remaining connection slots are reserved for roles with the SUPERUSER", Verdict.WAIT_FOR_CAPACITY),
        ("FATAL:  query_wait_timeout", Verdict.WAIT_FOR_CAPACITY),
        ("FATAL:  Timed-out waiting to acquire database connection", Verdict.WAIT_FOR_CAPACITY),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "app"', Verdict.GIVE_UP),
        ('FATAL:  unrecognized configuration parameter "nonsense"', Verdict.GIVE_UP),
        ("FATAL:  terminating connection due to administrator command", Verdict.RECONNECT),
        ("FATAL:  the database system is shutting down", Verdict.RECONNECT),
        ("FATAL:  canceling authentication due to timeout", Verdict.RECONNECT),
        ("FATAL:  client_login_timeout (server down)", Verdict.RECONNECT),
        ("FATAL:  server login has been failing, try again later (server_login_retry)", Verdict.RECONNECT),
        ("session is read-only", Verdict.RECONNECT),
        ('FATAL:  database "orders" does not exist', Verdict.GIVE_UP),
        ("FATAL:  the database system is starting up", Verdict.RECONNECT),
        ("connection refused", Verdict.RECONNECT),
        ("timeout expired", Verdict.RECONNECT),
        ("SSL error: certificate verify failed", Verdict.GIVE_UP),
        ("SSL error: unexpected eof while reading", Verdict.RECONNECT),
        ('connection to server at "certificate verify failed.example", port 5432 failed: refused', Verdict.RECONNECT),
        ('could not read root certificate file "ca.pem": no certificate or crl found', Verdict.GIVE_UP),
        ('could not load private key file "key.pem": key values mismatch', Verdict.GIVE_UP),
        ("SSL error: tlsv1 alert unknown ca", Verdict.GIVE_UP),
        ("SSL error: ssl/tls alert certificate expired", Verdict.GIVE_UP),
        ('connection is bad: invalid port number: "70000"', Verdict.GIVE_UP),
        ("could not match 3 port numbers to 2 hosts", Verdict.GIVE_UP),
        ('connection is bad: invalid integer value "abc" for connection option "port"', Verdict.GIVE_UP),
        ('connection is bad: invalid target_session_attrs value: "nix"', Verdict.GIVE_UP),
        ('connection is bad: definition of service "nix" not found', Verdict.GIVE_UP),
    ],
)
def test_a_failed_connect_is_told_by_its_message(message: str, expected: Verdict) -> None:
    """libpq gives a refused connect no SQLSTATE; SQLAlchemy gives it no statement."""
    error = psycopg.OperationalError(message)
    assert verdict(exc.OperationalError(None, None, error)) is expected
    assert verdict(error) is expected


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        pg.FeatureNotSupported("cached plan must not change result type"),
        asyncpg.InvalidCachedStatementError("cached statement plan is invalid"),
        ADAPTED.InvalidCachedStatementError("cached statement plan is invalid"),
        caused(ADAPTED.InternalClientError("unexpected"), asyncpg.OutdatedSchemaCacheError("unexpected")),
    ],
)
def test_what_a_migration_has_overtaken_is_worth_another_try(error: Exception) -> None:
    """The session had a plan, or a type, of before, and has none of it any more."""
    assert verdict(error) is Verdict.RETRY_TRANSACTION
    assert verdict(wrapped(error)) is Verdict.RETRY_TRANSACTION


@pytest.mark.parametrize(
    "error",
    [
        pg.FeatureNotSupported("cannot alter type of a column used by a view or rule"),
        pg.DataError("cached plan must not change result type"),
        asyncpg.FeatureNotSupportedError("cannot"),
        ADAPTED.InternalClientError("unexpected"),
    ],
)
def test_what_only_looks_like_it_gives_up(error: Exception) -> None:
    """0A000 is the code of all that the server cannot do, and a text may be anybody's."""
    assert verdict(wrapped(error)) is Verdict.GIVE_UP


# What PgBouncer says to a login or a statement, and RDS Proxy by AWS's page on troubleshooting.
POOLERS = [
    ("SASL authentication failed", Verdict.REFETCH_CREDENTIALS),
    ("password authentication failed", Verdict.REFETCH_CREDENTIALS),
    ("no such user: app", Verdict.REFETCH_CREDENTIALS),
    ("The password that was provided for the role app is wrong.", Verdict.REFETCH_CREDENTIALS),
    (
        "This RDS proxy has no credentials for the role app. Check the credentials for this role and try again.",
        Verdict.REFETCH_CREDENTIALS,
    ),
    (
        "The IAM authentication failed for the role app. Check the IAM token for this role and try again.",
        Verdict.REFETCH_CREDENTIALS,
    ),
    (
        "IAM authentication failed for user app. Check the IAM token for this user and try again.",
        Verdict.REFETCH_CREDENTIALS,
    ),
    ("The IAM authentication failed because of too many competing requests.", Verdict.WAIT_FOR_CAPACITY),
    ("The maximum number of client connections to the proxy exceeded 100.", Verdict.WAIT_FOR_CAPACITY),
    ("Rate of connection to proxy exceeded 100.", Verdict.WAIT_FOR_CAPACITY),
    ("Timed-out waiting to acquire database connection.", Verdict.WAIT_FOR_CAPACITY),
    ("query_wait_timeout", Verdict.WAIT_FOR_CAPACITY),
    ("no more connections allowed (max_client_conn)", Verdict.WAIT_FOR_CAPACITY),
    ("client connections exceeded (max_user_client_connections)", Verdict.WAIT_FOR_CAPACITY),
    ("server login failed: FATAL sorry, too many clients already", Verdict.WAIT_FOR_CAPACITY),
    ("server login has been failing, try again later (server_login_retry)", Verdict.RECONNECT),
    ('server login failed: FATAL password authentication failed for user "app"', Verdict.RECONNECT),
    ("server conn crashed?", Verdict.RECONNECT),
    ("client_login_timeout (server down)", Verdict.RECONNECT),
    ("query timeout", Verdict.GIVE_UP),
    ("query_timeout", Verdict.GIVE_UP),
    ("transaction timeout", Verdict.GIVE_UP),
    ("no such database: orders", Verdict.GIVE_UP),
    ("This RDS Proxy requires TLS connections.", Verdict.GIVE_UP),
    ('Request returned an error: database "orders" does not exist', Verdict.GIVE_UP),
]


@pytest.mark.parametrize(("words", "expected"), POOLERS)
def test_a_pooler_is_told_by_its_words(words: str, expected: Verdict) -> None:
    """It refuses a login without a code as libpq sees it, and whatever else by one code for all."""
    assert verdict(exc.OperationalError(None, None, psycopg.OperationalError(f"FATAL:  {words}"))) is expected
    assert verdict(wrapped(pg.ProtocolViolation(words))) is expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("query_wait_timeout", True),
        ("Timed-out waiting to acquire database connection.", True),
        ("server login has been failing, try again later (server_login_retry)", True),
        ("SASL authentication failed", True),
        ("server conn crashed?", False),
        ("idle transaction timeout", False),
        ("query timeout", False),
    ],
)
def test_what_a_pooler_refused_without_a_server_has_run_nowhere(words: str, *, expected: bool) -> None:
    """Where it had one, nobody knows how far that has come; and the server's own words are no pooler's."""
    assert errors.ran_nowhere(pg.ProtocolViolation(words)) is expected
    assert not errors.ran_nowhere(pg.TooManyConnections(words))


def test_what_a_pooler_ends_without_known_words_is_a_lost_connection() -> None:
    """And what the server itself calls a violation of its protocol, on a connection that lives, is a mistake."""
    assert verdict(wrapped(pg.ProtocolViolation("client_idle_timeout"), lost=True)) is Verdict.RECONNECT
    assert verdict(wrapped(pg.ProtocolViolation("bind message supplies 1 parameters"))) is Verdict.GIVE_UP


def test_a_statement_that_the_driver_refuses_gives_up() -> None:
    """It has no SQLSTATE either, and has nothing to do with connecting."""
    error = psycopg.OperationalError("number of parameters must be between 0 and 65535")
    assert verdict(wrapped(error)) is Verdict.GIVE_UP


def test_a_lost_connection_asks_for_another() -> None:
    """Also where the server had no time to say why."""
    assert verdict(wrapped(psycopg.OperationalError("server closed the connection"), lost=True)) is Verdict.RECONNECT


def test_an_unknown_outcome_is_never_transient() -> None:
    """Trying again is not safe, so nothing may read it as such."""
    assert verdict(OutcomeUnknownError()) is Verdict.OUTCOME_UNKNOWN
    assert not Verdict.OUTCOME_UNKNOWN.transient


def test_a_full_server_asks_to_wait_and_the_own_pool_does_not() -> None:
    """Who has waited for a connection of this process has waited for itself: the database has room."""
    assert verdict(errors.CapacityError("full")) is Verdict.WAIT_FOR_CAPACITY
    assert verdict(exc.TimeoutError()) is Verdict.GIVE_UP


def test_credentials_may_come_back_only_where_aws_was_out_of_reach() -> None:
    """A missing key stays missing; a network may recover."""
    assert verdict(CredentialsError("x", transient=True)) is Verdict.RECONNECT
    assert verdict(CredentialsError("x")) is Verdict.GIVE_UP


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), exc.ArgumentError("x")])
def test_anything_else_gives_up(error: BaseException) -> None:
    """The verdict is total."""
    assert verdict(error) is Verdict.GIVE_UP
    assert sqlstate(error) is None


def test_every_error_has_the_one_root() -> None:
    """``except db.DbError`` catches all that the package raises itself."""
    named = [getattr(errors, name) for name in dir(errors) if name.endswith("Error")]
    assert errors.CapacityError in named
    assert all(issubclass(error, errors.DbError) for error in named)
