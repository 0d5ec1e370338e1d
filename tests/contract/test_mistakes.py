"""What people get wrong when they begin, and what they are told: names, values, secrets, and the first calls.

Those of who goes on to write units of work are in ``tests/postgres/test_mistakes.py``; how a row is read, in
``mistakes``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import db

from .mistakes import ONE, At, Make, Row, at, call, call_aio, on_sqlite, read, require_said

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["at"]  # a fixture

pytestmark = pytest.mark.slow

LOGIN = {"username": "app", "password": "never shown"}


def variables(**given: str) -> Make:
    """Deploy with these, beside a secret where they name no place."""
    place = {} if {"DB_URL", "DB_AUTH", "SECRET_ARN", "DATABASE_URL"} & given.keys() else {"DB_SECRET_ID": "orders/app"}
    return lambda at: at.environment(**(place | given))


def url(value: str) -> Make:
    """Deploy with this DB_URL."""
    return lambda at: at.environment(DB_URL=value)


def secret(value: object, **settings: Any) -> Make:
    """Deploy with this secret."""
    return lambda at: at.secret(value, **settings)


def work(*_: Any, **__: Any) -> None:
    """What is never called, or does nothing."""


def of_powertools(at: At, **config: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Powertools' layer, and its decorator on a function of an order; the table of ``db.once`` is not there."""
    from aws_lambda_powertools.utilities.idempotency import IdempotencyConfig, idempotent_function

    from db.powertools import OncePersistenceLayer

    at.server()
    layer = OncePersistenceLayer()
    settings = IdempotencyConfig(event_key_jmespath="id", **config)
    decorate = idempotent_function(data_keyword_argument="order", config=settings, persistence_store=layer)
    return layer, decorate


def tx_outside_of_the_function(at: At) -> None:
    layer, _ = of_powertools(at)
    _ = layer.tx


def tx_where_it_is_disabled(at: At) -> None:
    layer, decorate = of_powertools(at)
    at.environment(POWERTOOLS_IDEMPOTENCY_DISABLED="true", DB_URL="sqlite://")
    decorate(lambda **_: layer.tx)(order={"id": 1})


def powertools_on_async_def(at: At) -> None:
    layer, decorate = of_powertools(at)

    async def charge(**_: Any) -> None:
        layer.tx.execute(ONE)

    decorate(charge)(order={"id": None})


def powertools_without_the_table(at: At) -> None:
    _, decorate = of_powertools(at)
    decorate(work)(order={"id": 1})


def a_function_for_another_tenant_inside(at: At) -> None:
    layer, decorate = of_powertools(at, raise_on_no_idempotency_key=False)
    inner = decorate(lambda **_: layer.tx)

    def outer(**_: Any) -> None:
        layer.tx.execute(ONE)
        with db.scope(tenant="globex"):
            inner(order={"id": None})

    with db.scope(tenant="acme"):
        decorate(outer)(order={"id": None})


def unit_within_a_unit(at: At) -> None:
    at.server()
    with db.begin() as tx:
        tx.execute(ONE)
        read()


def once_without_the_table(at: At) -> None:
    at.server()
    db.once("order-7").run(work)


def batch_of(event: Any) -> Make:
    return on_sqlite(lambda: db.batch(event, work))


def scope_of(tenant: Any) -> Make:
    def bind(_at: At) -> None:
        with db.scope(tenant=tenant):
            pass

    return bind


def without_a_tenant(at: At) -> None:
    at.server(tenant_required=True)
    read()


def begin_with(**arguments: Any) -> Make:
    def enter(at: At) -> None:
        at.server()
        with db.begin(**arguments):
            pass

    return enter


REFUSED = db.ConfigurationError
MISTAKES: list[Row] = [
    # Names of settings.
    ("name: the secret's ARN", variables(DB_SECRET_ARN="a"), REFUSED, ("DB_SECRET_ARN", "DB_SECRET_ID")),
    ("name: a password", variables(DB_PASSWORD="p"), REFUSED, ("DB_PASSWORD", "DB_SECRET_ID", "DB_URL")),
    ("name: a database", variables(DB_DATABASE="d"), REFUSED, ("DB_DATABASE", "DB_NAME")),
    ("name: a user", variables(DB_USERNAME="u"), REFUSED, ("DB_USERNAME", "DB_USER")),
    ("name: an endpoint", variables(DB_ENDPOINT="h"), REFUSED, ("DB_ENDPOINT", "DB_HOST")),
    ("name: a URL of a reader", variables(DB_READER_URL="u"), REFUSED, ("DB_READER_URL", "DB_READER_HOST")),
    ("name: the proxy's host", variables(DB_PROXY_HOST="h"), REFUSED, ("DB_PROXY_HOST", "DB_HOST", "DB_PROXY")),
    ("name: IAM as a switch", variables(DB_IAM_AUTH="1"), REFUSED, ("DB_IAM_AUTH", "DB_AUTH=iam")),
    ("name: connections", variables(DB_MAX_CONNECTIONS="9"), REFUSED, ("DB_MAX_CONNECTIONS", "DB_POOL_SIZE")),
    ("name: a unit left out", variables(DB_POOL_RECYCLE="9"), REFUSED, ("DB_POOL_RECYCLE_S",)),
    ("name: milliseconds", variables(DB_SLOW_QUERY_MS="9"), REFUSED, ("DB_SLOW_QUERY_MS", "DB_SLOW_QUERY_S")),
    ("name: a timeout", variables(DB_TIMEOUT="9"), REFUSED, ("DB_STATEMENT_TIMEOUT_S", "DB_CONNECT_TIMEOUT_S")),
    ("name: certificates", variables(DB_SSL_CA="f"), REFUSED, ("DB_SSL_CA", "DB_SSLROOTCERT")),
    ("name: a search path", variables(DB_SEARCH_PATH="s"), REFUSED, ("DB_SEARCH_PATH", "DB_SCHEMA")),
    ("name: a level of the log", variables(DB_LOG_LEVEL="d"), REFUSED, ("DB_LOG_LEVEL", "POWERTOOLS_LOG_LEVEL")),
    ("name: a tenant", variables(DB_TENANT="t"), REFUSED, ("DB_TENANT", "db.scope", "DB_TENANT_REQUIRED")),
    ("name: small letters", variables(db_schema="s"), REFUSED, ("db_schema", "upper case", "DB_SCHEMA")),
    ("name: a letter left out", variables(DB_STATMENT_TIMEOUT_S="9"), REFUSED, ("DB_STATEMENT_TIMEOUT_S",)),
    ("name: no prefix", variables(SECRET_ARN="a"), REFUSED, ("SECRET_ARN", "DB_SECRET_ID")),
    ("name: of other frameworks", variables(DATABASE_URL="u"), REFUSED, ("DATABASE_URL", "DB_URL")),
    ("name: the way out is said", variables(DB_BACKEND="e"), REFUSED, ("DB_BACKEND", "DB_IGNORE")),
    # Values of settings.
    ("value: nothing set", lambda at: at.environment(), REFUSED, ("DB_SECRET_ID", "DB_URL", "DB_AUTH=iam")),
    ("value: both a secret and a URL", variables(DB_SECRET_ID="a", DB_URL="sqlite://"), REFUSED, ("DB_AUTH",)),
    ("value: a port in words", variables(DB_PORT="five"), REFUSED, ("DB_PORT", "whole number", "five")),
    ("value: a word that is none", variables(DB_POOL="none"), REFUSED, ("DB_POOL", "queue, null, static")),
    ("value: a unit with it", variables(DB_POOL_IDLE_S="5m"), REFUSED, ("DB_POOL_IDLE_S", "number of seconds")),
    ("value: below its floor", variables(DB_CONNECT_TIMEOUT_S="0.5"), REFUSED, ("DB_CONNECT_TIMEOUT_S", "floor of 2")),
    ("value: sizes without a pool", variables(DB_POOL="null", DB_POOL_SIZE="5"), REFUSED, ("DB_POOL_SIZE",)),
    ("value: verify without certificates", variables(DB_SSLMODE="verify-full"), REFUSED, ("DB_SSLROOTCERT",)),
    ("value: IAM without its place", variables(DB_AUTH="iam"), REFUSED, ("DB_HOST", "DB_NAME", "DB_USER")),
    ("value: a password by the way", variables(DB_CONNECT_ARGS='{"password": "p"}'), REFUSED, ("DB_CONNECT_ARGS",)),
    ("value: another type in code", lambda _: call.Settings(url="sqlite://", pool_size="3"), REFUSED, ("not a int",)),
    ("value: a setting that is none", lambda _: call.Settings(pool_sise=3), TypeError, ("pool_sise",)),
    # URLs.
    ("url: psycopg2", url("postgresql+psycopg2://u:p@h/d"), REFUSED, ("psycopg2", "write postgresql://")),
    ("url: asyncpg", url("postgresql+asyncpg://u:p@h/d"), REFUSED, ("postgresql://", "DB_ASYNC_DRIVER=asyncpg")),
    ("url: another spelling", url("postgress://u:p@h/d"), REFUSED, ("postgress", "write postgresql://")),
    ("url: of JDBC", url("jdbc:postgresql://h/d"), REFUSED, ("JDBC", "write postgresql://")),
    ("url: words of libpq", url("host=h dbname=d"), REFUSED, ("libpq", "write postgresql://")),
    ("url: in quotes", url('"postgresql://u:p@h/d"'), REFUSED, ("quotes",)),
    ("url: a password as it is", url("postgresql://u:p@ss@h/d"), REFUSED, ("%40",)),
    ("url: of Prisma", url("postgresql://u:p@h/d?pgbouncer=true"), REFUSED, ("pgbouncer", "DB_PROXY=pgbouncer")),
    ("url: a schema", url("postgresql://u:p@h/d?schema=s"), REFUSED, ("schema", "DB_SCHEMA")),
    ("url: no database", url("postgresql://u:p@h"), REFUSED, ("DB_URL", "DB_NAME")),
    # Secrets.
    ("secret: RDS's own, and no host", secret(LOGIN), REFUSED, ("no host", "DB_HOST")),
    ("secret: RDS's own, and no name", secret(LOGIN, host="127.0.0.1"), REFUSED, ("no database", "DB_NAME")),
    ("secret: a password alone", secret("never shown"), db.CredentialsError, ("mistakes", "JSON object")),
    ("secret: a URL", secret("postgresql://u:p@h/d"), db.CredentialsError, ("looks like a URL", "JSON object")),
    ("secret: of MySQL", secret(LOGIN | {"engine": "mysql"}), db.CredentialsError, ("engine", "PostgreSQL")),
    ("secret: a key misspelt", secret({"username": "u", "pasword": "p"}), db.CredentialsError, ("password", "pasword")),
    (
        "secret: two that disagree",
        secret(LOGIN | {"db": "a", "database": "b"}),
        db.CredentialsError,
        ("'db'", "dbname"),
    ),
    ("secret: a port in words", secret(LOGIN | {"port": "five"}), db.CredentialsError, ("port",)),
    # Calls for the process.
    (
        "engine: a role in another word",
        on_sqlite(lambda: call.engine("write")),
        ValueError,
        ("writer", "reader"),
    ),
    ("engine: the same for aio", on_sqlite(lambda: call_aio.engine("read")), ValueError, ("writer", "reader")),
    ("configure: a dict", lambda _: call.configure({"url": "sqlite://"}), TypeError, ("db.Settings", "dict")),
    ("configure: a URL", lambda _: call.configure("sqlite://"), TypeError, ("db.Settings", "str")),
    ("invocation: of no function", lambda _: call.invocation("handler"), TypeError, ("event and context", "str")),
    (
        "invocation: of a class method",
        lambda _: call.invocation(classmethod(work)),
        TypeError,
        ("@classmethod above",),
    ),
    # Powertools' decorators.
    ("powertools: tx outside", tx_outside_of_the_function, db.DbError, ("no transaction", "decorator")),
    ("powertools: disabled", tx_where_it_is_disabled, db.DbError, ("POWERTOOLS_IDEMPOTENCY_DISABLED", "db.begin()")),
    ("powertools: async def", powertools_on_async_def, Exception, ("charge", "async def", "aio.idempotent")),
    ("powertools: no table", powertools_without_the_table, Exception, ("db_once", "create_once_table")),
    ("powertools: two tenants", a_function_for_another_tenant_inside, REFUSED, ("DB_POOL_SIZE",)),
    # Units of work.
    ("unit: within a unit", unit_within_a_unit, REFUSED, ("use the outer one's", "DB_POOL_SIZE")),
    ("unit: no tenant where one is required", without_a_tenant, db.TenantError, ("tenant=", "db.scope()")),
    ("unit: a tenant that is a number", scope_of(7), db.TenantError, ("string", "int")),
    ("unit: a tenant that is blank", scope_of(" "), db.TenantError, ("1 to 255 characters",)),
    ("unit: autocommit", begin_with(isolation="AUTOCOMMIT"), ValueError, ("SERIALIZABLE", "db.engine().connect()")),
    ("once: no table", once_without_the_table, REFUSED, ("db_once", "create_once_table")),
    ("once: a key that is a number", lambda _: call.once(7), db.InvalidKeyError, ("string", "int")),
    ("once: a key that is blank", lambda _: db.once(" "), db.InvalidKeyError, ("1 to 255 characters",)),
    ("batch: an event of HTTP", batch_of({"body": ""}), ValueError, ("Records", "queue")),
    ("batch: a list of a pipe", batch_of([{"eventSource": "aws:sqs"}]), ValueError, ("a list", "{'Records': event}")),
    ("batch: no event", batch_of(None), ValueError, ("Records",)),
    ("batch: an unknown source", batch_of({"Records": [{"Sns": {}}]}), ValueError, ("no known source",)),
]


@pytest.mark.parametrize(
    ("make", "error", "words"), [row[1:] for row in MISTAKES], ids=[row[0].replace(" ", "-") for row in MISTAKES]
)
def test_a_mistake_is_named_with_its_remedy(at: At, make: Make, error: type[Exception], words: tuple[str, ...]) -> None:
    """By the error's type, and by what its message holds; a password is not in it."""
    require_said(at, make, error, words)


def test_each_mistake_is_there_once() -> None:
    """By its name, which is what a failure is known by."""
    names = [row[0] for row in MISTAKES]
    assert sorted(set(names)) == sorted(names)
