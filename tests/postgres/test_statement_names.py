"""DB_PREPARE: what comes often goes by a name that the server has parsed, at no trip, and no name outlives its use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import exc, make_url, text

import db
from db import aio
from db.environment import event_loop
from db.settings import Settings
from devkit.network.statements import Statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devkit.network.statements import PostgresWire
    from devkit.plugin import Database, MakeWire

COUNT = text("SELECT count(*) FROM ledger WHERE n > :n")
ALL = text("SELECT * FROM ledger")
ONE = text("SELECT 1")
ADDED = "ALTER TABLE ledger ADD COLUMN colour text DEFAULT 'red'"
NAMED = text("SELECT count(*) FROM pg_prepared_statements")


@pytest.fixture
def wired(ledger: None, wire: MakeWire, database: Database) -> Iterator[Callable[..., PostgresWire]]:
    """Configures the layer with DB_PREPARE=1, so that what comes again has a name, over a wire that reads."""

    def configure(**settings: Any) -> PostgresWire:
        tapped = wire()
        url = make_url(database.through(tapped).url("owner"))
        given: dict[str, Any] = {"url": url, "sslmode": "disable", "prepare": 1}
        db.configure(Settings(**given | settings))
        return tapped

    yield configure
    db.dispose()
    event_loop.close()


def names(wire: PostgresWire) -> list[str]:
    """The texts that were parsed under a name, in order."""
    return [m.text for m in wire.messages() if isinstance(m, Statement) and m.name]


def write() -> None:
    with db.begin(tenant="acme") as tx:
        for _ in range(3):
            tx.execute(COUNT, {"n": 1})


def read() -> None:
    with db.read(tenant="acme") as conn:
        conn.execute(COUNT, {"n": 1})


def fetch() -> None:
    db.fetch(COUNT.bindparams(n=1), COUNT.bindparams(n=2), tenant="acme")


def known() -> None:
    db.write(COUNT.bindparams(n=1), COUNT.bindparams(n=2), tenant="acme")


def savepoint() -> None:
    with db.begin(tenant="acme") as tx, tx.begin_nested():
        tx.execute(COUNT, {"n": 1})


def awrite() -> None:
    async def unit() -> None:
        async with aio.begin(tenant="acme") as tx:
            for _ in range(3):
                await tx.execute(COUNT, {"n": 1})

    event_loop.run(unit())


def migrate(database: Database, statement: str) -> None:
    """From elsewhere, as a deploy does."""
    url = make_url(database.url("owner")).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as other:
        other.execute(statement.encode())


@pytest.mark.parametrize(
    ("work", "trips"),
    [(write, 4), (read, 1), (fetch, 1), (known, 1), (savepoint, 2), (awrite, 4)],
    ids=lambda v: getattr(v, "__name__", v),
)
def test_no_name_costs_a_trip(work: Callable[[], None], trips: int, wired: Callable[..., PostgresWire]) -> None:
    """Neither where it is given nor later; prologue and statement are parsed by name once."""
    wire = wired()
    work()  # connects
    for _ in range(3):
        before = wire.counts()
        work()
        assert (wire.counts() - before).trips == trips
    assert [sum("set_config" in t for t in names(wire)), sum("ledger" in t for t in names(wire))] == [1, 1]


def test_without_the_setting_there_are_none(wired: Callable[..., PostgresWire]) -> None:
    """However often a statement comes."""
    wire = wired(prepare=0)
    for _ in range(7):
        write()
    assert names(wire) == []


def test_they_are_no_more_than_so_many(wired: Callable[..., PostgresWire]) -> None:
    """The one that was used longest ago is closed in a flight that leaves anyway."""
    wire = wired()
    with db.begin() as tx:
        driver: Any = tx.connection.driver_connection
        driver.prepared_max = 3
    texts = [text(f"SELECT {n} FROM ledger") for n in range(8)]
    for _ in range(2):
        for statement in texts:
            before = wire.counts()
            for _ in range(2):
                with db.begin() as tx:
                    tx.execute(statement)
            assert (wire.counts() - before).trips == 4
    with db.begin() as tx:
        tx.execute(ONE)
        assert tx.execute(NAMED).scalar_one() == 3


def test_a_rollback_keeps_them(wired: Callable[..., PostgresWire]) -> None:
    """And an error of the statement itself does: the server has parsed it all the same."""
    wire = wired()
    add = text("INSERT INTO ledger (n) VALUES (:n)")

    def twice() -> None:
        with db.begin() as tx:
            tx.execute(add, {"n": 1})
            tx.execute(add, {"n": 1})

    for _ in range(2):
        write()
    for _ in range(3):
        with pytest.raises(exc.IntegrityError):
            twice()
    named = names(wire)
    write()
    assert names(wire) == named
    assert 1 <= sum("INSERT" in t for t in named) <= 3


@pytest.mark.parametrize("work", ["write", "read"])
def test_a_first_statement_that_a_migration_overtook_is_parsed_anew(
    work: str, database: Database, wired: Callable[..., PostgresWire]
) -> None:
    """In the same unit, at one more trip: the server refused before it had done anything."""
    wire = wired()
    units: list[list[Any]] = []

    def unit() -> None:
        with db.begin() if work == "write" else db.read() as conn:
            units.append(list(conn.execute(ALL).keys()))

    for _ in range(3):
        unit()
    migrate(database, ADDED)
    before = wire.counts()
    unit()
    assert (wire.counts() - before).trips == {"write": 3, "read": 2}[work]
    unit()
    assert units == [["n", "tenant"]] * 3 + [["n", "tenant", "colour"]] * 2


def test_what_rode_with_it_rides_again(database: Database, wired: Callable[..., PostgresWire]) -> None:
    """A savepoint ahead of it, which the failed flight has taken along."""
    wired()

    def unit() -> list[str]:
        with db.begin() as tx:
            with tx.begin_nested():
                columns = list(tx.execute(ALL).keys())
            tx.execute(text("INSERT INTO ledger (n) SELECT count(*) FROM ledger"))
            return columns

    for _ in range(3):
        unit()
    migrate(database, ADDED)
    assert unit() == ["n", "tenant", "colour"]
    with db.read() as conn:
        assert conn.execute(text("SELECT n FROM ledger ORDER BY n")).scalars().all() == [0, 1, 2, 3]


def test_what_left_with_its_commit_is_sent_once_more_as_a_whole(
    database: Database, wired: Callable[..., PostgresWire]
) -> None:
    """Behind the refusal the server has passed over the COMMIT, so nothing of it took place; now all does, once."""
    wire = wired()
    insert = text("INSERT INTO ledger (n) SELECT count(*) FROM ledger")

    def unit() -> list[str]:
        return list(db.write(insert, ALL)[1].keys())

    for _ in range(3):
        unit()
    migrate(database, ADDED)
    before = wire.counts()
    assert unit() == ["n", "tenant", "colour"]
    assert (wire.counts() - before).trips == 2
    with db.read() as conn:
        assert conn.execute(text("SELECT n FROM ledger ORDER BY n")).scalars().all() == [0, 1, 2, 3]


def test_a_later_statement_says_so_and_the_next_try_has_forgotten(
    database: Database, wired: Callable[..., PostgresWire]
) -> None:
    """What the transaction did before would be lost, so it is for whoever can run all of it again: ``db.run``."""
    wired()
    attempts: list[int] = []

    def work(tx: Any) -> int:
        attempts.append(1)
        tx.execute(ONE)
        return len(tx.execute(ALL).keys())

    for _ in range(3):
        db.run(work)
    migrate(database, ADDED)
    assert db.run(work) == 3
    assert len(attempts) == 5


@pytest.mark.parametrize("nested", [False, True], ids=["rolled back", "rolled back to a savepoint"])
def test_what_was_named_in_what_is_undone_is_named_anew(nested: bool, wired: Callable[..., PostgresWire]) -> None:
    """The server parsed it by columns that are none any more; no later statement stumbles over that."""
    wired()

    def undone(tx: Any) -> None:
        tx.execute(text(ADDED))
        for _ in range(3):
            assert len(tx.execute(ALL).keys()) == 3

    with db.begin() as tx:
        block = tx.begin_nested() if nested else None
        undone(tx)
        (block or tx).rollback()
        if nested:
            assert [len(tx.execute(ALL).keys()) for _ in range(3)] == [2, 2, 2]
    with db.begin() as tx:
        tx.execute(ONE)
        assert [len(tx.execute(ALL).keys()) for _ in range(3)] == [2, 2, 2]


@pytest.mark.parametrize("statement", ["DEALLOCATE ALL", "DISCARD ALL"])
def test_whoever_drops_them_finds_them_again(statement: str, wired: Callable[..., PostgresWire]) -> None:
    """The connection has forgotten them with the server."""
    wire = wired()
    with db.engine().connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        for _ in range(3):
            conn.execute(COUNT, {"n": 1})
        conn.exec_driver_sql(statement)
        assert [conn.execute(COUNT, {"n": 1}).scalar() for _ in range(3)] == [0, 0, 0]
    assert sum("ledger" in t for t in names(wire)) == 2


def test_columns_and_types_come_as_without_a_name(wired: Callable[..., PostgresWire]) -> None:
    """Of each run, and with values of another type the text has another name."""
    wired()
    both = text("SELECT :x AS x, pg_typeof(:x)::text AS kind")
    with db.begin() as tx:
        rows = [tuple(tx.execute(both, {"x": x}).one()) for x in (1, 70_000) * 3]
    assert rows == [(1, "smallint"), (70_000, "integer")] * 3


def test_a_name_keeps_tenants_apart(wired: Callable[..., PostgresWire]) -> None:
    """A policy asks for the tenant at each run, whatever plan is kept; so in transactions and reads."""
    wire = wired(pool_size=2)
    with db.begin() as tx:
        tx.execute(text("INSERT INTO ledger VALUES (1, 'acme'), (2, 'bolt'), (3, 'bolt')"))
        tx.execute(text("ALTER TABLE ledger ENABLE ROW LEVEL SECURITY"))
        tx.execute(text("ALTER TABLE ledger FORCE ROW LEVEL SECURITY"))
        tx.execute(text("CREATE POLICY own ON ledger USING (tenant = current_setting('app.tenant_id', true))"))
    seen: list[tuple[int, int]] = []
    for tenant in ("acme", "bolt") * 8:
        with db.begin(tenant=tenant) as tx, db.read(tenant=tenant) as conn:
            seen.append((tx.execute(COUNT, {"n": 0}).scalar_one(), conn.execute(COUNT, {"n": 0}).scalar_one()))
    assert seen == [(1, 1), (2, 2)] * 8
    assert any("ledger" in t for t in names(wire))


RENEWED = """
ALTER TYPE mood RENAME TO mood_before; CREATE TYPE mood AS ENUM ('calm', 'cross');
ALTER TABLE moods ALTER m TYPE mood USING m::text::mood; DROP TYPE mood_before"""
TURNED = "ALTER TABLE moods ALTER m TYPE varchar USING m::text"
# Of a value that the type had not when the statement was parsed.
BIG = {"k": "5000000000"}
OF_MOODS = text("INSERT INTO moods (m) VALUES (:m)")
WITH_MOOD = text("SELECT count(*) FROM moods WHERE m = :m")
OF_KEYS = text("INSERT INTO moods (k) VALUES (:k)")


@pytest.mark.parametrize(
    ("statement", "migration", "values", "errors"),
    [
        (OF_MOODS, RENEWED, {"m": "calm"}, (0, 1)),
        (WITH_MOOD, TURNED, {"m": "calm"}, (0, 1)),
        (OF_KEYS, "ALTER TABLE moods ALTER k TYPE bigint", BIG, (1, 1)),
        (OF_KEYS, "", {"k": "5"}, (1, 1)),
    ],
    ids=["a type renewed", "another type", "a wider type", "dropped by a function"],
)
@pytest.mark.parametrize("is_first", [True, False], ids=["first", "later"])
def test_a_parameters_type_that_a_migration_overtook_does_not_fail_for_good(
    *,
    is_first: bool,
    statement: Any,
    migration: str,
    values: dict[str, str],
    errors: tuple[int, int],
    database: Database,
    wired: Callable[..., PostgresWire],
) -> None:
    """A first statement is parsed anew in the same unit, where its error is none of a value's; else the next one is."""
    wired()
    migrate(database, "CREATE TYPE mood AS ENUM ('calm'); CREATE TABLE moods (m mood, k int)")

    def unit(values: dict[str, str]) -> None:
        with db.begin() as tx:
            if not is_first:
                tx.execute(ONE)
            tx.execute(statement, values)

    for _ in range(3):
        unit({"m": "calm"} if "m" in values else {"k": "5"})
    if migration:
        migrate(database, migration)
    else:
        with db.begin() as tx:
            tx.execute(text("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$"))
    failed = 0
    for _ in range(4):
        try:
            unit(values)
        except exc.DBAPIError:
            failed += 1
    assert failed == errors[0 if is_first else 1]
