"""Units of work on the stand-in for Aurora DSQL: what they say, what they cost, and what becomes of a conflict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import exc, text

import db
from db import aio
from db.environment import event_loop

from .conftest import add, numbers

if TYPE_CHECKING:
    from devkit.plugin import MakeLambdaContext
    from devkit.servers.dsql import DsqlStandIn

    from .conftest import Use

ONE = text("SELECT n FROM ledger")


@pytest.mark.usefixtures("ledger")
def test_a_unit_says_begin_and_nothing_to_the_session(dsql: DsqlStandIn) -> None:
    """DSQL takes no SET that limits or names anything: two trips for a write, and two for a read."""
    db.run(add, 1)
    before, said = dsql.wire.counts(), len(dsql.wire.statements())
    db.run(add, 2)
    written = dsql.wire.counts()
    with db.read() as conn:
        conn.execute(ONE)
    read = dsql.wire.counts()
    first, second = db.fetch(ONE, ONE)
    fetched = dsql.wire.counts()
    assert ((written - before).trips, (read - written).trips, (fetched - read).trips) == (2, 2, 2)
    assert db.write(ONE, ONE)[1].all() == [(1,), (2,)]
    assert (dsql.wire.counts() - fetched).trips == 1
    assert first.all() == second.all() == [(1,), (2,)]
    insert = "INSERT INTO ledger (n) VALUES ($1)"
    asked = "SELECT n FROM ledger"
    assert dsql.wire.statements()[said:] == [
        *("BEGIN", insert, "COMMIT"),
        *("BEGIN READ ONLY", asked, "ROLLBACK"),
        *("BEGIN READ ONLY", asked, asked, "ROLLBACK"),
        *("BEGIN", asked, asked, "COMMIT"),
    ]


@pytest.mark.parametrize("code", ["OC000", "OC001"])
@pytest.mark.usefixtures("ledger")
def test_a_commit_that_conflicts_is_run_again(code: str, dsql: DsqlStandIn) -> None:
    """``run`` begins anew, as nothing has committed; a block cannot, and says that it may."""
    dsql.wire.conflict(code, times=2)
    assert db.run(add, 1) == 1
    dsql.wire.conflict(code)
    with pytest.raises(exc.OperationalError, match=code) as refused, db.begin() as tx:
        add(tx, 2)
    assert (db.sqlstate(refused.value), db.verdict(refused.value)) == ("40001", db.Verdict.RETRY_TRANSACTION)
    dsql.wire.conflict(code)
    with pytest.raises(exc.OperationalError, match=code) as refused:
        db.write(text("INSERT INTO ledger (n) VALUES (3)"))
    assert (db.sqlstate(refused.value), db.verdict(refused.value)) == ("40001", db.Verdict.RETRY_TRANSACTION)
    assert numbers() == [1]


@pytest.mark.usefixtures("ledger")
def test_conflicts_end_with_the_time_of_the_invocation(dsql: DsqlStandIn, lambda_context: MakeLambdaContext) -> None:
    """Six attempts at most, and none that the deadline leaves no room for."""
    dsql.wire.conflict(times=100)

    @db.invocation
    def handler(_event: object, _context: object) -> int:
        return db.run(add, 1)

    with pytest.raises(exc.OperationalError, match="OC000"):
        handler({}, lambda_context(remaining_s=1.0))
    assert 94 <= len(dsql.wire.conflicts) < 100
    dsql.wire.conflicts.clear()
    assert numbers() == []


@pytest.mark.usefixtures("ledger")
def test_once_commits_once_through_conflicts(dsql: DsqlStandIn) -> None:
    """The record is refused with the work, so that another run finds none; a second delivery finds it."""
    dsql.wire.conflict(times=3)
    assert db.once("key").run(add, 1) == 1
    again = db.once("key")
    assert (again.run(add, 1), again.replayed, numbers()) == (1, True, [1])
    dsql.wire.conflict()
    with pytest.raises(exc.OperationalError, match="OC000"), db.once("other") as tx:
        add(tx, 2)
    assert db.once("other").run(add, 3) == 3
    assert numbers() == [1, 3]


@pytest.mark.usefixtures("ledger")
def test_a_statement_that_takes_too_long_ends_with_its_connection(use: Use, dsql: DsqlStandIn) -> None:
    """Nothing limits it at the server: the error is that of a limit all the same, and is not tried again."""
    use(statement_timeout_s=0.3)
    connected = dsql.wire.counts().connections

    def sleep(tx: Any) -> None:
        tx.execute(text("SELECT pg_sleep(5)"))

    with pytest.raises(exc.OperationalError, match="time limit of the statement") as cut:
        db.run(sleep)
    assert (db.sqlstate(cut.value), db.verdict(cut.value)) == ("57014", db.Verdict.GIVE_UP)
    assert db.run(add, 1) == 1
    assert dsql.wire.counts().connections - connected == 2


@pytest.mark.usefixtures("ledger")
def test_the_deadline_ends_a_statement(dsql: DsqlStandIn, lambda_context: MakeLambdaContext) -> None:
    """By what is left of the invocation, less what is kept to answer in."""

    @db.invocation
    def handler(_event: object, _context: object) -> None:
        with db.begin() as tx:
            tx.execute(text("SELECT pg_sleep(5)"))

    with pytest.raises(exc.OperationalError, match="time limit of the statement"):
        handler({}, lambda_context(remaining_s=0.9))
    assert dsql.wire.statements()[-1] == "SELECT pg_sleep(5)"


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.usefixtures("ledger")
def test_what_dsql_cannot_do_is_refused_by_name(read_only: bool) -> None:
    """Before anything is sent: the call, the engine, and what to do instead."""
    refused = r"db.session\(isolation=…\) on Aurora DSQL: each transaction is REPEATABLE READ"
    if not read_only:
        with pytest.raises(db.ConfigurationError, match=refused), db.session(isolation="SERIALIZABLE"):
            pass
    with db.session(read_only=read_only) as session:
        session.execute(ONE)
        with pytest.raises(db.ConfigurationError, match=r"^begin_nested\(\) on Aurora DSQL: it has none"):
            session.connection().begin_nested()
    with db.begin(isolation="REPEATABLE READ") as tx, pytest.raises(db.ConfigurationError, match="begin_nested"):
        db.once("key", tx=tx).run(add, 1)
    with pytest.raises(exc.ArgumentError, match=r"Valid isolation levels .* REPEATABLE READ, AUTOCOMMIT"):
        db.engine().connect().execution_options(isolation_level="SERIALIZABLE")


@pytest.mark.usefixtures("ledger")
def test_aio_does_the_same(dsql: DsqlStandIn) -> None:
    """On psycopg: a conflict is run again, and a read is a transaction."""

    async def work() -> list[Any]:
        async def write(tx: Any) -> None:
            await tx.execute(text("INSERT INTO ledger (n) VALUES (1)"))

        await aio.run(write)
        (rows,) = await aio.fetch(ONE)
        return list(rows.scalars())

    dsql.wire.conflict("OC001")
    assert event_loop.run(work()) == [1]
    assert not dsql.wire.conflicts
