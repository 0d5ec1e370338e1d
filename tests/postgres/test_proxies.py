"""What stands before the server: poolers, real ones; and RDS Proxy, by the rules of what pins its sessions."""

from __future__ import annotations

import contextlib
import math
import time
from typing import TYPE_CHECKING, Any, get_args

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
    exc,
    func,
    insert,
    make_url,
    select,
    text,
)
from sqlalchemy.orm import Session

import db
from db import aio
from db.environment import event_loop
from db.migrations.operations import create_constraints_function, create_prologue_function
from db.pool.switchover import serves_until
from db.settings import Settings
from devkit.network.faults import Lost
from devkit.network.pinning import no_pinning
from devkit.network.strict_pooler import StrictPooler
from devkit.servers.odyssey import Odyssey
from devkit.servers.pgbouncer import NEWEST, PgBouncer
from tests.dialect.test_cuts import KEPT, by_run, cut_each_flight

from .conftest import Use
from .test_batch import message
from .warm_units import ONE, read, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
    from sqlalchemy import Connection, Engine

    from devkit.network.statements import PostgresWire
    from devkit.plugin import Database, MakePgBouncer, MakeWire
    from devkit.servers.ports import Endpoint
    from devkit.servers.postgres import Postgres

TENANT = text("SELECT current_setting('app.tenant_id')")
LEDGER = Table("ledger", MetaData(), Column("n", Integer, primary_key=True), Column("tenant", Text))


def reads() -> None:
    db.fetch(ONE, ONE, tenant="acme")


def known_up_front() -> None:
    db.write(ONE, ONE, tenant="acme")


def savepoints() -> None:
    with db.begin(tenant="acme") as tx:
        for _ in range(3):
            with tx.begin_nested():
                tx.execute(ONE)


def bit_by_bit() -> None:
    with db.read(tenant="acme") as conn:
        rows = conn.execute(text("SELECT generate_series(1, 4)"), execution_options={"yield_per": 2})
        assert rows.scalars().all() == [1, 2, 3, 4]


WORK = [(write, 2), (read, 1), (reads, 1), (known_up_front, 1), (savepoints, 4)]


def through(database: Database, wire: PostgresWire | PgBouncer, **settings: Any) -> None:
    db.configure(Settings(url=make_url(database.through(wire).url()), sslmode="disable", **settings))


@pytest.fixture(params=["PgBouncer", "the newest PgBouncer", "Odyssey", "the strict pooler"])
def pooler(
    request: pytest.FixtureRequest, database: Database, postgres: Postgres, pgbouncer: MakePgBouncer
) -> Iterator[Endpoint]:
    """One of transactions, with one connection to the server for all clients that log in alike."""
    match request.param:
        case "the strict pooler":
            with StrictPooler(postgres.host, postgres.port, backends=1) as strict:
                yield strict
        case "Odyssey":
            with Odyssey(database, pool_size=1) as odyssey:
                yield odyssey
        case name:
            yield pgbouncer(default_pool_size=1, release=None if name == "PgBouncer" else NEWEST)


@pytest.fixture
def pooled(ledger: None, database: Database, pooler: Endpoint, wire: MakeWire) -> PostgresWire:
    """The layer behind a pooler."""
    counted = wire(upstream=pooler)
    through(database, counted, proxy="pgbouncer")
    return counted


@pytest.mark.slow
@pytest.mark.parametrize(("work", "trips"), [*WORK, (bit_by_bit, 3)])
def test_through_a_pooler_it_costs_the_same(work: Callable[[], None], trips: int, pooled: PostgresWire) -> None:
    """The pooler passes a flight on as it comes."""
    work()
    before = pooled.counts()
    work()
    assert (pooled.counts() - before).trips == trips


def test_through_a_pooler_nothing_carries_over(pooled: PostgresWire, database: Database) -> None:
    """The next client has the same server connection, and neither tenant nor limits nor a transaction of the last."""
    seen = select(
        func.coalesce(func.current_setting("app.tenant_id", True), ""),
        func.current_setting("statement_timeout"),
        func.current_setting("transaction_read_only"),
    )
    for work in (write, read, savepoints):
        work()
        with db.engine().connect() as conn:
            assert tuple(conn.execute(seen).one()) == ("", "0", "off")


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_through_a_pooler_it_works_on_a_loop(driver: str, pooled: PostgresWire, database: Database) -> None:
    """By either driver."""
    through(database, pooled, proxy="pgbouncer", async_driver=driver)

    async def tenants() -> list[str]:
        async with aio.begin(tenant="acme") as tx:
            seen = [await tx.scalar(TENANT)]
        async with aio.read(tenant="globex") as conn:
            seen += [await conn.scalar(TENANT)]
        return seen

    assert [event_loop.run(tenants()) for _ in range(2)] == [["acme", "globex"]] * 2
    db.dispose()
    event_loop.close()


@pytest.mark.slow
@pytest.mark.parametrize("lost", get_args(Lost))
@pytest.mark.parametrize("pooler", ["Odyssey"], indirect=True)
def test_a_cut_at_any_flight_before_odyssey(
    lost: Lost, pooler: Endpoint, wire: MakeWire, database: Database, postgres: Postgres
) -> None:
    """As before PgBouncer."""
    url = make_url(database.through(counted := wire(upstream=pooler)).url("owner"))
    db.configure(Settings(url=url, sslmode="disable", proxy="pgbouncer", pool_pre_ping=False))
    cut_each_flight(counted, by_run, KEPT, lost=lost, database=database, postgres=postgres)
    db.dispose()


def test_through_a_pooler_the_schema_is_said_by_each_transaction(pooled: PostgresWire, database: Database) -> None:
    """It takes no startup options."""
    through(database, pooled, proxy="pgbouncer", schema="pg_catalog")
    with db.read() as conn:
        assert conn.execute(text("SHOW search_path")).scalar_one() == "pg_catalog"


def test_pgbouncer_says_what_a_server_has_said_once(
    database: Database, postgres: Postgres, pgbouncer: MakePgBouncer, use: Use
) -> None:
    """So a writer that was read-only then is not left, again and again, for what has changed since."""
    pooler = pgbouncer(default_pool_size=1)
    change = f"ALTER ROLE {database.app} {{}} default_transaction_read_only"
    postgres.execute(change.format("SET") + " = on")
    use(url=make_url(database.through(pooler).url()), proxy="pgbouncer")
    write()
    db.dispose()
    postgres.execute(change.format("RESET"))
    postgres.terminate(database.name, database.app)
    with db.engine().connect() as conn:
        said = conn.connection.driver_connection.info.parameter_status("default_transaction_read_only")  # type: ignore[union-attr]
        assert (said, conn.execute(text("SHOW default_transaction_read_only")).scalar_one()) == ("on", "off")
        assert serves_until(conn.connection.driver_connection) == math.inf


@pytest.fixture
def unpinned(ledger: None, database: Database, wire: MakeWire, use: Use) -> PostgresWire:
    """The layer as it speaks to RDS Proxy, over a wire that can be read."""
    use(role="owner")
    with db.begin() as tx:
        create_prologue_function(Operations(MigrationContext.configure(tx)), used_by=[database.app])
    tapped = wire()
    through(database, tapped, proxy="rds-proxy", schema="public")
    return tapped


@pytest.mark.parametrize(("work", "trips"), WORK)
def test_no_unit_of_work_pins_a_session_of_rds_proxy(
    work: Callable[[], None], trips: int, unpinned: PostgresWire
) -> None:
    """From the connect on, at the same price."""
    with no_pinning(unpinned):
        work()
        before = unpinned.counts()
        work()
    assert (unpinned.counts() - before).trips == trips


@pytest.fixture
def shop(use: Use, database: Database) -> None:
    """A schema of that name, in which a migration with DB_SCHEMA=shop has made the function."""
    use(role="owner")
    with db.begin() as tx:
        tx.exec_driver_sql("CREATE SCHEMA shop")
        tx.exec_driver_sql(f"GRANT USAGE ON SCHEMA shop TO {database.app}")
    use(role="owner", schema="shop")
    with db.begin() as tx:
        create_prologue_function(Operations(MigrationContext.configure(tx)), used_by=[database.app])


def search_path(conn: Connection) -> str:
    return str(conn.execute(text("SHOW search_path")).scalar_one())


@pytest.mark.parametrize("schema", ["shop", "Shop, public", '"$user", "shop"'])
def test_the_function_is_called_where_a_migration_puts_it(schema: str, shop: None, use: Use) -> None:
    """It is what sets the search path, so that there is none yet to find it by."""
    use(proxy="rds-proxy", schema=schema)
    with db.begin(tenant="acme") as tx:
        assert search_path(tx) == schema
    with db.read(tenant="acme") as conn:
        assert search_path(conn) == schema

    def tenant(tx: Connection, _record: SQSRecord) -> None:
        seen.append((search_path(tx), tx.execute(select(func.current_setting("app.tenant_id"))).scalar_one()))

    seen: list[tuple[str, str]] = []
    records = {"Records": [message(name, {}) for name in ("a", "b")]}
    assert db.batch(records, tenant, tenant=lambda record: record.message_id) == {"batchItemFailures": []}
    assert seen == [(schema, "a"), (schema, "b")]


@pytest.mark.parametrize("work", [write, read, reads])
@pytest.mark.parametrize(
    "undo",
    ["DROP FUNCTION shop.db_begin_unit", "REVOKE ALL ON SCHEMA shop FROM {app}", "ALTER SCHEMA shop RENAME TO store"],
)
def test_a_function_that_is_out_of_reach_names_its_helper(
    undo: str, work: Callable[[], None], shop: None, use: Use, database: Database
) -> None:
    """Whether it is missing, or the schema is, or the way in."""
    use(role="owner")
    with db.begin() as tx:
        tx.exec_driver_sql(undo.format(app=database.app))
    use(proxy="rds-proxy", schema="shop")
    with pytest.raises(
        db.ConfigurationError, match=r'"shop"\.db_begin_unit.* by create_prologue_function\(op, used_by='
    ):
        work()


JOBS = text("INSERT INTO jobs VALUES (:n)")


def through_core(engine: Engine) -> None:
    with engine.begin() as conn:
        conn.execute(JOBS, {"n": 1})
        conn.execute(JOBS, [{"n": 2}, {"n": 3}])


def through_a_session(engine: Engine) -> None:
    with Session(engine) as session:
        session.execute(text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))
        session.execute(JOBS, {"n": 1})
        session.execute(text("COMMIT AND CHAIN"))
        session.execute(JOBS, {"n": 2})
        session.commit()
        session.execute(JOBS, {"n": 3})
        session.commit()


def through_the_driver(engine: Engine) -> None:
    raw: Any = engine.raw_connection()
    with raw.cursor() as cursor, cursor.copy("COPY jobs FROM STDIN") as copy:
        copy.write_row((1,))
    raw.commit()
    with raw.driver_connection.transaction(), raw.cursor() as cursor:
        cursor.executemany("INSERT INTO jobs VALUES (%s)", [(2,)])
    with raw.driver_connection.pipeline(), raw.cursor() as cursor:
        cursor.execute("INSERT INTO jobs VALUES (3)")
        raw.driver_connection.commit()
    raw.close()


@pytest.fixture
def jobs(shop: None, use: Use, database: Database) -> None:
    """A table in the schema shop, and another of the same name in public."""
    use(role="owner")
    with db.begin() as tx:
        tx.exec_driver_sql("CREATE TABLE shop.jobs (n int); CREATE TABLE public.jobs (n int)")
        tx.exec_driver_sql(f"GRANT ALL ON shop.jobs, public.jobs TO {database.app}")


@pytest.fixture
def found(jobs: None, postgres: Postgres, database: Database) -> Callable[[], list[int]]:
    """Gives what is in shop.jobs, where public.jobs is empty."""

    def read() -> list[int]:
        rows = "SELECT n, 'shop' FROM shop.jobs UNION ALL SELECT n, 'public' FROM public.jobs ORDER BY n"
        numbers = postgres.execute(rows, database=database.name)
        assert {schema for _, schema in numbers} <= {"shop"}
        return [n for n, _ in numbers]

    return read


@pytest.mark.parametrize("proxy", ["pgbouncer", "rds-proxy"])
@pytest.mark.parametrize("work", [through_core, through_a_session, through_the_driver])
def test_the_plain_engine_is_in_the_schema_too(
    work: Callable[[Engine], None],
    proxy: str,
    pgbouncer: MakePgBouncer,
    database: Database,
    found: Callable[[], list[int]],
) -> None:
    """As it is without a proxy: rows in another schema's table of the same name would be lost in silence."""
    # The one that was used last is the next client's. Were it the only one, the stranger would wait in vain once in a
    # hundred times: PgBouncer 1.18 may keep it for good behind a COMMIT in a pipeline of the driver's, psycopg's too.
    through(database, pgbouncer(default_pool_size=2), proxy=proxy, schema="shop")
    work(db.engine())
    assert found() == [1, 2, 3]
    stranger = create_engine(db.engine().url.set(drivername="postgresql+psycopg"))
    with stranger.connect() as conn:
        assert search_path(conn) == '"$user", public'
    stranger.dispose()


def test_the_plain_engine_pays_no_trip_for_it_and_pins_nothing(jobs: None, database: Database, wire: MakeWire) -> None:
    """It goes with BEGIN and the first statement; and the limits that the session has stay what they are."""
    tapped = wire()
    through(database, tapped, proxy="rds-proxy", schema="shop")
    with no_pinning(tapped):
        for _ in range(2):
            before = tapped.counts()
            with db.engine().begin() as conn:
                conn.execute(JOBS, {"n": 1})
    assert (tapped.counts() - before).trips == 2

    @event.listens_for(db.engine(), "connect")  # what it says stays
    def limit(connection: Any, _: object) -> None:
        connection.execute("SET lock_timeout = '7s'")
        connection.commit()

    db.engine().dispose()
    with db.engine().begin() as conn:
        assert conn.exec_driver_sql("SHOW lock_timeout").scalar_one() == "7s"


def test_in_autocommit_the_schema_cannot_be_said(jobs: None, use: Use) -> None:
    """By whichever door it is asked for: there is no transaction that could hold it."""
    use(proxy="pgbouncer", schema="shop")
    refused = pytest.raises(db.ConfigurationError, match=r"search path of DB_SCHEMA.*DB_PROXY=none")
    with refused, db.engine().connect() as conn:
        conn.execution_options(isolation_level="AUTOCOMMIT")
    with refused, db.engine().execution_options(isolation_level="AUTOCOMMIT").connect() as conn:
        conn.execute(JOBS, {"n": 1})
    with refused, db.engine().connect() as conn:
        raw: Any = conn.connection.driver_connection
        raw.set_autocommit(True)
        conn.execute(JOBS, {"n": 1})
    use(proxy="pgbouncer")
    with db.engine().connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        assert search_path(conn) == '"$user", public'


def test_a_connection_that_is_asked_whether_it_lives_needs_no_schema(
    jobs: None, use: Use, postgres: Postgres, database: Database
) -> None:
    """Something came from the server while a pool kept it: it is asked in autocommit, and used again."""
    use(proxy="pgbouncer", schema="shop")

    @event.listens_for(db.engine(), "connect")  # what it says stays
    def listen(connection: Any, _: object) -> None:
        connection.execute("LISTEN news")
        connection.commit()

    with db.engine().connect() as conn:
        pid = conn.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        conn.commit()  # within a transaction the server keeps it back
        postgres.execute("NOTIFY news", database=database.name)
        driver: Any = conn.connection.dbapi_connection
        while driver.is_quiet():
            time.sleep(0.01)
        assert db.engine().dialect.do_ping(driver)
        assert (conn.exec_driver_sql("SELECT pg_backend_pid()").scalar_one(), search_path(conn)) == (pid, "shop")


def test_the_plain_engine_names_what_makes_the_function(shop: None, use: Use) -> None:
    """Without it there is no search path."""
    use(proxy="rds-proxy", schema="public")
    for statement in ("SELECT 1", "COPY (SELECT 1) TO STDOUT"):
        with pytest.raises(db.ConfigurationError, match="create_prologue_function"), db.engine().connect() as conn:
            conn.exec_driver_sql(statement)


@pytest.mark.parametrize("proxy", ["none", "pgbouncer", "rds-proxy"])
def test_what_is_reflected_is_in_the_schema(proxy: str, jobs: None, use: Use) -> None:
    """The server shows what its search path finds."""
    use(role="owner")
    with db.begin() as tx:
        tx.exec_driver_sql("ALTER TABLE shop.jobs ADD COLUMN shops text")
    use(proxy=proxy, schema="shop")
    assert set(db.reflect().tables["jobs"].c.keys()) == {"n", "shops"}


def test_a_right_that_the_statement_lacks_is_its_own_error(shop: None, use: Use) -> None:
    """Though it has the same SQLSTATE."""
    use(proxy="rds-proxy", schema="shop")
    for unit in (db.begin, db.read):
        with pytest.raises(exc.ProgrammingError, match="pg_authid"), unit() as conn:
            conn.execute(text("SELECT * FROM pg_authid"))


@pytest.fixture
def deferred(ledger: None, use: Use) -> Callable[[Connection, SQSRecord], object]:
    """A handler whose record ``0`` breaks a rule that is checked at COMMIT, and first breaks it for all."""
    use(role="owner")
    with db.begin() as tx:
        tx.exec_driver_sql("ALTER TABLE ledger ADD UNIQUE (tenant) DEFERRABLE INITIALLY DEFERRED")
        tx.execute(insert(LEDGER).values(n=-1, tenant="0"))
    return lambda tx, record: tx.execute(insert(LEDGER).values(n=int(record.body), tenant=record.body))


BATCH = {"Records": [message(str(n), n) for n in range(3)]}


def test_a_batch_checks_deferred_constraints_without_pinning(
    deferred: Callable[[Connection, SQSRecord], object], unpinned: PostgresWire, database: Database
) -> None:
    """By a function that a migration has made; the answer is that of SET CONSTRAINTS, and so are the trips."""
    trips = []
    for proxy in ("pgbouncer", "rds-proxy"):
        through(database, unpinned, proxy=proxy, schema="public")
        write()
        before = unpinned.counts()
        with no_pinning(unpinned) if proxy == "rds-proxy" else contextlib.nullcontext():
            assert db.batch(BATCH, deferred) == {"batchItemFailures": [{"itemIdentifier": "0"}]}
        trips.append((unpinned.counts() - before).trips)
        with db.begin() as tx:
            assert tx.execute(text("DELETE FROM ledger WHERE n > 0")).rowcount == 2
    assert trips[0] == trips[1]


@pytest.mark.parametrize("schema", [None, "public"])
def test_without_that_function_the_batch_names_what_makes_it(
    schema: str | None,
    deferred: Callable[[Connection, SQSRecord], object],
    unpinned: None,
    database: Database,
    use: Use,
) -> None:
    """Older migrations have not made it. No record is taken for done, and none for another's mistake."""
    use(role="owner")
    with db.begin() as tx:
        tx.exec_driver_sql("DROP FUNCTION db_check_constraints")
    use(proxy="rds-proxy", schema=schema)
    with pytest.raises(ExceptionGroup) as caught:
        db.batch(BATCH, deferred, raise_on_entire_batch_failure=True)
    said = [str(error) for error in caught.value.exceptions if isinstance(error, db.ConfigurationError)]
    assert len(said) == 3
    assert "create_constraints_function(op, used_by=[role])" in said[0]
    use(role="owner")
    with db.begin() as tx:
        create_constraints_function(Operations(MigrationContext.configure(tx)), used_by=[database.app])
    use(proxy="rds-proxy", schema=schema)
    assert db.batch(BATCH, deferred) == {"batchItemFailures": [{"itemIdentifier": "0"}]}


def test_many_rows_do_not_pin(unpinned: PostgresWire) -> None:
    """SQLAlchemy's INSERT of a thousand rows at a time would be a text of more than 16 KB."""
    rows = [{"n": n, "tenant": "acme"} for n in range(500)]
    with no_pinning(unpinned), db.begin() as tx:
        assert len(tx.execute(insert(LEDGER).returning(LEDGER.c.n), rows).all()) == 500


def test_the_function_sets_what_the_statement_would(unpinned: PostgresWire, database: Database) -> None:
    """Tenant, limits, schema and read-only, for the transaction and no longer."""
    names = (
        "app.tenant_id", "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout",
        "transaction_timeout", "search_path", "transaction_read_only",
    )  # fmt: skip
    seen = select(*[func.coalesce(func.current_setting(name, True), "") for name in names])

    def states() -> list[tuple[str, ...]]:
        with db.begin(tenant="acme") as tx, db.engine("reader").connect() as plain:
            inside, outside = tuple(tx.execute(seen).one()), tuple(plain.execute(seen).one())
        with db.read(tenant="acme") as conn:
            return [inside, tuple(conn.execute(seen).one()), outside]

    found = []
    for proxy in ("rds-proxy", "pgbouncer"):
        through(database, unpinned, proxy=proxy, schema="public", pool_size=2, statement_timeout_s=7)
        found.append(states())
    assert found[0] == found[1]
    assert found[0][0][:3] == ("acme", "7s", "6300ms")
