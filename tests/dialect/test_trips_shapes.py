"""What further shapes of work cost on the wire, in round trips, each on a kept connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import exc, insert, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import db

from .verbs import MARKS

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine

    from devkit.plugin import MakeWire

    from .conftest import Use

ONE = text("SELECT 1")
Shape = tuple["Callable[[Connection], object]", int]
SHAPES: dict[str, Shape] = {}


def costs(trips: int) -> Callable[[Callable[[Connection], object]], None]:
    def add(work: Callable[[Connection], object]) -> None:
        SHAPES[work.__name__.replace("_", " ")] = work, trips

    return add


@costs(2)
def a_savepoint_goes_with_its_statement_and_its_release_with_the_commit(conn: Connection) -> None:
    with conn.begin_nested():
        conn.execute(ONE)
    conn.commit()


@costs(2)
def savepoints_in_savepoints_cost_no_more(conn: Connection) -> None:
    with conn.begin_nested(), conn.begin_nested(), conn.begin_nested():
        conn.execute(ONE)
    conn.commit()


@costs(0)
def an_empty_savepoint_is_free(conn: Connection) -> None:
    with conn.begin_nested():
        pass
    conn.commit()


@costs(3)
def a_way_back_to_a_savepoint_goes_with_what_follows(conn: Connection) -> None:
    savepoint = conn.begin_nested()
    conn.execute(ONE)
    savepoint.rollback()
    conn.execute(ONE)
    conn.commit()


@costs(3)
def a_failure_in_a_savepoint_costs_no_more(conn: Connection) -> None:
    with pytest.raises(exc.DataError), conn.begin_nested():
        conn.execute(text("SELECT 1 / 0"))
    conn.execute(ONE)
    conn.commit()


@costs(2)
def executemany_takes_the_begin_along(conn: Connection) -> None:
    conn.execute(insert(MARKS), [{"n": n} for n in range(1, 50)])
    conn.rollback()


@costs(2)
def insertmanyvalues_takes_the_begin_along(conn: Connection) -> None:
    conn.execute(insert(MARKS).returning(MARKS.c.n), [{"n": n} for n in range(1, 50)])
    conn.rollback()


@costs(4)
def copy_stands_behind_a_flight_of_its_own(conn: Connection) -> None:
    driver: Any = conn.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy("COPY marks (n) FROM STDIN") as copy:
        copy.write("1\n")
    driver.rollback()


@costs(4)
def a_block_of_the_drivers_begins_and_ends_by_itself(conn: Connection) -> None:
    driver: Any = conn.connection.driver_connection
    with driver.transaction(), driver.transaction():  # BEGIN; SAVEPOINT is one
        pass  # RELEASE; COMMIT


@costs(3)
def a_pipeline_of_the_drivers_stands_behind_begin(conn: Connection) -> None:
    driver: Any = conn.connection.driver_connection
    with driver.pipeline():
        driver.execute("SELECT 1")
        driver.execute("SELECT 2")
    driver.rollback()


@costs(3)
def a_stream_of_the_drivers_stands_behind_begin(conn: Connection) -> None:
    driver: Any = conn.connection.driver_connection
    with driver.cursor() as cursor:
        assert [*cursor.stream("SELECT 1")] == [(1,)]
    driver.rollback()


def streamed(conn: Connection, rows: int) -> None:
    asked = text("SELECT generate_series(1, :rows)")
    found = conn.execute(asked, {"rows": rows}, execution_options={"yield_per": 3}).scalars()
    assert [*found] == [*range(1, rows + 1)]


@costs(2)
def rows_bit_by_bit_that_all_come_at_once_cost_as_any_statement(conn: Connection) -> None:
    streamed(conn, rows=3)
    conn.rollback()


@costs(4)
def rows_bit_by_bit_cost_a_trip_for_each_batch(conn: Connection) -> None:
    streamed(conn, rows=9)
    conn.commit()


@costs(3)
def the_end_of_a_server_side_cursor_goes_with_what_follows(conn: Connection) -> None:
    with conn.execute(text("SELECT generate_series(1, 99)"), execution_options={"yield_per": 3}):
        pass
    conn.execute(ONE)
    conn.commit()


@costs(3)
def a_savepoint_for_each_batch_costs_no_more(conn: Connection) -> None:
    found = conn.execute(text("SELECT generate_series(1, 6)"), execution_options={"yield_per": 3})
    for _ in found.partitions():
        with conn.begin_nested():
            pass
    conn.commit()


@costs(4)
def a_server_side_cursor_of_the_drivers_is_declared_in_the_flight_of_begin(conn: Connection) -> None:
    driver: Any = conn.connection.driver_connection
    with driver.cursor("apart") as cursor:
        cursor.execute("SELECT generate_series(1, 3)")
        assert cursor.fetchmany(3)
        assert not cursor.fetchmany(3)
    driver.rollback()


@costs(1)
def autocommit_has_nothing_to_open(conn: Connection) -> None:
    conn.execution_options(isolation_level="AUTOCOMMIT")
    conn.execute(ONE)


@costs(3)
def two_statements_in_a_text_stand_behind_a_flight_of_their_own(conn: Connection) -> None:
    conn.exec_driver_sql("SELECT 1; SELECT 2")
    conn.commit()


@costs(2)
def what_begins_with_a_comment_shares_a_flight(conn: Connection) -> None:
    conn.exec_driver_sql("/* why */ SELECT 1")
    conn.commit()


@costs(2)
def the_drivers_sql_costs_the_same(conn: Connection) -> None:
    conn.exec_driver_sql("SELECT 1")
    conn.commit()


@costs(2)
def a_failing_first_statement_has_a_transaction_to_roll_back(conn: Connection) -> None:
    with pytest.raises(exc.DataError):
        conn.execute(text("SELECT 1 / 0"))
    conn.rollback()


@costs(2)
def an_isolation_level_rides_in_the_begin(conn: Connection) -> None:
    conn.execution_options(isolation_level="SERIALIZABLE")
    conn.execute(ONE)
    conn.commit()


@costs(4)
def two_phases_are_as_with_the_stock_dialect(conn: Connection) -> None:
    transaction = conn.begin_twophase()  # BEGIN
    conn.execute(ONE)
    transaction.prepare()
    transaction.commit()


class Base(DeclarativeBase):
    pass


class Mark(Base):
    __tablename__ = "marks"
    n: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str | None]


@costs(2)
def a_flush_of_the_orm_opens_the_transaction(conn: Connection) -> None:
    with Session(conn) as orm:
        orm.add_all([Mark(n=1), Mark(n=2)])
        orm.flush()
    conn.rollback()


@costs(2)
def an_orm_savepoint_costs_no_more(conn: Connection) -> None:
    with Session(conn) as orm, orm.begin_nested():
        orm.scalars(select(Mark)).all()
    conn.rollback()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_trips_of(shape: str, stock: Engine, use: Use, wire: MakeWire) -> None:
    """The name says why."""
    work, trips = SHAPES[shape]
    MARKS.create(stock)
    proxy = wire()
    use(wire=proxy)
    with db.engine().begin() as conn:
        conn.execute(ONE)
    with db.engine().connect() as conn:
        before = proxy.counts()
        work(conn)
        spent = proxy.counts() - before
    assert (spent.trips, spent.connections) == (trips, 0)
