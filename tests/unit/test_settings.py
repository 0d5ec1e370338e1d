"""The settings table and how it is read."""

import re
from typing import Any

import pytest
from sqlalchemy import make_url

import db
from db.errors import ConfigurationError
from db.settings import Settings, fields
from db.settings import names as mistakes

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
        "prepare": 0,
        "native_hstore": False,
        "json": "json",
        "application_name_request_id": True,
        "connect_timeout_s": 5.0,
        "connect_wait_s": 30.0,
        "statement_timeout_s": 30.0,
        "lock_timeout_s": 10.0,
        "deadline_reserve_s": 0.5,
        "warm": "off",
        "shutdown_hook": True,
        "tenant_required": False,
        "tenant_audit": "warn",
        "sqlite_tenants": "refused",
        "slow_query_s": 1.0,
        "statement_repeats": 20,
        "sql_comments": "off",
        "trace": "off",
        "metrics": "emf",
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


DSQL = {"DB_AUTH": "dsql", "DB_HOST": "abc0.dsql.us-east-2.on.aws", "DB_USER": "app"}


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
        ({"DB_URL": "sqlite://", "DB_NATIVE_HSTORE": "true"}, "DB_NATIVE_HSTORE on SQLite: it is for PostgreSQL only"),
        ({"DB_URL": "sqlite://", "DB_TENANT_REQUIRED": "true"}, "DB_TENANT_REQUIRED on SQLite: it has no row-level"),
        ({"DB_URL": "sqlite://", "DB_SCHEMA": "shop"}, "DB_SCHEMA on SQLite: it has no search_path"),
        ({"DB_URL": "sqlite://", "DB_PROXY": "pgbouncer"}, "DB_PROXY on SQLite: it is a file in this process"),
        ({"DB_URL": "sqlite://", "DB_READER_HOST": "r"}, "DB_READER_HOST on SQLite: it has no replicas"),
        ({"DB_SECRET_ID": "a", "DB_SQLITE_TENANTS": "unchecked"}, "DB_SQLITE_TENANTS is for unit tests on SQLite"),
        ({"DB_URL": "postgresql://u@h"}, "DB_URL names no database"),
        (
            {"DB_URL": "mssql+pyodbc://u@h/d"},
            "DB_URL names mssql: db speaks PostgreSQL, SQLite, MySQL, MariaDB and",
        ),
        ({"DB_URL": "sqlite+pysqlcipher:///f"}, "DB_URL names a driver that is not installed, 'sqlite+pysqlcipher'"),
        ({"DB_SECRET_ID": "a", "DB_STATEMENT_TIMEOUT_S": "3000000"}, "above PostgreSQL's 2147483"),
        ({"DB_URL": "dsql://u@h/d"}, "DB_URL names Aurora DSQL, which is entered by a token"),
        (DSQL | {"DB_HOST": "db.example.com"}, "DB_HOST is 'db.example.com', and an endpoint of Aurora DSQL is called"),
        (DSQL | {"DB_USER": ""}, "DB_AUTH=dsql needs DB_USER"),
        (DSQL | {"DB_NAME": "orders"}, "DB_NAME is 'orders', and a cluster of Aurora DSQL has the database postgres"),
        (DSQL | {"DB_SSLMODE": "require"}, "DB_AUTH=dsql sends its token to a server of that name alone"),
        (DSQL | {"DB_ENGINE": "postgresql"}, "DB_ENGINE on Aurora DSQL: DB_AUTH=dsql says so already"),
        (DSQL | {"DB_READER_HOST": "r"}, "DB_READER_HOST on Aurora DSQL: it has no readers"),
        ({"DB_SECRET_ID": "a", "DB_PREPARE": "5", "DB_PROXY": "rds-proxy"}, "DB_PREPARE with DB_PROXY=rds-proxy"),
        ({"DB_SECRET_ID": "a", "DB_PREPARE": "5", "DB_ASYNC_DRIVER": "asyncpg"}, "with DB_ASYNC_DRIVER=asyncpg"),
        (
            {"DB_SECRET_ID": "a", "DB_PREPARE": "5", "DB_CONNECT_ARGS": '{"prepare_threshold": 5}'},
            "DB_PREPARE and prepare_threshold of DB_CONNECT_ARGS are the same",
        ),
        (
            {"DB_URL": "mysql://u:p@h/d", "DB_PREPARE": "5"},
            "DB_PREPARE on MySQL: PyMySQL sends every statement as text",
        ),
        ({"DB_URL": "sqlite://", "DB_PREPARE": "5"}, "DB_PREPARE on SQLite: sqlite3 keeps"),
        (DSQL | {"DB_PREPARE": "5"}, "DB_PREPARE on Aurora DSQL: what a session of it keeps"),
        (DSQL | {"DB_PROXY": "pgbouncer"}, "DB_PROXY on Aurora DSQL: nothing stands before a cluster"),
        (DSQL | {"DB_TENANT_REQUIRED": "true"}, "DB_TENANT_REQUIRED on Aurora DSQL: it has no row-level security"),
        (
            DSQL | {"DB_POOL_RECYCLE_S": "3301"},
            "DB_POOL_RECYCLE_S is 3301, above the 3300 of Aurora DSQL: a session",
        ),
        (DSQL | {"DB_STATEMENT_TIMEOUT_S": "301"}, "DB_STATEMENT_TIMEOUT_S is 301, above the 300 of Aurora DSQL"),
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
        ({"secret_id": None, "url": 5432}, "DB_URL is a int, not a URL"),
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
    """Its name resembles nothing here, or it is empty, or DB_IGNORE has it."""
    environ = {"DB_SECRET_ID": "a", "DB_BACKUP_BUCKET": "x", "DB_MIGRATE": "1", "DB_PASSWORD": "", "DATABASE_URL": "x"}
    assert Settings.from_env(environ).secret_id == "a"
    assert Settings.from_env(environ | {"DB_USERNAME": "x", "DB_IGNORE": "DB_PWD, DB_USERNAME"}).user is None


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("DB_SECRET_ARN", "is DB_SECRET_ID meant?"),
        ("DB_PASSWORD", "the password stands in the secret (DB_SECRET_ID) or in DB_URL"),
        ("DB_DATABASE_NAME", "is DB_NAME meant?"),
        ("DB_READER_URL", "is DB_READER_HOST meant?"),
        ("DB_PROXY_HOST", "is DB_HOST meant, with DB_PROXY=rds-proxy or pgbouncer?"),
        ("DB_IAM_AUTH", "is DB_AUTH=iam meant?"),
        ("DB_QUERY_TIMEOUT_S", "is DB_STATEMENT_TIMEOUT_S meant?"),
        ("DB_QUERY_TIMEOUTS", "is DB_STATEMENT_TIMEOUT_S meant?"),
        ("DB_POOL_SIZE_", "is DB_POOL_SIZE meant?"),
        ("DB_LOCK_TIMEOUT_MILLISECONDS", "is DB_LOCK_TIMEOUT_S meant?"),
        ("DB_TRACE_ENABLED", "is DB_TRACE meant?"),
        ("DB_METRICS_ENABLED", "is DB_METRICS meant?"),
        ("DB_JSON_LIBRARY", "is DB_JSON meant?"),
        ("DB_PROMETHEUS", "text() of db.environment.prometheus"),
        ("DB_SEARCH_PATH_ENABLED", "is DB_SCHEMA meant?"),
        ("DB_PREPARE_THRESHOLD", "is DB_PREPARE meant?"),
        ("DB_CHANNEL_BINDING", "is DB_CONNECT_ARGS meant, with the word of libpq or of psycopg?"),
        ("DB_LOG_LEVEL", "POWERTOOLS_LOG_LEVEL"),
        ("DB_TENANT", "db.scope(tenant=...)"),
        ("db_url", "names are in upper case: is DB_URL meant?"),
        ("Db_Secret_Arn", "is DB_SECRET_ID meant?"),
        ("SECRET_ID", "is DB_SECRET_ID meant?"),
    ],
)
def test_a_name_that_people_try_is_refused_with_the_right_one(name: str, meant: str) -> None:
    """Left without effect, it would be a limit that does not hold; the message says how to keep it for another."""
    (problem,) = problems_of({"DB_URL": "sqlite://", name: "x"})
    assert problem.startswith(f"{name} is not a setting: ")
    assert meant in problem
    assert problem.endswith("(if it is another program's, name it in DB_IGNORE)")


def test_what_is_meant_exists() -> None:
    """Of the words that people try, none is a setting, and each is told of one that is."""
    names = {f"DB_{f.name.upper()}" for f in fields()}
    assert not names & mistakes._MEANT.keys()
    said = {*mistakes._MEANT.values(), *mistakes._MEANT_WITHOUT_PREFIX.values()}
    assert {word for meant in said for word in re.findall(r"\bDB_[A-Z_]+", meant)} <= names


def test_what_people_try_means_one_thing() -> None:
    """A word under two remedies would be told of the one that happens to stand last."""
    for table in (mistakes._WORDS, mistakes._WORDS_WITHOUT_PREFIX):
        words = [word for words in table.values() for word in words.split()]
        assert sorted(words) == sorted(set(words))


HABITS = """
    JSON_SERIALIZER JSON_DESERIALIZER ENGINE_OPTIONS EXECUTION_OPTIONS POOL_USE_LIFO RESET_ON_RETURN
    QUERY_CACHE_SIZE POOLCLASS SQLALCHEMY_ENGINE_OPTIONS SQLALCHEMY_POOL_SIZE SQLALCHEMY_ECHO
    SQLALCHEMY_DATABASE_URI MAX_OVERFLOWS POOL_RECYCLE_SECONDS CONN_MAX_AGE CONN_HEALTH_CHECKS ATOMIC_REQUESTS
    DISABLE_SERVER_SIDE_CURSORS OPTIONS BACKEND TIME_ZONE INIT_COMMAND ASSUME_ROLE PGHOST PGUSER PGPASSWORD SERVICE
    PASSFILE SSLNEGOTIATION GSSENCMODE KEEPALIVES_COUNT LOAD_BALANCE_HOSTS TARGET_SESSION_ATTRS RDS_HOSTNAME
    RDS_PASSWORD INSTANCE_IDENTIFIER CLUSTER_ARN MASTER_USERNAME MASTER_USER_SECRET_ARN PROXY_ENDPOINT
    AURORA_ENDPOINT CLUSTER_IDENTIFIER READER_ENDPOINT FAILOVER_TIMEOUT READ_WRITE_SPLITTING IAM_ROLE_ARN AUTH_TOKEN
    SSM_PARAMETER SECRET_VERSION_STAGE SECRETS_MANAGER_ENDPOINT SECRET_EXTENSION SECRET_CACHE_TTL SECRET_REGION
    SECRET_JSON METRICS_NAMESPACE POWERTOOLS_SERVICE_NAME LOG_FORMAT IDEMPOTENCY_TABLE IDEMPOTENCY_DISABLED
    TRACER POOL_MAX_USES MAX_WAITING RETRY_ATTEMPTS TRANSACTION_TIMEOUT LOG_MIN_DURATION_STATEMENT
    ROW_LEVEL_SECURITY HSTORE
"""


def test_no_habit_is_without_effect_and_without_a_word() -> None:
    """From SQLAlchemy, Django, libpq, RDS, Aurora, Secrets Manager, Powertools and pools of other languages."""
    for word in HABITS.split():
        (problem,) = problems_of({"DB_SECRET_ID": "a", f"DB_{word}": "x"})
        assert problem.startswith(f"DB_{word} is not a setting: "), word


@pytest.mark.parametrize(
    "name", ["DATABASE_HOST", "PGHOST", "POSTGRES_PASSWORD", "RDS_PROXY_ENDPOINT", "DBNAME", "PGPORT"]
)
def test_where_a_database_is_by_anothers_name_is_said_where_nothing_else_says_it(name: str) -> None:
    """Beside a URL they are of another program: libpq's own, or of a container that runs the database."""
    problem, no_database = problems_of({name: "x"})
    assert problem.startswith(f"{name} is not a setting: ")
    assert no_database.startswith("no database: ")
    assert Settings.from_env({"DB_URL": "sqlite://", name: "x"}).engine_kind.title == "SQLite"


def test_what_resembles_nothing_is_said_to_be_without_effect(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be another program's, so it is a warning: once a process, by its name, without its value."""
    for name, value in (
        ("DB_URL", "sqlite://"),
        ("DB_BACKUP_BUCKET", "canary"),
        ("DB_EMPTY", ""),
        ("DB_QUOTA", "1"),
        ("DB_IGNORE", "DB_QUOTA"),
    ):
        monkeypatch.setenv(name, value)
    for _ in range(2):
        db.configure()
    (warned,) = [record for record in caplog.records if "have no effect" in record.getMessage()]
    assert vars(warned)["variables"] == ["DB_BACKUP_BUCKET"]
    assert "canary" not in caplog.text


def test_another_name_for_the_place_counts_where_no_setting_says_it() -> None:
    """Beside a secret, DATABASE_URL is for the code that is being replaced."""
    found = problems_of({"DATABASE_URL": "postgresql://u@h/d"})
    assert found[0].startswith("DATABASE_URL is not a setting: is DB_URL meant?")
    assert found[1].startswith("no database: ")
    assert Settings.from_env({"DB_SECRET_ID": "a", "DATABASE_URL": "x", "SECRET_ARN": "x"}).secret_id == "a"


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("postgres://u:p@h/d", "postgresql"),
        ("postgresql://u:p@h/d", "postgresql"),
        ("postgresql+psycopg://u:p@h/d", "postgresql"),
        ("postgresql+psycopg_async://u:p@h/d", "postgresql"),
        (" postgres://u:p@h/d?sslmode=require&channel_binding=require ", "postgresql"),
        ("sqlite://", "sqlite"),
    ],
)
def test_a_url_is_taken_as_providers_print_it(text: str, taken: str) -> None:
    """From the environment, as text in code, and as SQLAlchemy's object."""
    given = [Settings.from_env({"DB_URL": text}), Settings(url=text), Settings(url=make_url(text.strip()))]
    urls = [settings.url for settings in given]
    assert urls[0] is not None
    assert urls[0].drivername == taken
    assert urls == [urls[0]] * 3


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        (
            "postgresql+psycopg2://u:p@h/d",
            "names the driver 'psycopg2', and PostgreSQL is reached through psycopg here",
        ),
        ("postgresql+asyncpg://u:p@h/d", "write postgresql://user:password@host/database, and DB_ASYNC_DRIVER=asyncpg"),
        ("postgres+pg8000://u:p@h/d", "write postgresql://"),
        ("postgresq://u:p@h/d", "for PostgreSQL, write postgresql://"),
        ("pgsql://u:p@h/d", "for PostgreSQL, write postgresql://"),
        ("jdbc:postgresql://h/d", "is a URL of JDBC: write postgresql://"),
        ("host=h dbname=d password=p", "is a connection string of libpq: write postgresql://"),
        ('"postgresql://u:p@h/d"', "stands in quotes"),
        ("postgresql://u:p@ss@h/d", "write @ as %40"),
        ("postgresql://u:p@ss/w:rd@h/d", "write @ as %40"),
        ("postgresql://u:p@h/d?pgbouncer=true", "'pgbouncer' (set DB_PROXY=pgbouncer)"),
        ("postgresql://u:p@h/d?schema=app&sslmod=x", "'schema' (set DB_SCHEMA), 'sslmod' (is sslmode meant?)"),
    ],
)
def test_a_url_that_is_not_taken_says_what_to_write(url: str, remedy: str) -> None:
    """And that is all: since one is set, it is not said that none is."""
    (problem,) = problems_of({"DB_URL": url})
    assert problem.startswith("DB_URL ")
    assert remedy in problem
    assert "p@" not in problem


@pytest.mark.parametrize("url", [f"postgresql://u:{CANARY}@h:notaport/d", f"nonsense {CANARY}"])
def test_a_broken_url_is_not_repeated_in_the_error(url: str) -> None:
    """A URL holds a password, whatever else is wrong with it."""
    assert CANARY not in "".join(problems_of({"DB_URL": url}))


@pytest.mark.parametrize("seconds", ["nan", "inf"])
def test_seconds_are_finite_wherever_they_are_said(seconds: str) -> None:
    """In code as in the environment."""
    problem = f"DB_DEADLINE_RESERVE_S is not a finite number of seconds: {seconds}"
    with pytest.raises(ConfigurationError, match=problem):
        Settings(url=make_url("sqlite://"), deadline_reserve_s=float(seconds))
    (said,) = problems_of({"DB_URL": "sqlite://", "DB_DEADLINE_RESERVE_S": seconds})
    assert said.replace("'", "") == problem


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
