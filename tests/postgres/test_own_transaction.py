"""A unit of work runs in a transaction that it opened itself, and inherits nothing of what was left open before it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, cast

import psycopg
import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import event, exc, text

import db
from db.migrations.operations import enable_tenant_rls

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection

    from devkit.plugin import Database

    from .conftest import Use

    Listen = Callable[..., None]

SEEN = text(
    "SELECT current_setting('app.tenant_id'), current_setting('statement_timeout'),"
    " current_setting('transaction_read_only'), current_setting('transaction_isolation')"
)


@pytest.fixture
def notes(use: Use, database: Database) -> None:
    """``notes(tenant_id, body)``, each tenant's rows to itself by row-level security, and ``plain(i)``."""
    use(role="owner")
    with db.begin() as tx:
        tx.execute(text("CREATE TABLE plain (i int)"))
        default = "current_setting('app.tenant_id')"
        tx.execute(text(f"CREATE TABLE notes (tenant_id text NOT NULL DEFAULT {default}, body text)"))
        enable_tenant_rls(Operations(MigrationContext.configure(tx)), "notes")
        tx.execute(text(f"GRANT ALL ON notes, plain TO {database.app}"))
    use(tenant_required=True)


LEAVES_OPEN = ["SELECT 1", "SET TIME ZONE 'UTC'", "SET LOCAL app.tenant_id = 'b'", "SELECT 1 / 0"]


@pytest.fixture(params=["connect", "checkout", "checkin"])
def listen(request: pytest.FixtureRequest, notes: None) -> Listen:
    """``listen(statement)`` has a pool's listener run it and leave its transaction open."""

    def add(statement: str) -> None:
        @event.listens_for(db.engine(), request.param)
        def listener(connection: Any, *_: object) -> None:
            # What fails leaves it open as well.
            with contextlib.suppress(psycopg.Error), connection.cursor() as cursor:
                cursor.execute(statement)

    return add


def write(tenant: str) -> None:
    with db.begin(tenant=tenant) as tx:
        tx.execute(text("INSERT INTO notes (body) VALUES (:body)"), {"body": f"of {tenant}"})


def read(tenant: str) -> list[str]:
    with db.read(tenant=tenant) as conn:
        return list(conn.execute(text("SELECT body FROM notes ORDER BY body")).scalars())


@pytest.mark.parametrize("pool", ["queue", "null"])
@pytest.mark.parametrize("statement", LEAVES_OPEN)
def test_tenants_read_and_write_their_own_rows_beside_a_listener(
    statement: str, pool: str, use: Use, listen: Listen
) -> None:
    """Whatever it left open, of itself or of the unit before."""
    use(tenant_required=True, pool=pool)
    listen(statement)
    for tenant in ("a", "b", "a"):
        write(tenant)
    assert (read("a"), read("b"), read("c")) == (["of a", "of a"], ["of b"], [])


@pytest.mark.parametrize("statement", LEAVES_OPEN)
def test_a_unit_beside_a_listener_is_as_it_was_asked_for(statement: str, listen: Listen) -> None:
    """Its tenant, its limits, its access mode and its level."""
    listen(statement)
    for _ in range(2):
        with db.begin(tenant="acme", isolation="SERIALIZABLE") as tx:
            assert tuple(tx.execute(SEEN).one()) == ("acme", "30s", "off", "serializable")
        with db.read(tenant="acme") as conn:
            assert tuple(conn.execute(SEEN).one()) == ("acme", "30s", "on", "read committed")
        with db.read(tenant="acme", snapshot=True) as conn:
            assert tuple(conn.execute(SEEN).one()) == ("acme", "30s", "on", "repeatable read")
        with db.session(tenant="acme") as orm:
            assert tuple(orm.execute(SEEN).one()) == ("acme", "30s", "off", "read committed")


@pytest.mark.parametrize("statement", LEAVES_OPEN)
def test_a_unit_beside_a_listener_can_be_undone(statement: str, listen: Listen) -> None:
    """And a read cannot write."""
    listen(statement)
    for _ in range(2):
        with pytest.raises(LookupError), db.begin(tenant="a") as tx:
            tx.execute(text("INSERT INTO plain VALUES (1)"))
            raise LookupError
        with pytest.raises(exc.InternalError) as caught, db.read(tenant="a") as conn:
            conn.execute(text("INSERT INTO plain VALUES (2)"))
        assert db.sqlstate(caught.value) == "25006"
    with db.read(tenant="a") as conn:
        assert conn.execute(text("SELECT count(*) FROM plain")).scalar_one() == 0


def test_a_unit_that_sends_nothing_passes_nothing_on(listen: Listen) -> None:
    """What a listener left open before it is not the next one's either."""
    listen("SET LOCAL app.tenant_id = 'b'")
    for unit in (db.begin, db.read):
        with cast("Any", unit)(tenant="a"):
            pass
    write("b")
    assert (read("a"), read("b")) == ([], ["of b"])


def test_a_row_of_a_unit_that_was_undone_is_not_committed_for_the_next(notes: None) -> None:
    """Here by a listener that keeps SQLAlchemy from ending its transaction."""
    engine = db.engine()

    def refuse(_conn: Connection) -> None:
        raise LookupError

    event.listen(engine, "commit", refuse)
    with pytest.raises(LookupError), db.begin(tenant="a") as tx:
        tx.execute(text("INSERT INTO notes (body) VALUES ('undone')"))
    event.remove(engine, "commit", refuse)
    write("b")
    assert (read("a"), read("b")) == ([], ["of b"])


@pytest.mark.parametrize("unit", [db.begin, db.session, lambda **options: db.once("key", **options)])
def test_autocommit_is_no_isolation_of_a_unit(unit: Callable[..., AbstractContextManager[Any]], notes: None) -> None:
    """It is refused before anything is sent, with what to write instead."""
    with pytest.raises(ValueError, match="AUTOCOMMIT"), unit(tenant="a", isolation=cast("Any", "AUTOCOMMIT")):
        pass
    with pytest.raises(ValueError, match="AUTOCOMMIT"):
        db.run(lambda _tx: None, tenant="a", isolation=cast("Any", "AUTOCOMMIT"))


@pytest.mark.parametrize("left", ["SET app.tenant_id = 'b'", "SELECT set_config('app.tenant_id', 'b', false)"])
@pytest.mark.parametrize("leave", [db.begin, db.read, lambda **_: db.engine().begin()])
def test_a_tenant_of_the_session_is_met_by_nobody(
    left: str, leave: Callable[..., AbstractContextManager[Any]], use: Use, notes: None
) -> None:
    """A unit without a tenant says so, and sees no rows of anyone's."""
    write("b")
    with leave(tenant="a") as conn:
        conn.exec_driver_sql(left)
    use(tenant_required=False)
    for unit in (db.begin, db.read):
        with cast("Any", unit)() as conn:
            assert conn.execute(text("SELECT current_setting('app.tenant_id'), count(*) FROM notes")).one() == ("", 0)


@pytest.mark.parametrize("left", ["SET app.tenant_id = 'b'", "SELECT set_config('app.tenant_id', 'b', false)"])
def test_a_tenant_that_a_plain_connection_left_on_the_session_is_met_by_no_unit(
    left: str, use: Use, notes: None
) -> None:
    """On the same kept connection."""
    write("b")
    use()
    with db.engine().begin() as conn:
        conn.exec_driver_sql(left)
    for unit in (db.begin, db.read):
        with cast("Any", unit)() as conn:
            assert conn.execute(text("SELECT count(*) FROM notes")).scalar_one() == 0


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "serializable"),
        ("/* for the report */ set transaction isolation level repeatable read", "repeatable read"),
        ("SET LOCAL transaction_isolation = 'serializable'", "serializable"),
    ],
)
def test_the_level_may_be_said_by_the_first_statement(said: str, shown: str, notes: None) -> None:
    """It travels behind BEGIN, ahead of the prologue."""
    with db.begin(tenant="a") as tx:
        tx.execute(text(said))
        assert tx.execute(SEEN).one()[0::3] == ("a", shown)
    with db.begin(tenant="a") as tx:
        assert tx.execute(SEEN).one()[3] == "read committed"


def test_a_snapshot_may_be_imported_by_the_first_statement(use: Use, notes: None) -> None:
    """One worker exports it, another works on the same state."""
    use(pool_size=2)
    with db.read(snapshot=True, tenant="a") as first:
        name = first.execute(text("SELECT pg_export_snapshot()")).scalar_one()
        with db.begin(isolation="REPEATABLE READ", tenant="a") as second:
            second.execute(text(f"SET TRANSACTION SNAPSHOT '{name}'"))
            assert second.execute(SEEN).one()[3] == "repeatable read"


def test_generators_hold_units_of_their_own(use: Use, notes: None) -> None:
    """However they end, the connection that one leaves behind knows nothing of it."""
    use(pool_size=2)
    write("a")
    write("b")

    def bodies(tenant: str) -> Generator[str]:
        with db.begin(tenant=tenant) as tx:
            yield from tx.execute(text("SELECT body FROM notes")).scalars()
            yield tx.execute(text("SELECT current_setting('app.tenant_id')")).scalar_one()

    first, second = bodies("a"), bodies("b")
    assert (next(first), next(second)) == ("of a", "of b")
    first.close()
    with db.engine().begin() as conn:
        assert conn.execute(text("SELECT coalesce(current_setting('app.tenant_id', true), '')")).scalar_one() == ""
    assert list(second) == ["b"]


@pytest.mark.parametrize("loss", ["invalidate", "close", "detach", "driver's close"])
def test_a_connection_that_its_block_did_away_with_takes_no_other_along(loss: str, notes: None) -> None:
    """The next unit has one of its own, and a unit's tenant went with it."""

    def lose(conn: Connection) -> None:
        if loss == "driver's close":
            cast("Any", conn.connection.driver_connection).close()
        else:
            getattr(conn, loss)()

    write("b")
    try:
        with db.begin(tenant="b") as tx:
            tx.execute(text("SELECT 1"))
            lose(tx)
    except exc.SQLAlchemyError:
        assert loss in {"invalidate", "close", "driver's close"}
    assert db.status()["engines"]["writer"]["checked_out"] == 0
    assert (read("a"), read("b")) == ([], ["of b"])


@pytest.mark.parametrize(
    ("words", "stays"),
    [("COMMIT", True), ("END", True), ("COMMIT AND CHAIN", True), ("ROLLBACK", False), ("ABORT", False)],
)
def test_what_follows_a_text_that_ends_the_transaction_is_a_second_one_of_the_unit(
    words: str, stays: bool, notes: None
) -> None:
    """As it was asked for; nothing else of the first reaches it, and the end of the block ends it alone."""
    said = text("SELECT current_setting('work_mem'), (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory')")
    insert = text("INSERT INTO notes (body) VALUES ('first')")
    with pytest.raises(LookupError), db.begin(tenant="a", isolation="SERIALIZABLE") as tx:
        before = tx.execute(SEEN).one()
        default = tx.execute(said).one()
        tx.execute(text("SET LOCAL work_mem = '77MB'"))
        tx.execute(text("SELECT pg_advisory_xact_lock(7)"))
        tx.execute(insert)
        tx.exec_driver_sql(words)
        assert tx.execute(SEEN).one() == before
        assert tx.execute(said).one() == default
        tx.execute(insert)
        raise LookupError
    assert before[0] == "a"
    assert before[3] == "serializable"
    assert read("a") == (["first"] if stays else [])


def test_a_savepoint_does_not_outlive_such_a_text(notes: None) -> None:
    """Whoever holds it open hears so at its end."""
    with pytest.raises(exc.OperationalError, match="does not exist"), db.begin(tenant="a") as tx, tx.begin_nested():
        tx.execute(text("SELECT 1"))
        tx.exec_driver_sql("COMMIT")
        tx.execute(text("SELECT 1"))
