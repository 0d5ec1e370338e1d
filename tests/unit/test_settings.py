"""The settings table and how it is read."""

from typing import Any

import pytest
from sqlalchemy import make_url

from db.errors import ConfigurationError
from db.settings import Settings, fields

CANARY = "s3cr3t-canary"


def problems_of(environ: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env(environ)
    return caught.value.problems


def test_the_defaults_are_these() -> None:
    """What is not said is this; a change of a default is a change for every user, and shows here."""
    settings = Settings.from_env({"DB_SECRET_ID": "orders/app"})
    given = {f.name: getattr(settings, f.name) for f in fields() if getattr(settings, f.name) not in (None, {})}
    assert given == {
        "secret_id": "orders/app",
        "secret_ttl_s": 3600.0,
        "pool": "queue",
        "pool_size": 1,
        "max_overflow": 0,
        "async_connections": 4,
        "async_driver": "psycopg",
        "pool_timeout_s": 5.0,
        "pool_recycle_s": 600.0,
        "pool_idle_s": 300.0,
        "pool_pre_ping": True,
        "proxy": "none",
        "native_hstore": False,
        "application_name_request_id": True,
        "connect_timeout_s": 5.0,
        "connect_wait_s": 30.0,
        "statement_timeout_s": 30.0,
        "lock_timeout_s": 10.0,
        "deadline_reserve_s": 0.5,
        "shutdown_hook": True,
        "tenant_required": False,
        "slow_query_s": 1.0,
        "statement_repeats": 20,
        "sql_comments": "off",
        "trace": "off",
        "echo": "off",
        "echo_pool": "off",
        "hide_parameters": True,
    }


def test_every_problem_is_reported_at_once() -> None:
    """A deployment is mended once, not once for each mistake."""
    found = problems_of(
        {
            "DB_PORT": "five",
            "DB_POOL": "big",
            "DB_POOL_PRE_PING": "perhaps",
            "DB_CONNECT_TIMEOUT_S": "nan",
            "DB_POOL_RECYCLE_S": "0.5",
            "DB_CONNECT_ARGS": "[]",
        }
    )
    assert found == (
        "DB_PORT is not a whole number: 'five'",
        "DB_POOL is none of queue, null, static: 'big'",
        "DB_POOL_PRE_PING is neither true nor false: 'perhaps'",
        "DB_CONNECT_ARGS is not a JSON object",
        "DB_CONNECT_TIMEOUT_S is not a finite number of seconds: 'nan'",
        "DB_POOL_RECYCLE_S is 0.5, below its floor of 1",
        "no database: set DB_SECRET_ID, DB_URL, or DB_AUTH=iam with DB_HOST, DB_NAME and DB_USER",
    )


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"DB_SECRET_ID": "a", "DB_URL": "sqlite://"}, "DB_SECRET_ID and DB_URL are both set: choose one, or say"),
        ({"DB_AUTH": "url"}, "DB_AUTH=url needs DB_URL"),
        ({"DB_AUTH": "iam", "DB_NAME": "d", "DB_USER": "u"}, "DB_AUTH=iam needs DB_HOST"),
        (
            {"DB_AUTH": "iam", "DB_HOST": "h", "DB_NAME": "d", "DB_USER": "u", "DB_SSLMODE": "prefer"},
            "DB_AUTH=iam sends its token only over TLS",
        ),
        ({"DB_SECRET_ID": "a", "DB_POOL": "static"}, "DB_POOL=static shares one connection and is for SQLite only"),
        ({"DB_SECRET_ID": "a", "DB_POOL": "null", "DB_POOL_SIZE": "4"}, "DB_POOL=null keeps no connection"),
        ({"DB_SECRET_ID": "a", "DB_SSLMODE": "verify-full"}, "DB_SSLMODE=verify-full needs DB_SSLROOTCERT"),
        ({"DB_SECRET_ID": "a", "DB_CONNECT_ARGS": '{"password": "x"}'}, "DB_CONNECT_ARGS holds password"),
        ({"DB_SECRET_ID": "a", "DB_CONNECT_ARGS": '{"sslmode": "disable"}'}, "DB_CONNECT_ARGS holds sslmode"),
        ({"DB_URL": "sqlite://", "DB_NATIVE_HSTORE": "true"}, "DB_NATIVE_HSTORE is for PostgreSQL only"),
        ({"DB_URL": "postgres://u@h/d"}, "DB_URL names a driver that is not installed, 'postgres'"),
        ({"DB_URL": "mysql+mysqldb://u@h/d"}, "DB_URL names a driver that is not installed, 'mysql+mysqldb'"),
        ({"DB_SECRET_ID": "a", "DB_STATEMENT_TIMEOUT_S": "3000000"}, "above PostgreSQL's 2147483"),
        ({"DB_SECRET_ID": "a", "DB_STATMENT_TIMEOUT_S": "3"}, "is DB_STATEMENT_TIMEOUT_S meant?"),
    ],
)
def test_a_contradiction_is_refused(environ: dict[str, str], problem: str) -> None:
    """Settings that cannot both be meant are an error, not a silent choice."""
    found = problems_of(environ)
    assert problem in found[0]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"pool": "nul"}, "DB_POOL is none of queue, null, static: 'nul'"),
        ({"pool_size": "3"}, "DB_POOL_SIZE is a str, not a int"),
        ({"pool_size": True}, "DB_POOL_SIZE is a bool, not a int"),
        ({"url": "sqlite://"}, "DB_URL is a str, not a URL"),
        ({"pool_pre_ping": 1}, "DB_POOL_PRE_PING is a int, not a bool"),
    ],
)
def test_values_given_in_code_are_checked_as_well(values: dict[str, Any], problem: str) -> None:
    """A misspelt pool must not become another pool."""
    with pytest.raises(ConfigurationError) as caught:
        Settings(**({"secret_id": "a"} | values))
    assert caught.value.problems == (problem,)


def test_an_empty_variable_counts_as_unset() -> None:
    """Templates pass empty parameters on; they must not turn into empty host names."""
    settings = Settings.from_env({"DB_SECRET_ID": "orders/app", "DB_HOST": "", "DB_READER_HOST": " "})
    assert (settings.host, settings.reader_host) == (None, None)


def test_a_variable_of_another_program_is_left_alone() -> None:
    """DB_PASSWORD and the like may stand in the environment for somebody else."""
    assert Settings.from_env({"DB_SECRET_ID": "a", "DB_PASSWORD": "x"}).secret_id == "a"


@pytest.mark.parametrize("url", [f"postgresql://u:{CANARY}@h:notaport/d", f"nonsense {CANARY}"])
def test_a_broken_url_is_not_repeated_in_the_error(url: str) -> None:
    """A URL holds a password, whatever else is wrong with it."""
    assert CANARY not in "".join(problems_of({"DB_URL": url}))


def test_settings_print_without_secrets() -> None:
    """A password in the URL or in the connect arguments does not appear in the repr."""
    settings = Settings(url=make_url(f"postgresql://u:{CANARY}@h/d"), connect_args={"sslpassword": CANARY})
    assert CANARY not in repr(settings)


def test_the_source_follows_from_what_is_set() -> None:
    """DB_AUTH is needed only where it cannot be told."""
    assert Settings(secret_id="a").source == "secret"
    assert Settings(url=make_url("sqlite://")).source == "url"
    assert Settings(secret_id="a", url=make_url("sqlite://"), auth="url").source == "url"


def test_the_function_name_is_lambdas() -> None:
    """Connections carry the function's name unless DB_APPLICATION_NAME says otherwise."""
    environ = {"DB_SECRET_ID": "a", "AWS_LAMBDA_FUNCTION_NAME": "orders-api"}
    assert Settings.from_env(environ).function_name == "orders-api"
