"""Writes that are known up front, from BEGIN to COMMIT in one trip."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Literal

import pytest
from sqlalchemy import (
    DDL,
    Column,
    Integer,
    MetaData,
    Sequence,
    Table,
    Text,
    bindparam,
    event,
    exc,
    func,
    insert,
    literal,
    make_url,
    select,
    text,
    update,
)

import db
from db import aio
from db.environment import event_loop
from db.settings import Settings

from .conftest import Lines, Use, backend_pid

if TYPE_CHECKING:
    from devkit.network.wire import Wire
    from devkit.plugin import Database, MakeLambdaContext, MakePgBouncer, MakeWire
    from devkit.servers.postgres import Postgres

TENANT = func.current_setting("app.tenant_id")
LEDGER = Table("ledger", MetaData(), Column("n", Integer, primary_key=True), Column("tenant", Text))
ENTER = insert(LEDGER)
ONE = select(literal(1))


def entered() -> list[int]:
    with db.read() as conn:
        return list(conn.scalars(select(LEDGER.c.n).order_by(LEDGER.c.n)))


@pytest.fixture
def counted(ledger: None, database: Database, wire: MakeWire) -> Wire:
    """The ledger, on a warm connection through a wire that counts."""
    proxy = wire()
    db.configure(Settings(url=make_url(database.through(proxy).url()), sslmode="disable", pool_pre_ping=False))
    entered()
    return proxy


@pytest.fixture(params=["plain", "async"])
def write(request: pytest.FixtureRequest) -> Any:
    """``db.write`` and its twin."""
    if request.param == "plain":
        return db.write

    def awaited(*statements: Any, **asked: Any) -> Any:
        async def call() -> Any:
            return await aio.write(*statements, **asked)

        return event_loop.run(call())

    return awaited


# What it gives, and what it costs.


def test_each_result_is_that_of_execute_with_its_rows(ledger: None, write: Any) -> None:
    """Readable after the connection has gone back: rows, how many there were, the key of what was inserted."""
    plain, returning, raised, seen = write(
        ENTER.values(n=1, tenant=TENANT),
        ENTER.values([{"n": 2}, {"n": 3}]).returning(LEDGER.c.n),
        update(LEDGER).values(tenant="x").where(LEDGER.c.n > 1).returning(LEDGER.c.n, LEDGER.c.tenant),
        text("SELECT n, tenant FROM ledger ORDER BY n"),
        tenant="acme",
    )
    assert (plain.rowcount, plain.inserted_primary_key, plain.returns_rows) == (1, (1,), False)
    assert (returning.rowcount, returning.scalars().all()) == (2, [2, 3])
    assert (raised.rowcount, raised.mappings().first()) == (2, {"n": 2, "tenant": "x"})
    assert seen.all() == [(1, "acme"), (2, "x"), (3, "x")]
    assert [engine["checked_out"] for engine in db.status()["engines"].values()] == [0]


@pytest.mark.parametrize("count", [1, 2, 40])
def test_it_is_one_trip(count: int, counted: Wire) -> None:
    """However many there are, and each is executed once: what Python makes up for a row is made up once."""
    numbers = itertools.count(1)
    made = Table("ledger", MetaData(), Column("n", Integer, primary_key=True, default=lambda: next(numbers)))
    before = counted.counts()
    results = db.write(*[insert(made)] * count, tenant="acme")
    assert (counted.counts() - before).trips == 1
    assert [result.inserted_primary_key for result in results] == [(n,) for n in range(1, count + 1)]
    assert entered() == list(range(1, count + 1))


def test_it_is_one_trip_in_async_def(counted: Wire) -> None:
    """Over the async driver."""

    async def twice() -> int:
        await aio.write(ONE)
        before = counted.counts()
        await aio.write(ENTER.values(n=1), ENTER.values(n=2))
        return (counted.counts() - before).trips

    assert event_loop.run(twice()) == 1
    assert entered() == [1, 2]


def test_it_is_one_trip_through_a_pooler(
    ledger: None, database: Database, pgbouncer: MakePgBouncer, wire: MakeWire
) -> None:
    """Which has its connection back then, clean, though a statement left something on the session."""
    proxy = wire(upstream=pgbouncer(default_pool_size=1))
    db.configure(Settings(url=make_url(database.through(proxy).url()), sslmode="disable", proxy="pgbouncer"))
    db.write(ONE)
    before = proxy.counts()
    db.write(ENTER.values(n=1, tenant=TENANT), text("SET statement_timeout = '7s'"), tenant="acme")
    assert (proxy.counts() - before).trips == 1
    (said,) = db.fetch(select(LEDGER.c.tenant, TENANT))
    assert said.one() == ("acme", "")
    assert db.write(text("SHOW work_mem"), text("SHOW statement_timeout"))[1].scalar_one() != "7s"


def test_nothing_asked_is_nothing_sent(use: Use) -> None:
    """Not even a connection is opened for it."""
    use()
    assert db.write() == []
    assert db.status()["totals"]["connects"] == 0


def test_tenant_level_and_time_limit_are_those_of_begin(use: Use, lambda_context: MakeLambdaContext) -> None:
    """Of each transaction; a scope's tenant too, and the level is a word of its BEGIN."""
    use(statement_timeout_s=7)
    said = select(TENANT, func.current_setting("statement_timeout"), func.current_setting("transaction_isolation"))
    with db.scope(tenant="acme"):
        assert [tuple(r.one()) for r in db.write(said, said, isolation="SERIALIZABLE")] == [
            ("acme", "7s", "serializable")
        ] * 2
    assert db.write(said, tenant="other")[0].one() == ("other", "7s", "read committed")
    use(tenant_required=True)
    with pytest.raises(db.TenantError):
        db.write(ONE)

    @db.invocation
    def handler(_event: object, _context: object) -> Any:
        return db.write(select(func.current_setting("statement_timeout")), tenant="acme")[0].scalar_one()

    assert handler({}, lambda_context(remaining_s=3)).endswith("ms")
    with pytest.raises(db.DeadlineError):
        handler({}, lambda_context(remaining_s=0.1))


def test_what_follows_a_write_reads_the_writer(use: Use, database: Database, lambda_context: MakeLambdaContext) -> None:
    """As behind a block of begin: a reader may not have it yet."""
    use(reader_host="127.0.0.1", reader_port=1)  # where nobody is

    @db.invocation
    def handler(_event: object, _context: object) -> Any:
        db.write(ONE)
        with db.read() as conn:
            return conn.scalar(ONE)

    assert handler({}, lambda_context()) == 1
    assert set(db.status()["engines"]) == {"writer"}


def test_a_tenant_writes_its_own_rows_only(ledger: None, postgres: Postgres, database: Database) -> None:
    """By the table's policy; one row of another's undoes all."""
    db.write(ENTER.values([{"n": 1, "tenant": "acme"}, {"n": 2, "tenant": "other"}]))
    policy = "CREATE POLICY own ON ledger USING (tenant = current_setting('app.tenant_id'))"
    for statement in ("ALTER TABLE ledger ENABLE ROW LEVEL SECURITY", policy):
        postgres.execute(statement, database=database.name)
    (changed,) = db.write(update(LEDGER).values(n=LEDGER.c.n + 10).returning(LEDGER.c.n), tenant="acme")
    assert changed.all() == [(11,)]
    with pytest.raises(exc.ProgrammingError, match="row-level security"):
        db.write(ENTER.values(n=3, tenant="acme"), ENTER.values(n=4, tenant="other"), tenant="acme")
    assert db.fetch(select(LEDGER.c.n), tenant="acme")[0].all() == [(11,)]


def test_one_statement_needs_no_greenlet(use: Use) -> None:
    """Which is loaded where several wait for each other."""
    use()
    sys.modules.pop("db.transactions.side_by_side", None)
    db.write(ONE)
    assert "db.transactions.side_by_side" not in sys.modules


def test_the_time_of_a_statement_is_not_that_of_those_it_waits_for(use: Use, lines: Lines) -> None:
    """The first takes the flight's, so that the sum is what was waited for."""
    use(slow_query_s=0.1)
    db.write(text("SELECT pg_sleep(0.15)"), ONE, ONE)
    assert db.status()["totals"]["statements"] == 3
    assert len(lines.of("slow query")) == 1
    assert db.status()["totals"]["database_ms"] < 2 * 150


# What fails.


@pytest.mark.parametrize(("place", "statement"), [(1, "SELECT 1 / 0"), (2, "SELECT 2 / 0"), (3, "SELECT 3 / 0")])
def test_the_error_of_one_is_the_error_of_all_and_says_which(place: int, statement: str, ledger: None) -> None:
    """With its text, and nothing is done; the connection is as good as before."""
    statements: list[Any] = [ENTER.values(n=1), ENTER.values(n=2), ENTER.values(n=3)]
    statements[place - 1] = text(f"{statement} /* :v */").bindparams(v=7)
    with pytest.raises(exc.DataError, match="division by zero") as caught:
        db.write(*statements, tenant="acme")
    assert (caught.value.statement or "").startswith(statement)
    assert caught.value.__notes__ == [f"in statement {place} of 3"]
    assert entered() == []
    assert db.write(ENTER.values(n=1))[0].rowcount == 1
    assert db.status()["totals"]["connects"] == 1


def test_an_error_in_python_sends_nothing(counted: Wire) -> None:
    """That of a default of the second statement, of a value missing in it, or of a type that cannot be sent."""

    def fails() -> int:
        raise KeyError

    broken = Table("ledger", MetaData(), Column("n", Integer, primary_key=True, default=fails))
    before = counted.counts()
    for statement, error in (
        (insert(broken), exc.StatementError),
        (select(bindparam("n", required=True)), exc.StatementError),
        (ENTER.values(n=object()), exc.ProgrammingError),
    ):
        with pytest.raises(error) as caught:
            db.write(ENTER.values(n=1), statement, ENTER.values(n=3))
        assert "in statement 2 of 3" in caught.value.__notes__
    assert (counted.counts() - before).trips == 0
    assert entered() == []


def test_a_constraint_that_waits_for_commit_is_an_integrity_error(
    counted: Wire, postgres: Postgres, database: Database
) -> None:
    """That of no statement, and nothing is committed, at no trip more."""
    twice = text("INSERT INTO late VALUES (1)")
    made = "CREATE TABLE late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)"
    for statement in (made, "GRANT ALL ON late TO PUBLIC"):
        postgres.execute(statement, database=database.name)
    before = counted.counts()
    with pytest.raises(exc.IntegrityError, match="duplicate key") as caught:
        db.write(ENTER.values(n=1), twice, twice)
    assert (counted.counts() - before).trips == 1
    assert (caught.value.statement, db.verdict(caught.value)) == (None, db.Verdict.GIVE_UP)
    assert entered() == []


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("COPY ledger FROM STDIN", "db.copy_rows loads rows"),
        ("COMMIT", "the call's own"),
        ("start transaction", "the call's own"),
        ("ROLLBACK TO SAVEPOINT a", "the call's own"),
        ("SAVEPOINT a", "the call's own"),
        ("PREPARE TRANSACTION 'x'", "the call's own"),
        ("SET TRANSACTION READ ONLY", "isolation="),
    ],
)
def test_what_does_not_travel_is_refused(statement: str, why: str, use: Use) -> None:
    """By the name of the call and the place of the statement, before a connection is opened."""
    use()
    with pytest.raises(db.ConfigurationError, match=f"db.write, statement 2 of 2: .*{why}"):
        db.write(ONE, text(statement))
    with pytest.raises(db.ConfigurationError, match=f"db.write, statement 2 of 2: .*{why}"):
        db.write(ONE, DDL(statement))  # type: ignore[no-untyped-call]  # SQLAlchemy's
    assert db.status()["totals"]["connects"] == 0


def test_rows_bit_by_bit_are_refused(use: Use) -> None:
    """All of them are there when the call returns; and so is what is no statement, and a default that needs a trip."""
    use()
    for asked in ({"stream_results": True}, {"yield_per": 10}):
        with pytest.raises(db.ConfigurationError, match="bit by bit"):
            db.write(ONE.execution_options(**asked))
    for given in ("SELECT 1", (text("SELECT :n"), {"n": 1})):
        with pytest.raises(TypeError, match=r"one after another, each with its values: .*bindparams"):
            db.write(given)  # type: ignore[call-overload]


@pytest.mark.parametrize("others", [[], [ONE]])
def test_a_default_that_is_asked_of_the_server_first_is_refused(others: list[Any], ledger: None) -> None:
    """Its trip would be one more, and what it gives is needed to go on. Nothing is done."""
    numbered = Table(
        "ledger", MetaData(), Column("n", Integer, Sequence("numbers"), primary_key=True), implicit_returning=False
    )
    with pytest.raises(exc.NotSupportedError, match="asked of the server ahead of it"):
        db.write(*others, insert(numbered))
    assert entered() == []


def test_what_cannot_run_in_a_transaction_is_refused_by_the_server(use: Use) -> None:
    """With a note of what to do, as in a block of begin; a procedure that commits is, too."""
    use(role="owner")
    with pytest.raises(exc.InternalError) as caught:
        db.write(ONE, text("VACUUM"))
    assert "AUTOCOMMIT" in "".join(caught.value.__notes__)
    db.write(
        text("CREATE TABLE halves (n int)"),
        text("CREATE PROCEDURE half() LANGUAGE plpgsql AS $$BEGIN INSERT INTO halves VALUES (1); COMMIT; END$$"),
    )
    with pytest.raises(exc.DBAPIError, match="invalid transaction termination"):
        db.write(text("CALL half()"), ONE)
    with pytest.raises(exc.ProgrammingError, match="multiple commands"):
        db.write(text("INSERT INTO halves VALUES (1); SELECT 1"), ONE)
    assert db.fetch(text("SELECT n FROM halves"))[0].all() == []


def test_a_statement_beyond_its_time_is_cancelled(ledger: None, lambda_context: MakeLambdaContext) -> None:
    """The deadline bounds it, and nothing is done."""

    @db.invocation
    def handler(_event: object, _context: object) -> None:
        db.write(ENTER.values(n=1), text("SELECT pg_sleep(30)"))

    with pytest.raises(exc.OperationalError) as caught:
        handler({}, lambda_context(remaining_s=1.5))
    assert db.sqlstate(caught.value) in {"57014", "25P04"}
    assert entered() == []


@pytest.mark.parametrize("fails", ["value", "listener"])
def test_what_fails_behind_commit_leaves_the_outcome_unknown(fails: str, ledger: None) -> None:
    """A value that Python has none for, and a listener's own error: nobody may take for undone what is committed."""

    def raises(*_: object) -> None:
        raise LookupError

    if fails == "listener":
        event.listen(db.engine(), "after_cursor_execute", raises)
    with pytest.raises(db.OutcomeUnknownError) as caught:
        db.write(ENTER.values(n=1), text("SELECT '0044-03-15 BC'::date"))
    assert type(caught.value.__cause__).__name__ == {"value": "DataError", "listener": "LookupError"}[fails]
    if fails == "listener":
        event.remove(db.engine(), "after_cursor_execute", raises)
    assert entered() == [1]


def test_a_listener_has_no_statement_between_them(ledger: None) -> None:
    """It would wait for the flight that waits for it. Nothing is done."""

    def audits(conn: Any, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("INSERT"):
            conn.execute(text("SELECT 'audited'"))

    event.listen(db.engine(), "before_cursor_execute", audits)
    for others in ([], [ONE]):
        with pytest.raises(exc.NotSupportedError, match="a listener's statement"):
            db.write(*others, ENTER.values(n=1))
    assert entered() == []


def test_a_listener_makes_of_none_of_them_the_end_of_the_transaction(ledger: None) -> None:
    """What came before it would be committed, and what fails behind it would say that nothing was."""

    def ends(_conn: object, _cursor: object, statement: str, parameters: Any, *_: object) -> tuple[str, Any]:
        return ("COMMIT", ()) if statement == "SELECT 'a listener''s'" else (statement, parameters)

    event.listen(db.engine(), "before_cursor_execute", ends, retval=True)
    with pytest.raises(exc.NotSupportedError, match="a listener has made of the statement"):
        db.write(ENTER.values(n=1), text("SELECT 'a listener''s'"), ENTER.values(n=1))
    assert entered() == []


def test_a_task_that_is_cancelled_meanwhile_cancels_all(ledger: None) -> None:
    """The driver has the server cancel what runs, and hears that it was: so the COMMIT behind it is not in doubt."""

    async def cut_short() -> None:
        async with asyncio.timeout(0.3):
            await aio.write(ENTER.values(n=1), text("SELECT pg_sleep(5)"))

    with pytest.raises(TimeoutError):
        event_loop.run(cut_short())
    assert entered() == []


# The connection is lost.


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_what_is_cut_on_its_way_is_in_doubt_and_not_sent_again(
    lost: Literal["request", "answer"], counted: Wire, write: Any
) -> None:
    """The COMMIT was in it: it is done once, or not at all, and the caller is told that nobody knows."""
    write(ONE)
    cut = counted.cut_at(1, lost=lost)
    with pytest.raises(db.OutcomeUnknownError) as caught:
        write(ENTER.values(n=1), ENTER.values(n=2))
    assert cut.fired
    assert db.verdict(caught.value) is db.Verdict.OUTCOME_UNKNOWN
    if lost == "answer":
        while not entered():  # the server is at it
            time.sleep(0.01)
    assert entered() == ([1, 2] if lost == "answer" else [])
    write(ENTER.values(n=3))
    assert entered()[-1] == 3


def test_what_is_seen_to_have_ended_before_is_sent_over_another_connection(
    ledger: None, postgres: Postgres, lines: Lines
) -> None:
    """The server ended the session while nobody looked: nothing has left, and the handler notices nothing."""
    numbers = itertools.count(1)
    made = Table("ledger", MetaData(), Column("n", Integer, primary_key=True, default=lambda: next(numbers)))
    db.write(ONE)
    postgres.execute(f"SELECT pg_terminate_backend({backend_pid()}, 5000)")
    assert [result.inserted_primary_key for result in db.write(insert(made), insert(made))] == [(1,), (2,)]
    assert entered() == [1, 2]
    assert db.status()["totals"]["connects"] == 2


def test_what_the_server_ends_in_the_middle_is_begun_anew(ledger: None, postgres: Postgres, database: Database) -> None:
    """Its last words came in place of a statement's answer, so the COMMIT behind that has never run."""
    nap = text("SELECT pg_sleep(CASE WHEN EXISTS (SELECT FROM ledger WHERE n = 0) THEN 0 ELSE 9 END)")
    seen = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(CASE%' AND state = 'active'"

    def end_it() -> None:
        until_s = time.monotonic() + 9
        while not (found := postgres.execute(seen)) and time.monotonic() < until_s:
            time.sleep(0.02)
        postgres.execute("INSERT INTO ledger VALUES (0)", database=database.name)
        postgres.execute(f"SELECT pg_terminate_backend({found[0][0]})")

    ending = threading.Thread(target=end_it)
    ending.start()
    db.write(ENTER.values(n=1), nap, ENTER.values(n=2))
    ending.join()
    assert entered() == [0, 1, 2]


def test_a_refusal_by_a_pooler_that_had_no_server_is_waited_out(
    ledger: None, database: Database, pgbouncer: MakePgBouncer
) -> None:
    """It has not left the pooler, so it is sent again, as the first flight of a block is."""
    pooler = pgbouncer(default_pool_size=1, settings={"query_wait_timeout": "1"})
    db.configure(Settings(url=make_url(database.through(pooler).url()), sslmode="disable", proxy="pgbouncer"))
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with db.begin() as tx:
            tx.execute(ONE)
            held.set()
            done.wait(1.8)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(5)
    other = db.Database(Settings(url=make_url(database.through(pooler).url()), sslmode="disable", proxy="pgbouncer"))
    other.write(ENTER.values(n=1), ENTER.values(n=2))
    done.set()
    holder.join()
    assert entered() == [1, 2]
    other.dispose()
