"""The pytest plugin: real parts as fixtures. Installing the kit registers it; no conftest needs to name it.

=======================  =========  =================================================================
fixture                  lives for  is
=======================  =========  =================================================================
``postgres``             session    a PostgreSQL server (``devkit.servers.postgres.Postgres``)
``mariadb``              session    a MariaDB server (``devkit.servers.mariadb.MariaDb``)
``local_aws``            session    Secrets Manager on localhost (``devkit.servers.aws.LocalAws``)
``database``             test       an empty database with roles of its own (``Database``)
``mariadb_database``     test       an empty database of ``mariadb``, with users of its own (``Database``)
``wire``                 test       a factory of proxies that count, read and break what passes
``mariadb_wire``         test       the same in front of ``mariadb``
``pgbouncer``            test       a factory of poolers (``devkit.servers.pgbouncer.PgBouncer``)
``rds_proxy``            test       a factory of proxies that refuse in the words of RDS Proxy
``dsql``                 test       a stand-in for Aurora DSQL (``devkit.servers.dsql.DsqlStandIn``)
``door``                 test       each way to the server in turn: straight, by PgBouncer, by that proxy
``replicated``           test       a primary and its standby (``devkit.servers.replica.Cluster``)
``replicated_database``  test       an empty database of theirs (``Database``)
``secret``               test       a function that stores a secret where this process's boto3 looks
``lambda_context``       test       a factory of Lambda context objects (``LambdaContext``)
``plans``                test       looks at the plans of what the test sends to ``database`` (``Plans``)
=======================  =========  =================================================================

A fixture whose packages are not installed names them, and the extra of the kit that brings them (``devkit.extras``).
A test that prints, logs or raises a password which these fixtures made fails, whatever else it does.

pytest imports this module in every run, so what is heavy is imported by the fixture that needs it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pytest

from .lambda_runtime.context import LambdaContext
from .servers.database import (
    Database,
    create_database,
    create_mariadb_database,
    drop_database,
    drop_mariadb_database,
)
from .servers.doors import USUAL, Door
from .servers.passwords import PREFIX

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping
    from pathlib import Path

    from pluggy import Result

    from .network.mysql_statements import MySqlWire
    from .network.rds_proxy import RdsProxyWire
    from .network.statements import PostgresWire
    from .query_plans.plans import Plans
    from .servers.aws import LocalAws
    from .servers.dsql import DsqlStandIn
    from .servers.mariadb import MariaDb
    from .servers.pgbouncer import PgBouncer, PoolMode
    from .servers.ports import Endpoint
    from .servers.postgres import Postgres
    from .servers.replica import Cluster

__all__ = [
    "Database",
    "Door",
    "LambdaContext",
    "MakeDoor",
    "MakeLambdaContext",
    "MakeMariaDbWire",
    "MakePgBouncer",
    "MakeRdsProxy",
    "MakeWire",
    "PutSecret",
]

_LEAKED = pytest.StashKey[bool]()

# What a developer's shell may hold and boto3 would prefer to the local endpoint and its credentials.
AWS_OVERRIDES = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")


class MakeWire(Protocol):
    """``wire(delay_s=0.0)``: an open proxy in front of ``upstream``, by default the server of ``postgres``.

    The test's end closes it.
    """

    def __call__(self, *, delay_s: float = 0.0, upstream: Endpoint | None = None) -> PostgresWire: ...


class MakeMariaDbWire(Protocol):
    """``mariadb_wire(delay_s=0.0)``: an open proxy in front of ``upstream``, by default the server of ``mariadb``.

    The test's end closes it.
    """

    def __call__(self, *, delay_s: float = 0.0, upstream: Endpoint | None = None) -> MySqlWire: ...


class MakeRdsProxy(Protocol):
    """``rds_proxy()``: a proxy in front of ``upstream`` that refuses in the words of RDS Proxy, by default the server.

    The test's end closes it.
    """

    def __call__(self, *, upstream: Endpoint | None = None) -> RdsProxyWire: ...


class MakePgBouncer(Protocol):
    """``pgbouncer(default_pool_size=20)``: a pooler in front of ``postgres``, with the arguments of ``PgBouncer``.

    The test's end stops it.
    """

    def __call__(
        self,
        *,
        upstream: Endpoint | None = None,
        pool_mode: PoolMode = "transaction",
        default_pool_size: int = 20,
        max_client_conn: int = 1000,
        settings: Mapping[str, str] | None = None,
        release: str | None = None,
    ) -> PgBouncer: ...


@dataclasses.dataclass(frozen=True)
class MakeDoor:
    """``door()``: a wire that leads to ``postgres`` by the way that it is the test's turn for.

    ``name`` says which, ``proxy`` what ``DB_PROXY`` is there. ``server`` is another one to lead to, ``upstream`` where
    that is found; ``default_pool_size`` is the poolers', ``settings`` are PgBouncer's, and elsewhere they are without
    effect. The test's end closes it.
    """

    name: Door
    _server: Postgres
    _opened: contextlib.ExitStack

    @property
    def proxy(self) -> Literal["none", "pgbouncer", "rds-proxy"]:
        """What ``DB_PROXY`` is there."""
        return self.name.proxy

    def __call__(
        self,
        *,
        server: Postgres | None = None,
        upstream: Endpoint | None = None,
        default_pool_size: int = 20,
        settings: Mapping[str, str] | None = None,
    ) -> PostgresWire:
        return self._opened.enter_context(
            self.name.on_a_wire(
                server or self._server, upstream=upstream, default_pool_size=default_pool_size, settings=settings
            )
        )


class PutSecret(Protocol):
    """``secret(name, value)``: a new current version of the secret. The test's end deletes it.

    Returns the secret's id, for ``DB_SECRET_ID``: its name. ``local_aws.put_secret`` returns the version's.
    """

    def __call__(self, name: str, value: Mapping[str, object] | str) -> str: ...


class MakeLambdaContext(Protocol):
    """``lambda_context(remaining_s=3)``: the context of an invocation that has so many seconds left."""

    def __call__(self, *, remaining_s: float = 3.0, request_id: str | None = None) -> LambdaContext: ...


# Not wrapper=True: that takes a pluggy which pytest 7.3 does not ask for.
@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Result[pytest.TestReport], None]:
    """Fail a test whose output, log or traceback shows a password that these fixtures made: in production it would be
    a real one."""
    outcome = yield
    report = outcome.get_result()
    shown = [report.longreprtext, *(text for _, text in report.sections)]
    # A later phase repeats the sections of an earlier one: said once.
    if not item.stash.get(_LEAKED, False) and any(PREFIX in text for text in shown):
        item.stash[_LEAKED] = True
        report.outcome = "failed"
        report.sections.append(("A password leaked", f"{item.nodeid} printed, logged or raised one ({call.when})"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL 18 server for the whole run. Started by the first test that asks for it."""
    from .servers.postgres import Postgres
    from .servers.postgres_settings import CHEAP_PASSWORDS

    with Postgres(settings=CHEAP_PASSWORDS) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDb]:
    """A MariaDB server for the whole run. Started by the first test that asks for it."""
    from .servers.mariadb import MariaDb

    with MariaDb() as server:
        yield server


@pytest.fixture(scope="session")
def local_aws() -> Iterator[LocalAws]:
    """Secrets Manager on localhost for the whole run. ``secret`` is the way to it within a test."""
    from .servers.aws import LocalAws

    with LocalAws() as server:
        yield server


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Database]:
    """A fresh, empty database with an owner and an app role of its own; all three are dropped after the test."""
    created = create_database(postgres)
    yield created
    drop_database(postgres, created)


@pytest.fixture
def plans(postgres: Postgres, database: Database) -> Iterator[Plans]:
    """Fails a test that sends ``database`` what is slow on large tables, or that has sent it nothing with a plan."""
    from .query_plans.plans import looking_at

    with looking_at(postgres, database.name) as watched:
        yield watched


@pytest.fixture
def mariadb_database(mariadb: MariaDb) -> Iterator[Database]:
    """A fresh, empty database of MariaDB with an owner and an app user of its own, all dropped after the test."""
    created = create_mariadb_database(mariadb)
    yield created
    drop_mariadb_database(mariadb, created)


@pytest.fixture
def mariadb_wire(mariadb: MariaDb) -> Iterator[MakeMariaDbWire]:
    """A factory of proxies in front of MariaDB: ``mariadb_database.through(mariadb_wire())``."""
    from .network.mysql_statements import MySqlWire

    with contextlib.ExitStack() as opened:

        def make(*, delay_s: float = 0.0, upstream: Endpoint | None = None) -> MySqlWire:
            server: Endpoint = upstream or mariadb
            return opened.enter_context(MySqlWire(server.host, server.port, delay_s=delay_s))

        yield make


@pytest.fixture
def wire(postgres: Postgres) -> Iterator[MakeWire]:
    """A factory of proxies in front of the server: ``database.through(wire())``."""
    from .network.statements import PostgresWire

    with contextlib.ExitStack() as opened:

        def make(*, delay_s: float = 0.0, upstream: Endpoint | None = None) -> PostgresWire:
            server: Endpoint = upstream or postgres
            return opened.enter_context(PostgresWire(server.host, server.port, delay_s=delay_s))

        yield make


@pytest.fixture
def rds_proxy(postgres: Postgres) -> Iterator[MakeRdsProxy]:
    """A factory of proxies that word refusals as AWS documents them: ``database.through(rds_proxy())``."""
    from .network.rds_proxy import RdsProxyWire

    with contextlib.ExitStack() as opened:

        def make(*, upstream: Endpoint | None = None) -> RdsProxyWire:
            server: Endpoint = upstream or postgres
            return opened.enter_context(RdsProxyWire(server.host, server.port))

        yield make


@pytest.fixture
def dsql(
    postgres: Postgres, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DsqlStandIn]:
    """A stand-in for a cluster of Aurora DSQL over ``database``: ``Settings(**dsql.settings())``.

    The keys that sign its tokens are in the environment of this process.
    """
    from .servers.dsql import DsqlStandIn

    with DsqlStandIn(postgres, database, tmp_path) as cluster:
        for name in (*AWS_OVERRIDES, "AWS_SESSION_TOKEN", "AWS_CREDENTIAL_EXPIRATION"):
            monkeypatch.delenv(name, raising=False)
        for name, value in cluster.environment().items():
            monkeypatch.setenv(name, value)
        yield cluster


@pytest.fixture
def pgbouncer(postgres: Postgres) -> Iterator[MakePgBouncer]:
    """A factory of poolers in front of the server: ``database.through(pgbouncer(default_pool_size=2))``."""
    from .servers.pgbouncer import PgBouncer

    with contextlib.ExitStack() as started:

        def make(**options: Any) -> PgBouncer:
            return started.enter_context(PgBouncer(postgres, **options))

        yield make


@pytest.fixture(params=USUAL)
def door(request: pytest.FixtureRequest, postgres: Postgres) -> Iterator[MakeDoor]:
    """The test runs once for each usual way to the server: ``database.through(door())``, with ``proxy=door.proxy``."""
    with contextlib.ExitStack() as opened:
        yield MakeDoor(request.param, postgres, opened)


@pytest.fixture
def replicated() -> Iterator[Cluster]:
    """A primary and a synchronous standby behind an endpoint each. They are the test's own, so it may break them."""
    from .servers.postgres_settings import CHEAP_PASSWORDS
    from .servers.replica import Cluster

    with Cluster(settings=CHEAP_PASSWORDS) as cluster:
        yield cluster


@pytest.fixture
def replicated_database(replicated: Cluster) -> Database:
    """An empty database of ``replicated``, reached through its endpoint: wherever the primary is."""
    return create_database(replicated.primary).through(replicated.endpoint)


@pytest.fixture
def secret(local_aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> Iterator[PutSecret]:
    """Stores secrets for the test in ``local_aws``, and points the boto3 of this process there."""
    for name, value in local_aws.environment().items():
        monkeypatch.setenv(name, value)
    for name in AWS_OVERRIDES:
        monkeypatch.delenv(name, raising=False)
    stored: set[str] = set()

    def put(name: str, value: Mapping[str, object] | str) -> str:
        stored.add(name)
        local_aws.put_secret(name, value)
        return name

    yield put
    for name in stored:
        local_aws.delete_secret(name)


@pytest.fixture
def lambda_context() -> MakeLambdaContext:
    """A factory of Lambda context objects with a deadline: ``lambda_context(remaining_s=0.5)``."""

    def make(*, remaining_s: float = 3.0, request_id: str | None = None) -> LambdaContext:
        context = LambdaContext(deadline_s=time.time() + remaining_s)
        return context if request_id is None else dataclasses.replace(context, aws_request_id=request_id)

    return make
