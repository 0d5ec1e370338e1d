"""DB_AUTH=iam with DB_PROXY=rds-proxy: the token is the proxy's, and what that says of it is understood."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

import db
from db.credentials.rds_iam import RdsIamSource
from db.environment import process
from db.environment.runtime import Runtime
from db.settings import Settings
from tests.doors import make_prologue

from .conftest import Lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.network.rds_proxy import RdsProxyWire
    from devkit.plugin import Database, MakeRdsProxy
    from devkit.servers.postgres import Postgres

    from .conftest import Use

IAM_WORDS = "The IAM authentication failed for the role app. Check the IAM token for this role and try again."
NOW = 1_790_000_000.0


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A role's, as Lambda puts them into the environment."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")


@pytest.fixture
def proxy(rds_proxy: MakeRdsProxy) -> RdsProxyWire:
    return rds_proxy()


@pytest.fixture
def enter(
    proxy: RdsProxyWire, database: Database, postgres: Postgres, use: Use, monkeypatch: pytest.MonkeyPatch
) -> Callable[[float], str]:
    """``enter(now)``: the layer at the proxy's door, where the one token passes that boto3 would sign at ``now``.

    In the place of IAM: a token is the same each time within a second, so it can be a password. It is given back.
    """
    make_prologue(database.url("owner"), used_by=database.app)
    clock = [NOW]
    monkeypatch.setattr(Runtime.__init__, "__kwdefaults__", {"clock": lambda: clock[0], "options": None})

    def at(now: float) -> str:
        clock[0] = now
        settings: dict[str, Any] = {"host": proxy.host, "port": proxy.port, "name": database.name, "user": database.app}
        token = RdsIamSource(Settings(auth="iam", **settings), proxy.host, clock=lambda: now).current().password
        postgres.execute(f"ALTER ROLE {database.app} PASSWORD '{token}'")
        if process.DEFAULT.peek() is None:
            use(url=None, auth="iam", proxy="rds-proxy", **settings)
        return token

    return at


def read() -> int:
    with db.read() as conn:
        return int(conn.execute(text("SELECT 1")).scalar_one())


def test_the_token_names_the_proxy(enter: Callable[[float], str], proxy: RdsProxyWire, database: Database) -> None:
    """Its host and its port, for which it was signed: the server's own would be refused there."""
    token = enter(NOW)
    assert read() == 1
    assert token.startswith(f"{proxy.host}:{proxy.port}/?Action=connect&DBUser={database.app}&")


def test_each_endpoint_of_a_proxy_has_a_token_of_its_own(proxy: RdsProxyWire, use: Use) -> None:
    """A proxy's endpoint for reads has another name, and signing is by name."""
    hosts = {"host": "proxy.example.com", "reader_host": "readers.proxy.example.com"}
    use(url=None, auth="iam", proxy="rds-proxy", name="orders", user="app", **hosts)  # type: ignore[arg-type]
    sources = [process.DEFAULT.current()._source(role) for role in ("writer", "reader")]
    assert [source.current().password.partition("/")[0] for source in sources if source] == [
        "proxy.example.com:5432",
        "readers.proxy.example.com:5432",
    ]


def test_a_token_that_has_expired_is_signed_anew(enter: Callable[[float], str]) -> None:
    """At the connect that needs one: what was opened with the old one stays open."""
    old = enter(NOW)
    assert read() == 1
    new = enter(NOW + 900)
    db.dispose()
    assert read() == 1
    assert old != new


def test_a_token_that_the_proxy_refuses_is_followed_by_another(
    enter: Callable[[float], str], proxy: RdsProxyWire, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the words that AWS documents: as where the role's policy has not reached IAM yet."""
    enter(NOW)
    proxy.refuse_with(IAM_WORDS)
    monkeypatch.setattr("db.pool.connector.sleep", lambda _seconds: proxy.refuse_with(None))
    assert read() == 1
    (line,) = lines.of("connect waits")
    assert line["verdict"] == db.Verdict.REFETCH_CREDENTIALS.value
    assert line["reason"].endswith(IAM_WORDS)
