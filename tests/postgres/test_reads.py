"""``db.read``: a round trip a statement, and a transaction for the rest where something is said for one."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import event, exc, make_url, text

import db
from db.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from devkit.network.statements import PostgresWire
    from devkit.plugin import Database, MakeWire
    from devkit.servers.postgres import Postgres

pytestmark = pytest.mark.usefixtures("ledger")

HELD = "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND "
ADVISORY = f"{HELD} locktype = 'advisory'"
FOR_THE_TRANSACTION = {
    "SET LOCAL ROLE pg_read_all_data": ("SELECT current_user", "pg_read_all_data"),
    "-- as the auditor\nSET LOCAL ROLE pg_read_all_data": ("SELECT current_user", "pg_read_all_data"),
    "set local work_mem = '77MB'": ("SHOW work_mem", "77MB"),
    "SELECT set_config('request.sub', 'u1', true)": ("SELECT current_setting('request.sub')", "u1"),
    "SELECT 1; SET LOCAL work_mem = '77MB'": ("SHOW work_mem", "77MB"),
    "SELECT pg_advisory_xact_lock(7)": (ADVISORY, 1),
    "SELECT pg_try_advisory_xact_lock_shared(7)": (ADVISORY, 1),
    "LOCK TABLE ledger IN ACCESS SHARE MODE": (f"{HELD} mode = 'AccessShareLock' AND relation = 'ledger'::regclass", 1),
    "DECLARE numbers CURSOR FOR SELECT generate_series(5, 9)": ("FETCH 1 FROM numbers", 5),
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ": ("SHOW transaction_isolation", "repeatable read"),
    "SAVEPOINT here": ("SELECT 1", 1),
}


@pytest.fixture(autouse=True)
def may_read_all(ledger: None, postgres: Postgres, database: Database) -> None:
    """The role ``app`` may become ``pg_read_all_data``."""
    postgres.execute(f"GRANT pg_read_all_data TO {database.app}")


@pytest.fixture
def counted(ledger: None, database: Database, wire: MakeWire) -> PostgresWire:
    """The layer over a wire that counts, warm."""
    proxy = wire()
    db.configure(Settings(url=make_url(database.through(proxy).url()), sslmode="disable"))
    with db.read() as conn:
        conn.exec_driver_sql("SELECT 1")
    return proxy


@pytest.fixture
def open_transactions(postgres: Postgres, database: Database) -> Callable[[], int]:
    found = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database.name}' AND state LIKE 'idle in %'"
    return lambda: int(postgres.execute(found)[0][0])


@pytest.mark.parametrize("said", sorted(FOR_THE_TRANSACTION))
@pytest.mark.parametrize("after", [None, "SELECT 1"])
def test_what_is_said_for_the_transaction_holds_to_the_end_of_the_read(said: str, after: str | None) -> None:
    """First thing, or after a statement that was a transaction of its own; and no further."""
    question, right = FOR_THE_TRANSACTION[said]
    with db.read(tenant="acme") as conn:
        if after is not None:
            conn.exec_driver_sql(after)
        conn.exec_driver_sql(said)
        for _ in range(2):
            assert conn.exec_driver_sql(question).scalar_one() == right or "FETCH" in question
        assert conn.exec_driver_sql("SELECT current_setting('app.tenant_id')").scalar_one() == "acme"
        with pytest.raises(exc.InternalError) as caught:
            conn.execute(text("INSERT INTO ledger VALUES (1)"))
    assert db.sqlstate(caught.value) == "25006"
    with db.read() as conn:
        assert conn.exec_driver_sql("SELECT current_user = session_user").scalar_one()


def test_a_parameter_may_say_that_it_is_for_the_transaction() -> None:
    """Whichever way the text has it."""
    with db.read() as conn:
        conn.execute(text("SELECT set_config('request.sub', :value, :local)"), {"value": "u1", "local": True})
        assert conn.exec_driver_sql("SELECT current_setting('request.sub')").scalar_one() == "u1"


def test_what_a_listener_to_begin_says_holds_for_the_read() -> None:
    """As in ``db.begin``."""

    @event.listens_for(db.engine(), "begin")
    def at_begin(conn: Connection) -> None:
        conn.exec_driver_sql("SET LOCAL request.role = 'auditor'")

    for unit in (db.begin, db.read):
        with unit() as conn:
            for _ in range(2):
                assert conn.exec_driver_sql("SELECT current_setting('request.role')").scalar_one() == "auditor"


def test_what_a_listener_says_before_a_statement_reaches_it() -> None:
    """SQLAlchemy's ``before_cursor_execute``, over the same connection."""

    @event.listens_for(db.engine(), "before_cursor_execute")
    def before(_conn: Connection, cursor: Any, statement: str, *_: object) -> None:
        if statement.startswith("SELECT current_user"):
            cursor.execute("SET LOCAL ROLE pg_read_all_data")

    with db.read() as conn:
        assert conn.exec_driver_sql("SELECT current_user").scalar_one() == "pg_read_all_data"


ALONE = [
    "SELECT 1",
    "-- name: ping\nSELECT 1",
    "/* hint */ SELECT 1",
    "/* a; b */ SELECT 1",
    "  (SELECT 1)",
    "WITH one AS (SELECT 1) SELECT * FROM one",
    "VALUES (1)",
    "TABLE ledger",
    "SHOW work_mem",
    "EXPLAIN SELECT 1",
    "SELECT 1;",
    "SELECT 'SET LOCAL'",
]


@pytest.mark.parametrize("statement", ALONE)
def test_a_single_statement_is_one_trip_and_no_open_transaction(
    statement: str, counted: PostgresWire, open_transactions: Callable[[], int]
) -> None:
    """However it begins."""
    before = counted.counts()
    with db.read() as conn:
        for _ in range(3):
            conn.exec_driver_sql(statement)
        assert open_transactions() == 0
    assert (counted.counts() - before).trips == 3


def by_two_in_one_text(conn: Connection) -> None:
    conn.exec_driver_sql("SELECT 1; SELECT 2")


def by_copy(conn: Connection) -> None:
    raw: Any = conn.connection.driver_connection
    with raw.cursor() as cursor, cursor.copy("COPY (SELECT 1) TO STDOUT") as copy:
        assert b"".join(copy) == b"1\n"


def by_executemany(conn: Connection) -> None:
    raw: Any = conn.connection.driver_connection
    raw.cursor().executemany("SELECT %s", [(1,), (2,)])


def by_stream(conn: Connection) -> None:
    raw: Any = conn.connection.driver_connection
    assert list(raw.cursor().stream("SELECT 1")) == [(1,)]


def by_a_pipeline(conn: Connection) -> None:
    raw: Any = conn.connection.driver_connection
    with raw.pipeline():
        assert raw.execute("SELECT 1").fetchone() == (1,)


def by_a_server_cursor(conn: Connection) -> None:
    found = conn.execute(text("SELECT generate_series(1, 3)"), execution_options={"stream_results": True})
    assert found.scalars().all() == [1, 2, 3]


def by_a_savepoint(conn: Connection) -> None:
    with conn.begin_nested():
        conn.exec_driver_sql("SELECT 1")


def by_the_drivers_transaction(conn: Connection) -> None:
    raw: Any = conn.connection.driver_connection
    with raw.transaction():
        raw.execute("SELECT 1")


WAYS = [
    by_two_in_one_text,
    by_copy,
    by_executemany,
    by_stream,
    by_a_pipeline,
    by_a_server_cursor,
    by_a_savepoint,
    by_the_drivers_transaction,
]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_read_is_read_only_and_the_tenants(way: Callable[[Connection], None]) -> None:
    """And the statements around it are."""
    seen = "SELECT current_setting('app.tenant_id'), current_setting('transaction_read_only')"
    with db.read(tenant="acme") as conn:
        for _ in range(2):
            way(conn)
            assert tuple(conn.exec_driver_sql(seen).one()) == ("acme", "on")
        with pytest.raises(exc.InternalError):
            conn.exec_driver_sql("INSERT INTO ledger VALUES (1)")


@pytest.mark.parametrize("way", [by_two_in_one_text, by_a_savepoint, by_the_drivers_transaction])
def test_an_error_afterwards_leaves_the_next_statement_alone(
    way: Callable[[Connection], None], open_transactions: Callable[[], int]
) -> None:
    """What had a transaction of its own did not leave it open."""
    with db.read() as conn:
        way(conn)
        if way is by_two_in_one_text:
            assert open_transactions() == 0
        with contextlib.suppress(exc.DataError):
            conn.exec_driver_sql("SELECT 1 / 0")
        if way is by_two_in_one_text:
            assert conn.exec_driver_sql("SELECT 'works'").scalar_one() == "works"


def test_an_error_in_one_of_two_leaves_the_next_statement_alone() -> None:
    """The text's transaction ends with it."""
    with db.read() as conn:
        for wrong in ("SELECT 1; SELECT 1 / 0", "SELECT 1 / 0; SELECT 1", "/* x */ SELECT 1 / 0", "-- x\nSELECT 1 / 0"):
            with pytest.raises(exc.DataError):
                conn.exec_driver_sql(wrong)
            assert conn.exec_driver_sql("SELECT 'works'").scalar_one() == "works"


def test_a_savepoint_undoes_an_error_in_a_read() -> None:
    """As in any transaction."""
    with db.read(tenant="acme") as conn:
        conn.exec_driver_sql("SELECT 1")
        with pytest.raises(exc.DataError), conn.begin_nested():
            conn.exec_driver_sql("SELECT 1 / 0")
        assert conn.exec_driver_sql("SELECT current_setting('app.tenant_id')").scalar_one() == "acme"


def test_a_read_of_the_session_after_it_keeps_nothing_open(open_transactions: Callable[[], int]) -> None:
    """Whatever way it was done in."""
    for way in WAYS:
        with db.read() as conn:
            way(conn)
        assert open_transactions() == 0, way


def test_a_snapshot_still_sees_one_state(postgres: Postgres, database: Database) -> None:
    """With two in one text before it as well."""
    count = "SELECT count(*) FROM ledger"
    with db.read(snapshot=True) as conn:
        conn.exec_driver_sql("SELECT 1; SELECT 2")
        assert conn.exec_driver_sql(count).scalar_one() == 0
        postgres.execute("INSERT INTO ledger VALUES (1)", database=database.name)
        assert conn.exec_driver_sql(count).scalar_one() == 0


def test_an_error_of_the_driver_own_before_anything_was_sent_opens_nothing(
    open_transactions: Callable[[], int],
) -> None:
    """Too few parameters, above all."""
    with db.read() as conn:
        raw: Any = conn.connection.driver_connection
        with pytest.raises(psycopg.ProgrammingError):
            raw.execute("SELECT %s, %s", (1,))
        assert open_transactions() == 0
        assert conn.exec_driver_sql("SELECT 'works'").scalar_one() == "works"
