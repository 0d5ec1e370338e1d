"""The driver's verbs while a transaction waits for its flight: psycopg concludes what it would, had it been sent."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.types import TypeInfo
from psycopg.types.composite import CompositeInfo
from psycopg.types.enum import EnumInfo
from sqlalchemy import exc, text

import db
from db import aio

from .conftest import insert, queue_of, stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncConnection

    from devkit.plugin import MakeWire

    from .conftest import Use

    Verb = Callable[[Any], object]

pytestmark = pytest.mark.usefixtures("ledger")

TENANT = text("SELECT current_setting('app.tenant_id')")


class UndoneError(Exception):
    """Ends a block that is to leave nothing."""


def raw_of(tx: Connection) -> Any:
    return tx.connection.driver_connection


def transaction(raw: Any) -> None:
    with raw.transaction():
        raw.execute(insert(1))


def transaction_twice(raw: Any) -> None:
    transaction(raw)
    with raw.transaction(), raw.transaction():
        raw.execute(insert(2))


def transaction_undone(raw: Any) -> None:
    with raw.transaction() as inner:
        raw.execute(insert(1))
        raise psycopg.Rollback(inner)


def transaction_in_a_pipeline(raw: Any) -> None:
    with raw.pipeline(), raw.transaction():
        raw.execute(insert(1))


def pipeline_in_a_transaction(raw: Any) -> None:
    with raw.transaction(), raw.pipeline():
        raw.execute(insert(1))


def fetched_type(raw: Any) -> None:
    assert TypeInfo.fetch(raw, "int4") is not None


def fetched_enum(raw: Any) -> None:
    assert EnumInfo.fetch(raw, "missing") is None


def fetched_composite(raw: Any) -> None:
    assert CompositeInfo.fetch(raw, "missing") is None


VERBS = [
    transaction,
    transaction_twice,
    transaction_undone,
    transaction_in_a_pipeline,
    pipeline_in_a_transaction,
    fetched_type,
    fetched_enum,
    fetched_composite,
]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("nested", [False, True])
def test_a_unit_that_is_undone_leaves_nothing_whatever_the_driver_did(
    verb: Verb, nested: bool, use: Use, stock: Engine
) -> None:
    """psycopg's outermost block is not the outermost one, first thing in the unit or first thing in a savepoint."""
    use()
    with pytest.raises(UndoneError), db.begin() as tx:
        with tx.begin_nested() if nested else contextlib.nullcontext():
            verb(raw_of(tx))
            tx.exec_driver_sql(insert(7))
        tx.exec_driver_sql(insert(8))
        raise UndoneError
    assert stored(stock) == []


@pytest.mark.parametrize("verb", VERBS)
def test_a_unit_that_ends_well_keeps_what_the_driver_did(verb: Verb, use: Use, stock: Engine) -> None:
    """And what followed in the savepoint and behind it."""
    use()
    with db.begin() as tx:
        with tx.begin_nested():
            verb(raw_of(tx))
            tx.exec_driver_sql(insert(7))
        tx.exec_driver_sql(insert(8))
    kept: dict[Verb, list[int]] = {
        transaction_twice: [1, 2],
        transaction: [1],
        transaction_in_a_pipeline: [1],
        pipeline_in_a_transaction: [1],
    }
    assert stored(stock) == [*kept.get(verb, []), 7, 8]


@pytest.mark.parametrize("verb", VERBS)
def test_a_unit_on_a_loop_is_undone_likewise(verb: Verb, use: Use, stock: Engine) -> None:
    """The same blocks of psycopg's, entered with ``async with``."""
    use()

    async def on_loop(tx: AsyncConnection) -> None:
        raw: Any = (await tx.get_raw_connection()).driver_connection
        asked: dict[Verb, tuple[Any, str]] = {
            fetched_type: (TypeInfo, "int4"),
            fetched_enum: (EnumInfo, "missing"),
            fetched_composite: (CompositeInfo, "missing"),
        }
        if verb in asked:
            kind, name = asked[verb]
            await kind.fetch(raw, name)
            return
        async with contextlib.AsyncExitStack() as blocks:
            if verb is transaction_in_a_pipeline:
                await blocks.enter_async_context(raw.pipeline())
            await blocks.enter_async_context(raw.transaction(force_rollback=verb is transaction_undone))
            if verb is pipeline_in_a_transaction:
                await blocks.enter_async_context(raw.pipeline())
            await raw.execute(insert(1))

    async def main() -> None:
        with pytest.raises(UndoneError):
            async with aio.begin() as tx:
                async with tx.begin_nested():
                    await on_loop(tx)
                await tx.exec_driver_sql(insert(8))
                raise UndoneError
        db.dispose()

    asyncio.run(main())
    assert stored(stock) == []


@pytest.mark.parametrize("first", [None, "SELECT 1"])
def test_the_isolation_level_can_be_asked_for_in_a_savepoint(first: str | None, either: Engine) -> None:
    """SQLAlchemy rolls back what its question began, and nothing else."""
    with either.begin() as conn:
        with conn.begin_nested():
            if first is not None:
                conn.exec_driver_sql(first)
            assert conn.get_isolation_level() == "READ COMMITTED"
            conn.exec_driver_sql(insert(1))
        conn.exec_driver_sql(insert(2))
    assert stored(either) == [1, 2]


def test_a_question_for_the_level_leaves_the_tenant_as_it_was_told(use: Use) -> None:
    """Also where it is the first thing that a record of a batch does, whose tenant has not been sent yet."""
    use()
    with db.begin(tenant="acme") as tx:
        assert tx.get_isolation_level() == "READ COMMITTED"
        assert tx.execute(TENANT).scalar_one() == "acme"
    seen: list[str] = []

    def handler(tx: Connection, _record: Any) -> None:
        tx.get_isolation_level()
        seen.append(tx.execute(TENANT).scalar_one())

    answer = db.batch(queue_of("a", "b"), handler, tenant=lambda record: f"tenant {record.message_id}")
    assert (answer["batchItemFailures"], seen) == ([], ["tenant a", "tenant b"])


def set_autocommit(raw: Any) -> None:
    raw.autocommit = True


def set_read_only(raw: Any) -> None:
    raw.read_only = True


def set_isolation_level(raw: Any) -> None:
    raw.isolation_level = psycopg.IsolationLevel.SERIALIZABLE


def set_deferrable(raw: Any) -> None:
    raw.deferrable = True


SETTERS = [set_autocommit, set_read_only, set_isolation_level, set_deferrable]


@pytest.mark.parametrize("setter", SETTERS)
def test_what_a_transaction_forbids_is_refused_while_a_savepoint_is_due(setter: Verb, either: Engine) -> None:
    """As it is behind a statement; and the savepoint stands."""
    with either.begin() as conn:
        with conn.begin_nested():
            with pytest.raises(psycopg.ProgrammingError):
                setter(raw_of(conn))
            conn.exec_driver_sql(insert(1))
        assert raw_of(conn).info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
    assert stored(either) == [1]


@pytest.mark.parametrize("ask", [lambda conn: conn.recover_twophase(), lambda conn: raw_of(conn).tpc_recover()])
def test_a_question_for_prepared_transactions_leaves_a_savepoint(ask: Verb, either: Engine) -> None:
    """It rolls back what it began, and that was nothing."""
    with either.begin() as conn:
        with conn.begin_nested():
            assert ask(conn) == []
            conn.exec_driver_sql(insert(1))
        conn.exec_driver_sql(insert(2))
    assert stored(either) == [1, 2]


@pytest.mark.parametrize("setter", SETTERS)
def test_a_setter_does_not_outlive_its_unit(setter: Verb, use: Use, stock: Engine) -> None:
    """The next one has the connection, and writes in a transaction that can be undone."""
    use()
    with db.begin() as tx:
        setter(raw_of(tx))
    with pytest.raises(UndoneError), db.begin(tenant="acme") as tx:
        tx.exec_driver_sql(insert(1))
        shown = "current_setting('app.tenant_id'), current_setting('transaction_isolation'), "
        shown += "current_setting('transaction_read_only'), current_setting('transaction_deferrable')"
        assert tuple(tx.exec_driver_sql(f"SELECT {shown}").one()) == ("acme", "read committed", "off", "off")
        raise UndoneError
    assert stored(stock) == []


def test_autocommit_within_a_unit_is_refused_with_what_to_write(use: Use, stock: Engine) -> None:
    """Nothing is sent without the prologue."""
    use()
    with pytest.raises(exc.ProgrammingError, match="AUTOCOMMIT"), db.begin(tenant="acme") as tx:
        raw_of(tx).autocommit = True
        tx.exec_driver_sql(insert(1))
    assert stored(stock) == []


def commit_by_the_driver(conn: Connection) -> None:
    raw_of(conn).commit()


def commit_by_sqlalchemy(conn: Connection) -> None:
    conn.commit()


@pytest.mark.parametrize("commit", [commit_by_the_driver, commit_by_sqlalchemy])
@pytest.mark.parametrize("fetched", [False, True])
def test_a_commit_in_a_pipeline_commits(
    commit: Callable[[Connection], None], fetched: bool, either: Engine, stock: Engine
) -> None:
    """BEGIN goes once, in front; whether or not a result was asked for in between."""
    notices: list[str | None] = []
    with either.connect() as conn:
        raw = raw_of(conn)
        raw.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        with raw.pipeline():
            conn.exec_driver_sql(insert(1))
            if fetched:
                assert raw.execute("SELECT 2").fetchone() == (2,)
            raw.execute(insert(2))
            commit(conn)
            raw.execute(insert(3))
    assert notices == []
    assert stored(stock) == [1, 2]


def test_a_savepoint_of_psycopgs_in_a_pipeline_is_one(either: Engine) -> None:
    """Its rollback leaves what was before it."""
    with either.begin() as conn:
        raw = raw_of(conn)
        with raw.pipeline():
            raw.execute(insert(1))
            with pytest.raises(UndoneError), raw.transaction():
                raw.execute(insert(2))
                raise UndoneError
    assert stored(either) == [1]


@pytest.mark.parametrize("level", ["SERIALIZABLE", "REPEATABLE READ"])
def test_the_characteristics_of_a_transaction_reach_a_pipeline(level: str, make_engine: Any) -> None:
    """DEFERRABLE must be said before any query, and is."""
    for driver in ("postgresql+serverless", "postgresql+psycopg"):
        options = {"isolation_level": level, "postgresql_readonly": True, "postgresql_deferrable": True}
        engine = make_engine(driver, execution_options=options)
        with engine.connect() as conn, raw_of(conn).pipeline():
            shown = "current_setting('transaction_isolation'), current_setting('transaction_deferrable')"
            raw_of(conn).execute("SELECT 1").fetchone()
            assert raw_of(conn).execute(f"SELECT {shown}").fetchone() == (level.lower(), "on")


def test_a_pipeline_of_a_unit_has_the_prologue(use: Use) -> None:
    """And each of its transactions, if it commits in between."""
    use()
    with db.begin(tenant="acme") as tx, raw_of(tx).pipeline():
        assert raw_of(tx).execute("SELECT current_setting('app.tenant_id')").fetchone() == ("acme",)
        raw_of(tx).commit()
        assert raw_of(tx).execute("SELECT current_setting('app.tenant_id')").fetchone() == ("acme",)


def test_a_record_that_is_reported_has_left_nothing_though_the_driver_opened_a_block(use: Use, stock: Engine) -> None:
    """The first one, whose savepoint has not been sent."""
    use()

    def handler(tx: Connection, record: Any) -> None:
        with raw_of(tx).transaction():
            raw_of(tx).execute(insert(int(record.message_id)))
        if record.message_id == "1":
            raise UndoneError

    answer = db.batch(queue_of("1", "2"), handler)
    assert [failure["itemIdentifier"] for failure in answer["batchItemFailures"]] == ["1"]
    assert stored(stock) == [2]


@pytest.mark.parametrize("end", ["rollback", "commit"])
def test_a_record_that_ends_the_batchs_transaction_fails_it(end: str, use: Use, stock: Engine) -> None:
    """What the records before it did is gone, or committed: none of them can be said to be done alone."""
    use()
    ran: list[str] = []

    def handler(tx: Connection, record: Any) -> None:
        ran.append(record.message_id)
        tx.exec_driver_sql(insert(int(record.message_id)))
        if record.message_id == "2":
            getattr(raw_of(tx), end)()
            tx.exec_driver_sql("SELECT 1")

    answer = db.batch(queue_of("1", "2", "3"), handler)
    assert [failure["itemIdentifier"] for failure in answer["batchItemFailures"]] == ["1", "2", "3"]
    assert ran == ["1", "2"]
    assert stored(stock) == ([] if end == "rollback" else [1, 2])


def test_a_tenant_outlives_a_rollback_inside_its_unit(use: Use) -> None:
    """It hangs on no command that a rollback drops, sent or not."""
    use()
    seen: list[str] = []

    def handler(tx: Connection, _record: Any) -> None:
        raw_of(tx).rollback()
        seen.append(tx.execute(TENANT).scalar_one())

    db.batch(queue_of("a"), handler, tenant="own")
    with db.begin(tenant="acme") as tx:
        raw_of(tx).rollback()
        seen.append(tx.execute(TENANT).scalar_one())
        raw_of(tx).rollback()
        seen.append(tx.execute(TENANT).scalar_one())
    assert seen == ["own", "acme", "acme"]


def test_a_tenant_of_a_later_record_outlives_a_rollback(use: Use) -> None:
    """Its own, and not that of the batch."""
    use()
    seen: list[str] = []

    def handler(tx: Connection, record: Any) -> None:
        if record.message_id == "b":
            raw_of(tx).rollback()
        seen.append(tx.execute(TENANT).scalar_one())

    db.batch(queue_of("a", "b"), handler, tenant=lambda record: record.message_id)
    assert seen == ["a", "b"]


def test_the_drivers_block_costs_what_it_does_in_stock(use: Use, wire: MakeWire) -> None:
    """BEGIN and prologue, its savepoint, the statement, its release, COMMIT."""
    proxy = wire()
    use(wire=proxy)
    with db.begin() as tx:
        tx.exec_driver_sql("SELECT 1")
    before = proxy.counts()
    with db.begin() as tx, raw_of(tx).transaction():
        raw_of(tx).execute(insert(1))
    assert (proxy.counts() - before).trips == 5
