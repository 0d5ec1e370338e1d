"""The first flight on a kept connection is sent again when that had died: when, over what, and when not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, exc, insert, text

import db
from db.settings import Settings

from .conftest import stored
from .verbs import MARKS

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection

    from devkit.plugin import Database, MakeLambdaContext, MakeWire, PutSecret
    from devkit.servers.postgres import Postgres

    from .conftest import Use

pytestmark = pytest.mark.usefixtures("ledger")

ONE = text("SELECT 1")
INSERT = text("INSERT INTO ledger (n) VALUES (:n)")
PID = text("SELECT pg_backend_pid()")


@pytest.fixture
def keep() -> Callable[[], int]:
    """Leaves a connection in the pool; gives its backend's process id."""

    def warm() -> int:
        with db.begin() as tx:
            return int(tx.execute(PID).scalar_one())

    return warm


@pytest.fixture
def lose(keep: Callable[[], int], postgres: Postgres, database: Database) -> Callable[[], None]:
    """Leaves a connection in the pool that is dead."""

    def kill() -> None:
        keep()
        assert postgres.terminate(database.name) == 1

    return kill


def test_the_handler_does_not_notice(use: Use, lose: Callable[[], None], stock: Engine) -> None:
    """The transaction takes place on another connection."""
    use()
    lose()
    with db.begin() as tx:
        tx.execute(INSERT, {"n": 1})
    assert stored(stock) == [1]


ENDS_ITSELF = text("SELECT pg_terminate_backend(pg_backend_pid())")


def test_it_is_tried_twice(use: Use, keep: Callable[[], int], wire: MakeWire) -> None:
    """Where two new connections are lost as well, the caller hears of it: that is no accident of a connection's."""
    proxy = wire()
    use(wire=proxy)
    keep()
    before = proxy.counts()
    with pytest.raises(exc.OperationalError) as caught, db.begin() as tx:
        tx.execute(ENDS_ITSELF)
    assert caught.value.connection_invalidated
    assert (proxy.counts() - before).connections == 2


def test_autocommit_is_left_to_fail(use: Use, lose: Callable[[], None]) -> None:
    """Each statement commits there, so the lost one may have."""
    use()
    lose()
    with db.engine().connect() as conn:
        conn.execution_options(isolation_level="AUTOCOMMIT")
        with pytest.raises(exc.OperationalError) as caught:
            conn.execute(INSERT, {"n": 1})
    assert caught.value.connection_invalidated


def one(tx: Connection) -> None:
    tx.execute(INSERT, {"n": 1})


def many(tx: Connection) -> None:
    tx.execute(INSERT, [{"n": 1}, {"n": 2}])


def copied(tx: Connection) -> None:
    driver: Any = tx.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy("COPY ledger (n) FROM STDIN") as copy:
        copy.write("1\n")


def streamed(tx: Connection) -> None:
    tx.execute(text("SELECT generate_series(1, 10)"), execution_options={"yield_per": 2}).all()


def in_a_pipeline(tx: Connection) -> None:
    driver: Any = tx.connection.driver_connection
    with driver.pipeline():
        tx.execute(INSERT, {"n": 1})


def in_the_drivers_transaction(tx: Connection) -> None:
    driver: Any = tx.connection.driver_connection
    with driver.transaction():
        driver.execute("INSERT INTO ledger (n) VALUES (1)")
    tx.execute(INSERT, {"n": 2})


@pytest.mark.parametrize("first", [one, many, copied, streamed, in_a_pipeline, in_the_drivers_transaction])
def test_what_follows_the_first_flight_is_left_to_fail(
    first: Callable[[Connection], None],
    use: Use,
    keep: Callable[[], int],
    *,
    database: Database,
    postgres: Postgres,
    stock: Engine,
) -> None:
    """In whatever way the first flight left: sent again alone, the rest would commit without it."""
    use()
    keep()
    with pytest.raises(exc.OperationalError), db.engine().begin() as tx:
        first(tx)
        postgres.terminate(database.name)
        tx.execute(INSERT, {"n": 9})
    assert set(stored(stock)) <= ({1} if first is in_the_drivers_transaction else set())


@pytest.mark.parametrize("pool", ["queue", "null"])
def test_a_fresh_connection_is_replaced_as_well(
    pool: str, use: Use, database: Database, postgres: Postgres, stock: Engine
) -> None:
    """Its first flight has committed no more than that of a kept one."""
    use(pool=pool)
    with db.begin() as tx:
        assert postgres.terminate(database.name) == 1
        tx.execute(INSERT, {"n": 1})
    assert stored(stock) == [1]


def test_a_detached_connection_is_left_to_fail(use: Use, lose: Callable[[], None]) -> None:
    """It is no longer the pool's to replace."""
    use()
    lose()
    with db.engine().connect() as conn:
        conn.detach()
        with pytest.raises(exc.OperationalError):
            conn.execute(ONE)


def test_a_password_that_was_rotated_meanwhile_is_fetched(
    secret: PutSecret, database: Database, postgres: Postgres, use: Use, keep: Callable[[], int]
) -> None:
    """Session ended, password changed: one unit of work, and it succeeds."""

    def put(password: str) -> None:
        secret(
            "dialect/rotated",
            {
                "host": database.host,
                "port": database.port,
                "dbname": database.name,
                "username": database.owner,
                "password": password,
            },
        )

    put(database.owner_password)
    use()  # for its teardown
    db.configure(Settings(secret_id="dialect/rotated", pool_pre_ping=False))
    old = keep()
    postgres.execute(f"ALTER ROLE {database.owner} PASSWORD 'rotated'")
    put("rotated")
    postgres.terminate(database.name)
    assert keep() != old


def test_connect_listeners_see_the_new_connection_first(use: Use, lose: Callable[[], None]) -> None:
    """What they set up on each connection holds on this one."""
    use()

    @event.listens_for(db.engine(), "connect")
    def name_it(connection: DBAPIConnection, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("SET application_name = 'named'")
        connection.commit()

    lose()
    with db.begin() as tx:
        assert tx.execute(text("SHOW application_name")).scalar_one() == "named"


def test_the_new_transaction_is_as_the_old_one_would_have_been(
    use: Use, lose: Callable[[], None], lambda_context: MakeLambdaContext
) -> None:
    """Tenant, isolation level, access mode and time limits."""
    use()
    lose()
    shown = "current_setting('app.tenant_id'), current_setting('transaction_isolation'), "
    shown += "current_setting('transaction_read_only'), current_setting('statement_timeout')::interval < '10s'"

    @db.invocation
    def handler(_event: Any, _context: Any) -> list[Any]:
        with db.read(tenant="acme", snapshot=True) as conn:
            return list(conn.execute(text(f"SELECT {shown}")).one())

    assert handler({}, lambda_context(remaining_s=5)) == ["acme", "repeatable read", "on", True]


def test_what_was_set_for_one_transaction_does_not_stay(use: Use, lose: Callable[[], None]) -> None:
    """The replaced connection goes back to the pool like any other."""
    use()
    lose()
    with db.begin(tenant="acme", isolation="SERIALIZABLE") as tx:
        tx.execute(ONE)
    with db.begin() as tx:
        assert tx.execute(text("SHOW transaction_isolation")).scalar_one() == "read committed"
        assert not tx.execute(text("SELECT current_setting('app.tenant_id', true)")).scalar_one()


def test_a_single_read_is_sent_again_as_one(use: Use, lose: Callable[[], None], wire: MakeWire) -> None:
    """In one flight over the new connection, and read-only."""
    proxy = wire()
    use(wire=proxy)
    lose()
    before = proxy.counts()
    with db.read() as conn:
        assert conn.execute(text("SHOW transaction_read_only")).scalar_one() == "on"
    assert (proxy.counts() - before).connections == 1


def test_async_units_replay_too(use: Use, database: Database, postgres: Postgres, stock: Engine) -> None:
    """A statement, an executemany and insertmanyvalues, each first on a connection that died in the pool."""
    from db import aio

    MARKS.create(stock)
    stock.dispose()
    use()

    async def work() -> list[int]:
        for statement, parameters in (
            (INSERT, {"n": 1}),
            (INSERT, [{"n": 2}, {"n": 3}]),
            (insert(MARKS).returning(MARKS.c.n), [{"n": 4}, {"n": 5}]),
        ):
            async with aio.begin() as tx:
                await tx.execute(ONE)
            postgres.terminate(database.name)
            async with aio.begin() as tx, tx.begin_nested():
                await tx.execute(statement, parameters)
        async with aio.read() as conn:
            found = list(
                (await conn.execute(text("SELECT n FROM ledger UNION SELECT n FROM marks ORDER BY n"))).scalars()
            )
        db.dispose()
        return found

    assert asyncio.run(work()) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("limit", ["CONNECTION LIMIT 0", "NOLOGIN"])
def test_a_replay_that_finds_no_connection_raises_what_a_connect_would(
    limit: str, use: Use, lose: Callable[[], None], database: Database, postgres: Postgres
) -> None:
    """Not the error of a rollback on the dead one; and the engine works again when the server does."""
    use(connect_wait_s=0)
    lose()
    postgres.execute(f"ALTER ROLE {database.owner} {limit}")
    refused = pytest.raises((db.CapacityError, exc.OperationalError), match=r"too many conn|not permitted to log in")
    with refused, db.engine().begin() as tx:
        tx.execute(ONE)
    postgres.execute(f"ALTER ROLE {database.owner} LOGIN CONNECTION LIMIT -1")
    with db.engine().begin() as tx:
        assert tx.execute(ONE).scalar_one() == 1


def test_a_ping_does_not_take_the_place_of_a_replay(
    use: Use, keep: Callable[[], int], database: Database, postgres: Postgres
) -> None:
    """A connection that had something to say was pinged and answered, and then died."""
    use(pool_pre_ping=True)
    with db.engine().begin() as tx:
        tx.execute(text("LISTEN news"))
    postgres.execute("NOTIFY news", database=database.name)
    with db.engine().begin() as tx:
        postgres.terminate(database.name)
        assert tx.execute(ONE).scalar_one() == 1
