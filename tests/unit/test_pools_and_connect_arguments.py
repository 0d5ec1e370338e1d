"""Pool plans and connect arguments, as functions of the settings."""

from typing import Any

import pytest
from sqlalchemy import make_url
from sqlalchemy.pool import NullPool

from db.credentials.source import Credentials
from db.environment.runtime import Runtime
from db.errors import ConfigurationError
from db.pool.connect_arguments import connect_params, is_loopback
from db.pool.pools import IdleAwareQueuePool, StaticQueuePool, plan_pool
from db.settings import Settings

SECRET = Credentials(username="app", password="pw", host="db.example.com", port=5433, database="orders", fetched_at=0.0)


def params(
    credentials: Credentials | None = SECRET, given: dict[str, Any] | None = None, **values: Any
) -> dict[str, Any]:
    settings = Settings(**({"secret_id": "s", "sslrootcert": "/ca.pem"} | values))
    return connect_params(settings, credentials, given or {}, role="writer", timeout_s=4.9)


def test_migrations_and_checks_have_an_engine_whatever_is_kept_for_handlers() -> None:
    """Theirs keeps nothing, and a connection in Init is asked for by a whole application's variables."""
    runtime = Runtime(Settings(url="postgresql://app:pw@localhost/shop", pool_size=2, max_overflow=1, warm="init"))
    assert isinstance(runtime.engine("unpooled").pool, NullPool)
    runtime.dispose()


def test_every_knob_of_the_queue_pool_is_reachable() -> None:
    """The checklist's, and the idle time that SQLAlchemy has not."""
    plan = plan_pool(
        Settings(
            secret_id="s",
            pool_size=3,
            max_overflow=2,
            pool_timeout_s=1.5,
            pool_recycle_s=60,
            pool_pre_ping=False,
            pool_idle_s=20,
            deadline_reserve_s=0.2,
        )
    )
    assert plan.pool_class is IdleAwareQueuePool
    assert plan.arguments == {
        "pool_size": 3,
        "max_overflow": 2,
        "pool_timeout": 1.5,
        "pool_recycle": 60,
        "pool_pre_ping": False,
        "idle_s": 20,
        "reserve_s": 0.2,
        "database": None,
        "prefix": "DB_",
    }


def test_the_null_pool_takes_no_sizes() -> None:
    """A connection per checkout has nothing to size."""
    plan = plan_pool(Settings(secret_id="s", pool="null"))
    assert (plan.pool_class, plan.arguments) == (NullPool, {})


@pytest.mark.parametrize(
    ("url", "static"), [("sqlite://", True), ("sqlite:///:memory:", True), ("sqlite:///f.db", False)]
)
def test_sqlite_in_memory_is_one_connection(url: str, static: bool) -> None:
    """A second connection would be a second, empty database; it is one user's at a time, and is never replaced."""
    plan = plan_pool(Settings(url=make_url(url)))
    assert (plan.pool_class is StaticQueuePool) is static
    assert ("pool_recycle" in plan.arguments) is not static


def test_settings_win_over_the_secret() -> None:
    """So that a tunnel or a proxy may stand before what the secret names."""
    merged = params(host="proxy.example.com", port=6432, name="other")
    assert (merged["host"], merged["port"], merged["dbname"]) == ("proxy.example.com", 6432, "other")
    assert (merged["user"], merged["password"]) == ("app", "pw")


def test_an_rds_managed_secret_is_completed_by_the_settings() -> None:
    """It holds a user and a password, and nothing else."""
    bare = Credentials(username="master", password="pw", fetched_at=0.0)
    merged = params(bare, host="db.example.com", name="orders")
    assert (merged["host"], merged["port"], merged["dbname"]) == ("db.example.com", 5432, "orders")
    with pytest.raises(ConfigurationError, match="no host"):
        params(bare)


def test_no_database_is_taken_for_the_one_that_nobody_named() -> None:
    """libpq would take one by the user's name, and `postgres` is there on every server."""
    bare = Credentials(username="master", password="pw", fetched_at=0.0)
    with pytest.raises(ConfigurationError, match=r"no database: the secret names none .* and DB_NAME is not set"):
        params(bare, host="db.example.com")


def test_a_setting_names_another_user() -> None:
    """With the secret's password; a secret need not name one then."""
    assert params(user="other")["user"] == "other"


def test_the_reader_has_its_own_host() -> None:
    """Everything else is the writer's."""
    settings = Settings(secret_id="s", sslrootcert="/ca.pem", host="w.example.com", reader_host="r.example.com")
    hosts = [connect_params(settings, SECRET, {}, role=role, timeout_s=5)["host"] for role in ("writer", "reader")]
    assert hosts == ["w.example.com", "r.example.com"]


def test_certificates_are_verified_unless_the_host_is_this_machine() -> None:
    """libpq's default verifies nothing."""
    assert params()["sslmode"] == "verify-full"
    assert params(host="127.0.0.1", sslrootcert=None)["sslmode"] == "prefer"
    with pytest.raises(ConfigurationError, match="DB_SSLROOTCERT"):
        params(sslrootcert=None)


def test_a_url_may_say_how_to_verify() -> None:
    """What SQLAlchemy makes of the URL wins over the defaults."""
    merged = params(None, {"host": "h", "dbname": "d", "user": "u", "sslmode": "require"}, sslrootcert=None)
    assert (merged["sslmode"], merged["user"]) == ("require", "u")


def test_the_connect_timeout_is_what_is_left_in_whole_seconds() -> None:
    """libpq takes no fraction, and nothing below two."""
    assert params()["connect_timeout"] == 4
    assert (
        connect_params(Settings(secret_id="s", host="localhost"), SECRET, {}, role="writer", timeout_s=0.4)[
            "connect_timeout"
        ]
        == 2
    )


def test_hosts_share_the_connect_timeout() -> None:
    """The driver grants it to each of them anew."""
    merged = connect_params(
        Settings(secret_id="s", host="a.example.com,b.example.com", sslrootcert="/ca.pem"),
        SECRET, {}, role="writer", timeout_s=9,
    )  # fmt: skip
    assert merged["connect_timeout"] == 4


def test_startup_options_are_for_the_server_alone() -> None:
    """RDS Proxy refuses them, and PgBouncer would have to be told to ignore them."""
    assert params(schema="shop")["options"] == "-c search_path=shop"
    assert "options" not in params(schema="shop", proxy="pgbouncer")


def test_startup_options_add_up() -> None:
    """The search path does not vanish because somebody else sets an option too."""
    merged = params(schema="shop", given={"options": "-c a=1"}, connect_args={"options": "-c b=2"})
    assert merged["options"] == "-c a=1 -c search_path=shop -c b=2"


def test_settings_win_over_the_url() -> None:
    """What is named by itself counts more than a query string; a time-out may only be shortened."""
    given = {"host": "h", "dbname": "d", "application_name": "url", "connect_timeout": "77"}
    merged = params(None, given, application_name="setting")
    assert (merged["application_name"], merged["connect_timeout"]) == ("setting", 4)
    assert params(None, given | {"connect_timeout": "3"})["connect_timeout"] == 3


def test_nothing_is_prepared_by_name() -> None:
    """Unless DB_PREPARE says when: psycopg by itself would, and not every pooler keeps names."""
    assert params()["prepare_threshold"] is None
    assert params(prepare=3)["prepare_threshold"] == 3


def test_driver_options_pass_through() -> None:
    """DB_CONNECT_ARGS has the last word."""
    assert params(connect_args={"channel_binding": "require", "keepalives_idle": 60})["keepalives_idle"] == 60


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("127.0.0.2", True),
        ("::1", True),
        ("/run/postgresql", True),
        ("db", False),
        ("10.0.0.1", False),
    ],
)
def test_loopback_is_told_by_address(host: str, local: bool) -> None:
    """A name is not resolved to find out."""
    assert is_loopback(host) is local


@pytest.mark.parametrize(
    ("host", "complaint"),
    [
        ("db.example.com:5432", "DB_HOST holds a port, which goes into DB_PORT"),
        ("db.example.com, other.example.com", "DB_HOST has blanks in it"),
        ("https://db.example.com", "DB_HOST is a URL, and not the name of a server"),
        ("db.example.com/orders", "DB_HOST is no name of a server"),
    ],
)
def test_a_host_that_cannot_be_one_is_refused(host: str, complaint: str) -> None:
    """An endpoint is often copied with its port. A name that does not resolve is waited for, and this never will."""
    with pytest.raises(ConfigurationError, match=complaint):
        params(host=host)


@pytest.mark.parametrize("host", ["db.example.com", "a,b", "/var/run/postgresql", "::1", "127.0.0.1"])
def test_hosts_of_every_kind_pass(host: str) -> None:
    """Names, lists, a socket's folder, addresses."""
    assert params(host=host)["host"] == host


@pytest.mark.parametrize("port", [70_000, "5432,abc", "1,2,3"])
def test_a_port_that_cannot_be_one_is_refused(port: object) -> None:
    """As is a list of them that does not fit the hosts."""
    with pytest.raises(ConfigurationError, match="port"):
        params(None, {"host": "db.example.com", "port": port, "user": "app"})
