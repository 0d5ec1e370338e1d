"""``DB_ASYNC_DRIVER=asyncpg``: how libpq's words become its own, what a proxy allows, and what its errors ask for."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import exc, make_url, text

import db
from db import aio
from db.environment import event_loop
from db.migrations.operations import create_prologue_function
from db.settings import Settings
from db.wire.asyncpg_dialect import asyncpg_arguments

if TYPE_CHECKING:
    from devkit.network.wire import Wire
    from devkit.plugin import Database, MakePgBouncer, MakeWire
    from devkit.servers.postgres import Postgres
    from tests.aio.conftest import Lines, Use

PARAMS = {"host": "db.example", "port": 5432, "user": "app", "dbname": "orders", "connect_timeout": 5}


async def one() -> None:
    async with aio.begin(tenant="acme") as tx:
        await tx.execute(text("SELECT 1"))


def test_libpqs_words_are_translated() -> None:
    """The certificate to verify travels in a DSN, as asyncpg reads it nowhere else as libpq does."""
    found = asyncpg_arguments(
        {**PARAMS, "sslmode": "verify-full", "sslrootcert": "/opt/a b.pem", "options": "-c a=1", "keepalives": 1}
    )
    assert found == {
        "dsn": "postgresql://?sslmode=verify-full&sslrootcert=%2Fopt%2Fa+b.pem",
        "host": "db.example",
        "port": 5432,
        "user": "app",
        "database": "orders",
        "timeout": 5,
        "server_settings": {"options": "-c a=1"},
    }


def test_several_hosts_stay_several() -> None:
    """Each with its port."""
    found = asyncpg_arguments({**PARAMS, "host": "a,b", "port": "5433,5434"})
    assert (found["host"], found["port"]) == (["a", "b"], [5433, 5434])


def test_an_argument_that_it_does_not_have_is_refused() -> None:
    """Rather than left out in silence."""
    with pytest.raises(db.ConfigurationError, match="gssencmode"):
        asyncpg_arguments({**PARAMS, "gssencmode": "disable"})


def test_another_encoding_is_refused() -> None:
    """It has none but UTF-8."""
    assert asyncpg_arguments({**PARAMS, "client_encoding": "utf8"}) == asyncpg_arguments(PARAMS)
    with pytest.raises(db.ConfigurationError, match="client_encoding=latin1"):
        asyncpg_arguments({**PARAMS, "client_encoding": "latin1"})


@pytest.mark.parametrize(("proxy", "named"), [("none", True), ("pgbouncer", False)])
def test_behind_a_proxy_no_statement_has_a_name(proxy: str, named: bool, use: Use) -> None:
    """The server's connection is another for each transaction, and does not know it."""
    use(async_driver="asyncpg", proxy=proxy)

    async def prepared() -> int:
        await one()
        async with aio.read() as conn:
            return int(await conn.scalar(text("SELECT count(*) FROM pg_prepared_statements")) or 0)

    assert bool(event_loop.run(prepared())) is named


def test_a_poolers_session_is_cleaned_where_commit_is_refused(
    database: Database, postgres: Postgres, pgbouncer: MakePgBouncer
) -> None:
    """What a constraint defers fails ahead of COMMIT, and the ROLLBACK cleans."""
    table = "CREATE TABLE numbers (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)"
    postgres.execute(f"{table}; GRANT INSERT ON numbers TO {database.app}", database=database.name)
    url = make_url(database.through(pgbouncer(default_pool_size=1)).url())
    db.configure(Settings(url=url, sslmode="disable", proxy="pgbouncer", async_driver="asyncpg"))

    async def locks() -> int:
        with pytest.raises(exc.IntegrityError):
            async with aio.begin() as tx:
                await tx.execute(text("SELECT pg_advisory_lock(7)"))
                await tx.execute(text("INSERT INTO numbers VALUES (1), (1)"))
        async with aio.read() as conn:  # on the same session, the only one
            return int(await conn.scalar(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")) or 0)

    assert event_loop.run(locks()) == 0


def test_a_proxied_connection_carries_no_tenant(use: Use) -> None:
    """The prologue is said in each transaction, as with psycopg."""
    use(async_driver="asyncpg", proxy="pgbouncer")

    async def tenant_after_another() -> str | None:
        await one()
        async with aio.begin() as tx:
            found: str | None = await tx.scalar(text("SELECT current_setting('app.tenant_id', true)"))
            return found

    assert not event_loop.run(tenant_after_another())


def test_a_refused_password_asks_for_new_credentials(database: Database) -> None:
    """By SQLSTATE, which asyncpg has at connect and libpq has not."""
    url = make_url(database.url()).set(password="wrong")
    db.configure(Settings(url=url, async_driver="asyncpg", connect_wait_s=0))
    with pytest.raises(Exception, match="password authentication failed") as caught:
        event_loop.run(one())
    assert db.verdict(caught.value) is db.Verdict.REFETCH_CREDENTIALS


def test_a_full_server_is_waited_for_and_then_said(
    database: Database, postgres: Postgres, use: Use, lines: Lines
) -> None:
    """CapacityError, as with psycopg."""
    postgres.execute(f"ALTER ROLE {database.app} CONNECTION LIMIT 0")
    use(async_driver="asyncpg", connect_wait_s=0.3)
    with pytest.raises(db.CapacityError):
        event_loop.run(one())
    assert lines.of("connect waits")


def test_a_server_out_of_reach_is_tried_again(database: Database) -> None:
    """Nobody listens there."""
    url = make_url(database.url()).set(port=1)
    db.configure(Settings(url=url, async_driver="asyncpg", connect_wait_s=0.2))
    with pytest.raises(Exception, match="1") as caught:
        event_loop.run(one())
    assert db.verdict(caught.value) is db.Verdict.RECONNECT


def test_what_a_unit_of_work_costs(database: Database, wire: MakeWire, use: Use) -> None:
    """Warm, BEGIN with the prologue, statement, COMMIT; one more for each statement that is new to the connection."""
    proxy = wire()
    url = make_url(database.through(proxy).url())
    db.configure(Settings(url=url, sslmode="disable", async_driver="asyncpg"))

    def cost() -> int:
        before = proxy.counts()
        event_loop.run(one())
        return (proxy.counts() - before).trips

    assert [cost(), cost(), cost()] == [7, 3, 3]


@pytest.fixture
def through_wire(database: Database, wire: MakeWire, use: Use) -> tuple[Wire, Use]:
    """A wire before the server, and what configures the layer to go over it."""
    counted = wire()
    url = make_url(database.through(counted).url())
    return counted, functools.partial(use, url=url, sslmode="disable")


@pytest.fixture
def shop(use: Use, database: Database) -> None:
    """A schema of that name, and in it and in public the function for DB_PROXY=rds-proxy."""
    use(role="owner")
    with db.begin() as tx:
        tx.execute(text(f"CREATE SCHEMA shop; GRANT USAGE ON SCHEMA shop TO {database.app}"))
        for schema in ("shop", "public"):
            tx.execute(text(f"SET LOCAL search_path = {schema}"))
            create_prologue_function(Operations(MigrationContext.configure(tx)), used_by=[database.app])


async def plain() -> str:
    async with aio.engine().begin() as conn:
        return str(await conn.scalar(text("SHOW search_path")))


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
@pytest.mark.parametrize("proxy", ["pgbouncer", "rds-proxy"])
def test_the_plain_engine_is_in_the_schema_behind_a_proxy(
    driver: str, proxy: str, shop: None, through_wire: tuple[Wire, Use]
) -> None:
    """At no trip. A unit of work costs what it did."""
    wire, use = through_wire

    async def counted() -> tuple[str, int, int]:
        await plain()
        before = wire.counts()
        path = await plain()
        of_plain = (wire.counts() - before).trips
        await one()
        before = wire.counts()
        await one()
        return path, of_plain, (wire.counts() - before).trips

    use(async_driver=driver, proxy=proxy)
    _, of_plain, of_unit = event_loop.run(counted())
    use(async_driver=driver, proxy=proxy, schema="shop")
    assert event_loop.run(counted()) == ("shop", of_plain, of_unit)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_what_cannot_be_in_the_schema_is_refused(driver: str, use: Use) -> None:
    """AUTOCOMMIT has no transaction that could hold it; and nothing says it where the function is missing."""

    async def refusals() -> list[str]:
        said = []
        for level in ("AUTOCOMMIT", "SERIALIZABLE", "READ COMMITTED"):
            with pytest.raises(db.ConfigurationError) as refused:
                async with aio.engine().connect() as conn:
                    await conn.execution_options(isolation_level=level)
                    await conn.execute(text("SELECT 1"))
            said.append(str(refused.value))
        return said

    use(async_driver=driver, proxy="rds-proxy", schema="public")
    autocommit, *no_function = event_loop.run(refusals())
    assert "AUTOCOMMIT" in autocommit
    assert ["create_prologue_function" in said for said in no_function] == [True, True]
