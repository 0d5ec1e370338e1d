"""What a unit leaves on its session meets nobody after it, behind a pooler neither; a warning names each kind once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import exc, make_url, text

import db
from db.settings import Settings
from db.telemetry import log

from .conftest import Lines, backend_pid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection

    from devkit.plugin import Database, MakePgBouncer, MakeWire
    from devkit.servers.pgbouncer import PgBouncer
    from devkit.servers.postgres import Postgres

pytestmark = pytest.mark.usefixtures("ledger", "unwarned")

# What is said, the warning's word for it, and the question whose answer it would change.
PREPARED = "SELECT count(*) FROM pg_prepared_statements WHERE name = 'left_over'"
LOCKED = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
# Of this session: one that was just let go may not have dropped its own yet.
TEMPORARY = "SELECT count(*) FROM pg_class WHERE relname = 'left_over' AND relnamespace = pg_my_temp_schema()"
CURSORS = "SELECT count(*) FROM pg_cursors"
KINDS = {
    "SET work_mem = '77MB'": ("SET", "SHOW work_mem"),
    "/* once */ set session work_mem to '77MB'": ("SET", "SHOW work_mem"),
    "SET search_path = pg_catalog": ("SET", "SHOW search_path"),
    "SET TIME ZONE 'Asia/Tokyo'": ("SET", "SHOW TimeZone"),
    "SELECT set_config('work_mem', '77MB', false)": ("set_config for the session", "SHOW work_mem"),
    "SELECT set_config('work_mem', '77MB', 'off')": ("set_config for the session", "SHOW work_mem"),
    "SELECT set_config('work_mem', '77MB', NOT true)": ("set_config for the session", "SHOW work_mem"),
    "DO $$ BEGIN SET work_mem = '77MB'; END $$": ("SET", "SHOW work_mem"),
    "UPDATE pg_settings SET setting = '78848' WHERE name = 'work_mem'": ("SET", "SHOW work_mem"),
    "SET ROLE pg_read_all_data": ("SET ROLE", "SELECT current_user"),
    "SET SESSION ROLE pg_read_all_data": ("SET", "SELECT current_user"),
    "CREATE TEMP TABLE left_over (n int)": ("a temporary table", TEMPORARY),
    "CREATE TEMPORARY VIEW left_over AS SELECT 1": ("a temporary table", TEMPORARY),
    "CREATE TABLE pg_temp.left_over (n int)": ("a temporary table", TEMPORARY),
    "SELECT 1 AS n INTO TEMP left_over": ("a temporary table", TEMPORARY),
    "CREATE TEMP SEQUENCE left_over": ("a temporary table", TEMPORARY),
    "SELECT pg_advisory_lock(7)": ("a session advisory lock", LOCKED),
    "SELECT pg_try_advisory_lock(7)": ("a session advisory lock", LOCKED),
    "LISTEN news": ("LISTEN", "SELECT count(*) FROM pg_listening_channels()"),
    "PREPARE left_over AS SELECT 1": ("PREPARE", PREPARED),
    "DECLARE left_over CURSOR WITH HOLD FOR SELECT 1": ("a cursor WITH HOLD", CURSORS),
    "SELECT 1; SET work_mem = '77MB'": ("SET", "SHOW work_mem"),
}
SAID = sorted(KINDS)


@pytest.fixture
def unwarned() -> Iterator[None]:
    """No kind has been warned of yet."""
    before = set(log._said_to_be_left)
    log._said_to_be_left.clear()
    yield
    log._said_to_be_left.clear()
    log._said_to_be_left.update(before)


@pytest.fixture(autouse=True)
def may_read_all(ledger: None, postgres: Postgres, database: Database) -> None:
    """The role ``app`` may become ``pg_read_all_data``."""
    postgres.execute(f"GRANT pg_read_all_data TO {database.app}")


def answer(question: str) -> Any:
    with db.begin() as tx:
        return tx.exec_driver_sql(question).scalar_one()


@pytest.mark.parametrize("said", SAID)
def test_the_next_unit_does_not_meet_it(said: str, lines: Lines) -> None:
    """The connection is not kept, and the log says once what kind of thing that was."""
    kind, question = KINDS[said]
    before, pid = answer(question), backend_pid()
    for _ in range(2):
        with db.begin() as tx:
            tx.execute(text(said))
        assert answer(question) == before
    assert backend_pid() != pid
    assert [line["left"] for line in lines.of("leftovers")] == [[kind]]


@pytest.mark.parametrize("unit", [db.begin, db.session])
def test_any_kind_of_unit_is_watched(unit: Callable[[], Any]) -> None:
    """The ORM's, too; db.read as the others, for it may set as well."""
    before = answer("SHOW work_mem")
    for block in (unit, db.read):
        with block() as work:
            work.execute(text("SET work_mem = '77MB'"))
        assert answer("SHOW work_mem") == before


def test_it_is_watched_on_the_drivers_own_cursor() -> None:
    """And in its pipeline."""
    before = answer("SHOW work_mem")

    def in_a_pipeline(raw: Any) -> None:
        with raw.pipeline():
            raw.execute("SET work_mem = '77MB'")

    for leave in (
        lambda raw: raw.execute("SET work_mem = '77MB'"),
        lambda raw: raw.execute(b"SET work_mem = '77MB'"),
        lambda raw: raw.execute(psycopg.sql.SQL("SET work_mem = {}").format("77MB")),
        lambda raw: raw.execute("SELECT set_config('work_mem', %s, %s)", ("77MB", False)),
        in_a_pipeline,
    ):
        with db.begin() as tx:
            leave(tx.connection.driver_connection)
        assert answer("SHOW work_mem") == before


LOCKS = text("SELECT pg_advisory_lock(:n)")


def many_times(tx: Connection) -> None:
    tx.execute(LOCKS, [{"n": 7}, {"n": 8}])


def as_a_stream(tx: Connection) -> None:
    raw: Any = tx.connection.driver_connection
    list(raw.cursor().stream("SELECT pg_advisory_lock(7)"))


def over_a_server_cursor(tx: Connection) -> None:
    tx.execute(LOCKS, {"n": 7}, execution_options={"stream_results": True}).all()


def by_copy(tx: Connection) -> None:
    raw: Any = tx.connection.driver_connection
    with raw.cursor() as cursor, cursor.copy("COPY (SELECT pg_advisory_lock(7)) TO STDOUT") as copy:
        assert list(copy)


@pytest.mark.parametrize("leave", [many_times, as_a_stream, over_a_server_cursor, by_copy])
def test_it_is_watched_however_a_statement_is_run(leave: Callable[[Connection], None], lines: Lines) -> None:
    """Also where psycopg does not come by ``execute``."""
    with db.begin() as tx:
        leave(tx)
    assert answer(LOCKED) == 0
    assert [line["left"] for line in lines.of("leftovers")] == [["a session advisory lock"]]


def test_reads_that_leave_together_are_watched() -> None:
    """Each of them."""
    db.fetch(text("SELECT 1"), text("SELECT pg_advisory_lock(7)"))
    assert answer(LOCKED) == 0


def test_set_config_is_read_with_its_parameters() -> None:
    """Whether it is for the session may be said beside the text, by name or by position."""
    before, pid = answer("SHOW work_mem"), backend_pid()
    statement = text("SELECT set_config('work_mem', :value, :local)")
    with db.begin() as tx:
        tx.execute(statement, {"value": "77MB", "local": True})
    assert (answer("SHOW work_mem"), backend_pid()) == (before, pid)
    with db.begin() as tx:
        tx.execute(statement, {"value": "77MB", "local": False})
    assert answer("SHOW work_mem") == before


ORDINARY = [
    "SET LOCAL work_mem = '77MB'",
    "SET CONSTRAINTS ALL DEFERRED",
    "SET TRANSACTION READ ONLY",
    "SELECT set_config('work_mem', '77MB', true)",
    "SELECT set_config('work_mem', '77MB', 'on'::bool), set_config('work_mem', '78MB', true)",
    "SELECT 'set_config' FROM pg_settings",
    "DO $$ BEGIN SET LOCAL work_mem = '77MB'; END $$",
    "CREATE TEMP TABLE gone (n int) ON COMMIT DROP",
    "SELECT pg_advisory_xact_lock(7)",
    "UPDATE ledger SET tenant = 'SET work_mem'",
    "SELECT 1 AS listen",
    "DECLARE gone CURSOR FOR SELECT 1",
]


@pytest.mark.parametrize("said", ORDINARY)
def test_what_ends_with_the_transaction_costs_no_connection(said: str, lines: Lines) -> None:
    """It is kept, and nothing is said."""
    pid = backend_pid()
    with db.begin() as tx:
        tx.execute(text(said))
    assert backend_pid() == pid
    assert lines.of("leftovers") == []


def test_a_unit_that_fails_is_rid_of_it_as_well() -> None:
    """A session's advisory lock outlives a rollback."""
    with pytest.raises(exc.DataError), db.begin() as tx:
        tx.execute(text("SELECT pg_advisory_lock(7)"))
        tx.execute(text("SELECT 1 / 0"))
    assert answer(LOCKED) == 0


@pytest.fixture
def pooler(pgbouncer: MakePgBouncer) -> PgBouncer:
    """PgBouncer in transaction mode, with one connection to the server for all of its clients."""
    return pgbouncer(default_pool_size=1)


@pytest.fixture
def behind_pooler(pooler: PgBouncer, database: Database, wire: MakeWire) -> Iterator[psycopg.Connection[Any]]:
    """The layer behind it; and another client of the same role, which is given the same session of the server's."""
    through = database.through(pooler)
    db.configure(Settings(url=make_url(through.url()), sslmode="disable", proxy="pgbouncer"))
    url = make_url(through.url()).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as other:
        yield other


def commits(tx: Connection, said: str) -> None:
    tx.execute(text(said))


def commits_early(tx: Connection, said: str) -> None:
    tx.execute(text(said))
    tx.commit()


def fails(tx: Connection, said: str) -> None:
    tx.execute(text(said))
    raise LookupError


@pytest.mark.slow
@pytest.mark.parametrize("end", [commits, commits_early, fails])
@pytest.mark.parametrize("said", SAID)
def test_another_client_of_a_pooler_does_not_meet_it(
    said: str, end: Callable[[Connection, str], None], behind_pooler: psycopg.Connection[Any]
) -> None:
    """It is cleaned away with COMMIT or ROLLBACK, before the pooler gives the session to the next."""

    def other() -> Any:
        row = behind_pooler.execute(question).fetchone()
        return row and row[0]

    _, question = KINDS[said]
    before = other()
    try:
        with db.begin() as tx:
            end(tx, said)
    except LookupError:
        assert end is fails
    assert other() == before


@pytest.mark.parametrize("said", ["SELECT pg_advisory_lock(7)", "PREPARE left_over AS SELECT 1"])
def test_another_client_does_not_meet_it_where_commit_is_refused(
    said: str, behind_pooler: psycopg.Connection[Any], postgres: Postgres, database: Database
) -> None:
    """What a constraint defers fails while the transaction is still there, and so the session is still the unit's."""
    table = "CREATE TABLE numbers (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)"
    postgres.execute(f"{table}; GRANT INSERT ON numbers TO {database.app}", database=database.name)
    with pytest.raises(exc.IntegrityError), db.begin() as tx:
        tx.execute(text(said))
        tx.execute(text("INSERT INTO numbers VALUES (1), (1)"))
    _, question = KINDS[said]
    assert behind_pooler.execute(question).fetchone() == (0,)


def test_cleaning_for_a_pooler_takes_no_trip_of_its_own(
    pooler: PgBouncer, database: Database, wire: MakeWire, ledger: None
) -> None:
    """It travels with COMMIT."""
    counted = wire(upstream=pooler)
    db.configure(Settings(url=make_url(database.through(counted).url()), sslmode="disable", proxy="pgbouncer"))

    def trips(said: str) -> int:
        before = counted.counts()
        with db.begin() as tx:
            tx.execute(text(said))
        return int((counted.counts() - before).trips)

    trips("SELECT 1")
    assert (trips("SELECT 1"), trips("SET work_mem = '77MB'")) == (2, 2)
