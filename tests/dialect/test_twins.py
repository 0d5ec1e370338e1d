"""Whatever is done in whatever order, this dialect and the stock one give, raise and leave the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

import db

from .twins import MARKS, WORK, Twins

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres

    from .conftest import Use

LEVELS = (None, "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE", "AUTOCOMMIT")

Operation = tuple[str, str | None]
OPERATIONS: st.SearchStrategy[Operation] = st.one_of(
    st.tuples(st.just("run"), st.sampled_from(sorted(WORK))),
    st.tuples(st.just("open"), st.sampled_from(LEVELS)),
    st.tuples(st.sampled_from(["begin_nested", "release", "undo", "commit", "rollback", "close", "kill"]), st.none()),
)


def apply(twins: Twins, operation: Operation) -> None:
    what, which = operation
    match what:
        case "kill":
            twins.kill()
        case "open" if not twins.is_open:
            twins.open(which)
        case _ if not twins.is_open:
            twins.open(None)
        case "run" if which is not None:
            twins.run(which)
        case "begin_nested":
            twins.both(lambda side: side.begin_nested())
        case "release" | "undo" if twins.ours.savepoints:
            twins.both(lambda side: side.end_nested("commit" if what == "release" else "rollback"))
        case "commit" | "rollback":
            twins.both(lambda side: side.end(what))
        case "close":
            twins.close()


@pytest.fixture
def make_twins(database: Database, postgres: Postgres, use: Use) -> Iterator[Callable[[], Twins]]:
    """Twins on two databases that hold the same; each call begins anew."""
    other = f"{database.name}_stock"
    postgres.create_database(other, owner=database.owner)
    use()
    stock = create_engine(database.url("owner").replace(database.name, other), pool_size=1, max_overflow=0)
    names = (database.name, other)
    for engine in (db.engine(), stock):
        MARKS.create(engine)

    def kill() -> None:
        for name in names:
            postgres.terminate(name)

    def make() -> Twins:
        kill()  # what an example that failed has left open
        for engine, name in zip((db.engine(), stock), names, strict=True):
            engine.dispose()
            postgres.execute("TRUNCATE marks", database=name)
        return Twins(db.engine(), stock, kill)

    yield make
    stock.dispose()
    postgres.drop_database(other)


def test_any_sequence_of_operations_is_as_with_the_stock_dialect(make_twins: Callable[[], Twins]) -> None:
    """Results, errors with their statement and parameters, the state after each, and the rows at the end."""

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(OPERATIONS, min_size=4, max_size=25))
    def check(operations: list[Operation]) -> None:
        twins = make_twins()
        for operation in operations:
            apply(twins, operation)
        twins.finish()

    check()


@pytest.mark.parametrize("nested", [False, True], ids=["", "in a savepoint"])
@pytest.mark.parametrize("first", sorted(set(WORK) - {"copy"}))  # what the driver does by itself is not sent again
def test_each_shape_of_statement_is_sent_again_when_the_kept_connection_was_dead(
    first: str, nested: bool, make_twins: Callable[[], Twins]
) -> None:
    """And gives or raises what it does on a fresh one, and leaves the same behind."""
    twins = make_twins()
    before: list[Operation] = [("run", "insert"), ("commit", None), ("close", None), ("open", None)]
    after: list[Operation] = [("release", None), ("run", "select"), ("commit", None)]
    for operation in [*before, ("begin_nested", None)] if nested else before:
        apply(twins, operation)
    twins.kill(then=first)
    for operation in after:
        apply(twins, operation)
    twins.finish()
