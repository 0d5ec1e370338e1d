"""Rows that come bit by bit: over SQLAlchemy's server-side cursors, and over those that a program names itself."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import exc, text

import db
from db.errors import sqlstate

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, CursorResult, Engine

    from .conftest import Use

    Reading = Callable[[CursorResult[Any], int], list[Any]]

COUNT = text("SELECT generate_series(1, :rows)")
OPEN = text("SELECT count(*) FROM pg_cursors WHERE name LIKE 'c\\_%' OR name = 'apart'")
PER = {"yield_per": 3}


def one_by_one(result: CursorResult[Any], _: int) -> list[Any]:
    return [n for (n,) in result]


def in_partitions(result: CursorResult[Any], at_a_time: int) -> list[Any]:
    parts = list(result.partitions(at_a_time))
    assert [len(part) for part in parts[:-1]] == [at_a_time] * (len(parts) - 1), "only the last may be shorter"
    return [n for (n,) in chain.from_iterable(parts)]


def at_once(result: CursorResult[Any], _: int) -> list[Any]:
    return list(result.scalars().all())


def the_rest_at_once(result: CursorResult[Any], at_a_time: int) -> list[Any]:
    first = result.fetchmany(at_a_time)
    return [n for (n,) in [*first, *result.fetchall()]]


def from_the_driver(result: CursorResult[Any], at_a_time: int) -> list[Any]:
    """By the methods of the driver's cursor, below the row that SQLAlchemy has read."""
    cursor: Any = result.cursor
    first = [n for (n,) in result.fetchmany(1)]
    if not first:
        return []
    return [*first, *(n for (n,) in [*cursor.fetchmany(at_a_time), *cursor])]


@pytest.mark.parametrize("read", [one_by_one, in_partitions, at_once, the_rest_at_once, from_the_driver])
def test_every_row_comes_once_and_in_order(read: Reading, use: Use) -> None:
    """However many there are, and however many are asked for at a time."""
    use()
    with db.begin() as tx:
        for options in ({}, {"yield_per": 2}, {"yield_per": 4}, {"max_row_buffer": 1}):
            for rows in (0, 1, 2, 3, 4, 5, 6, 7, 12):
                for at_a_time in (1, 2, 5):
                    result = tx.execute(COUNT, {"rows": rows}, execution_options={"stream_results": True, **options})
                    assert read(result, at_a_time) == [*range(1, rows + 1)], (options, rows, at_a_time)
                    result.close()
        assert tx.execute(OPEN).scalar_one() == 0


def test_no_more_rows_are_made_than_were_asked_for(use: Use) -> None:
    """A row more than ``yield_per``: the one that SQLAlchemy reads ahead by itself."""
    use()
    with db.begin() as tx:
        tx.execute(text("CREATE SEQUENCE made"))
        asked = text("SELECT nextval('made') FROM generate_series(1, 100)")
        made = []
        with tx.execute(asked, execution_options=PER) as result:
            for _ in result.partitions(3):
                made.append(tx.execute(text("SELECT last_value FROM made")).scalar_one())
                if len(made) == 3:
                    break
        assert made == [4, 6, 9]


@pytest.mark.parametrize(
    ("statement", "code"),
    [("SELECT n FROM missing", "42P01"), ("SELECT 1 / (n - 2) FROM generate_series(1, 3) n", "22012")],
)
def test_an_error_is_raised_where_the_statement_is_executed(statement: str, code: str, use: Use) -> None:
    """That of the first rows as well, which come with it; the transaction goes on behind a savepoint."""
    use()
    with db.begin() as tx:
        with pytest.raises(exc.DBAPIError) as caught, tx.begin_nested():
            tx.execute(text(statement), execution_options=PER)
        assert sqlstate(caught.value) == code
        assert tx.execute(COUNT, {"rows": 2}, execution_options=PER).scalars().all() == [1, 2]


def test_an_error_of_a_later_row_is_raised_there(use: Use) -> None:
    """What came before it has been read by then."""
    use()
    read = []
    with db.begin() as tx, pytest.raises(exc.DBAPIError) as caught, tx.begin_nested():
        for (n,) in tx.execute(text("SELECT 60 / (n - 6) FROM generate_series(1, 9) n"), execution_options=PER):
            read.append(n)
    assert (read, sqlstate(caught.value)) == ([-12, -15, -20, -30], "22012")


def alter(tx: Connection) -> None:
    tx.execute(text("ALTER TABLE ledger ADD COLUMN more int"))


def two_in_a_text(tx: Connection) -> None:
    tx.exec_driver_sql("ALTER TABLE ledger ADD COLUMN more int; ALTER TABLE ledger ADD COLUMN even_more int")


def in_a_pipeline(tx: Connection) -> None:
    driver: Any = tx.connection.driver_connection
    with driver.pipeline():
        driver.execute("ALTER TABLE ledger ADD COLUMN more int")


def by_fetching(tx: Connection) -> None:
    assert tx.execute(COUNT, {"rows": 9}, execution_options=PER).scalars().all() == [*range(1, 10)]
    alter(tx)


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize("then", [alter, two_in_a_text, in_a_pipeline, by_fetching])
def test_a_result_that_was_left_half_way_holds_nothing_up(then: Callable[[Connection], None], use: Use) -> None:
    """The server refuses to alter a table that an open cursor reads: it is closed ahead of whatever comes next."""
    use()
    with db.begin() as tx:
        tx.execute(text("INSERT INTO ledger (n) SELECT generate_series(1, 9)"))
        result = tx.execute(text("SELECT n FROM ledger"), execution_options=PER)
        assert result.scalars().fetchmany(2) == [1, 2]
        result.close()
        then(tx)
        assert tx.execute(OPEN).scalar_one() == 0


@pytest.mark.usefixtures("ledger")
def test_a_cursor_that_a_savepoint_took_along_is_closed_without_an_error(use: Use) -> None:
    """Nor does the next statement meet one."""
    use()
    with db.begin() as tx:
        savepoint = tx.begin_nested()
        result = tx.execute(COUNT, {"rows": 9}, execution_options=PER)
        savepoint.rollback()
        tx.execute(text("INSERT INTO ledger (n) VALUES (1)"))
        result.close()
        assert tx.execute(text("SELECT n FROM ledger")).scalars().all() == [1]


def test_an_end_that_a_savepoint_is_rolled_back_behind_stays(use: Use) -> None:
    """Nothing of what was due is forgotten with what was never sent."""
    use()
    with db.begin() as tx:
        result = tx.execute(COUNT, {"rows": 9}, execution_options=PER)
        with tx.begin_nested() as savepoint:
            result.close()
            savepoint.rollback()
        assert tx.execute(OPEN).scalar_one() == 0


def test_two_results_are_read_in_turn(use: Use) -> None:
    """Each has a place of its own, with a savepoint around each pair."""
    use()
    with db.read() as conn:
        options = {"stream_results": True, "max_row_buffer": 2}
        first = conn.execute(COUNT, {"rows": 9}, execution_options=options).scalars()
        pairs: list[tuple[int, int]] = []
        for n in conn.execute(COUNT, {"rows": 9}, execution_options=options).scalars():
            with conn.begin_nested():
                pairs.append((n, first.fetchmany(1)[0]))
        assert first.all() == []
    assert pairs == [(n, n) for n in range(1, 10)]


def test_a_cursor_is_scrolled_from_where_the_program_is(either: Engine) -> None:
    """And not from where the server is, which has sent more."""
    with either.begin() as tx:
        cursor: Any = tx.execute(COUNT, {"rows": 20}, execution_options={"stream_results": True}).cursor
        found = []
        for value, mode in ((0, "relative"), (2, "relative"), (9, "relative"), (18, "absolute")):
            cursor.scroll(value, mode)
            found.append(cursor.fetchone()[0])
        cursor.close()
    assert found == [2, 5, 15, 19]


@pytest.mark.parametrize("rows", [3, 4, 9])
def test_a_cursor_is_scrolled_back_from_where_the_program_is(rows: int, either: Engine) -> None:
    """Where the server has come to the end of the rows and the program has not, and where both have."""
    asked = text("SELECT n FROM generate_series(1, :rows) n")
    with either.begin() as tx:
        for read in (1, rows - 1, rows, rows + 1):
            cursor: Any = tx.execute(asked, {"rows": rows}, execution_options={"stream_results": True}).cursor
            for _ in range(read - 1):  # the first, SQLAlchemy has read
                cursor.fetchone()
            cursor.scroll(-1)
            assert [n for (n,) in cursor.fetchall()] == [*range(read, rows + 1)], read
            cursor.close()


def test_as_many_rows_are_asked_for_as_can_be(either: Engine) -> None:
    """And none more, which the server would take for an error of syntax."""
    with either.begin() as tx:
        result = tx.execute(COUNT, {"rows": 3}, execution_options={"yield_per": 2**31 - 1})
        assert result.scalars().all() == [1, 2, 3]


@pytest.mark.parametrize("is_first", [True, False])
def test_a_cursor_of_the_drivers_is_where_its_program_left_it(is_first: bool, either: Engine) -> None:
    """Whatever else moves it: nothing of it is fetched ahead."""
    with either.begin() as tx:
        driver: Any = tx.connection.driver_connection
        if not is_first:
            tx.execute(COUNT, {"rows": 1})
        with driver.cursor("apart", scrollable=True) as cursor:
            cursor.execute("SELECT generate_series(1, %s) AS n", [9])
            assert [column.name for column in cursor.description] == ["n"]
            assert (cursor.rownumber, cursor.rowcount) == (0, -1)
            assert tx.exec_driver_sql("FETCH 2 FROM apart").scalars().all() == [1, 2]
            assert cursor.fetchmany(9) == [(n,) for n in range(3, 10)]
            tx.exec_driver_sql("MOVE ABSOLUTE 7 IN apart")
            assert cursor.fetchall() == [(8,), (9,)]
            cursor.execute("SELECT 'anew'")
            assert cursor.fetchone() == ("anew",)
        with driver.cursor("apart") as cursor:
            cursor.execute("SELECT 'once more'")
            assert [*cursor] == [("once more",)]
        assert tx.execute(OPEN).scalar_one() == 0


def test_a_cursor_with_hold_outlives_its_transaction_until_it_is_closed(either: Engine) -> None:
    """In the one that comes then, or in none."""
    with either.connect() as conn:
        driver: Any = conn.connection.driver_connection
        with driver.cursor("apart", withhold=True) as cursor:
            cursor.execute("SELECT generate_series(1, 3)")
            conn.commit()
            assert cursor.fetchall() == [(1,), (2,), (3,)]
            conn.execute(COUNT, {"rows": 1})
        conn.rollback()
        assert conn.execute(OPEN).scalar_one() == 0


def test_a_text_that_ends_the_transaction_in_a_pipeline_leaves_nothing_due(either: Engine) -> None:
    """Neither the end of a cursor nor that of a savepoint: the connection is in no transaction then."""
    with either.connect() as conn:
        driver: Any = conn.connection.driver_connection
        with conn.begin_nested():
            assert conn.execute(COUNT, {"rows": 1}, execution_options=PER).scalars().all() == [1]
        with driver.pipeline():
            driver.execute("COMMIT")
        assert driver.info.transaction_status is psycopg.pq.TransactionStatus.IDLE
        driver.autocommit = True
        driver.autocommit = False


def close_a_cursor(conn: Connection) -> None:
    assert conn.execute(COUNT, {"rows": 1}, execution_options=PER).scalars().all() == [1]


def release_a_savepoint(conn: Connection) -> None:
    with conn.begin_nested():
        conn.execute(COUNT, {"rows": 1})


@pytest.mark.parametrize("leave", [close_a_cursor, release_a_savepoint])
def test_a_transaction_that_was_prepared_leaves_nothing_due(
    leave: Callable[[Connection], None], either: Engine
) -> None:
    """Else a BEGIN goes ahead of COMMIT PREPARED, which the server refuses in a transaction."""
    with either.connect() as conn:
        transaction = conn.begin_twophase()
        leave(conn)
        transaction.prepare()
        transaction.commit()
        assert conn.recover_twophase() == []


def by_sqlalchemy(conn: Connection) -> None:
    conn.commit()


def by_a_text(conn: Connection) -> None:
    conn.exec_driver_sql("COMMIT")


def by_preparing(conn: Connection) -> None:
    driver: Any = conn.connection.driver_connection
    driver.tpc_prepare()


@pytest.mark.parametrize("commit", [by_sqlalchemy, by_a_text, by_preparing])
@pytest.mark.parametrize("leave", [close_a_cursor, release_a_savepoint])
def test_a_commit_that_is_refused_leaves_nothing_due(
    leave: Callable[[Connection], None], commit: Callable[[Connection], None], either: Engine
) -> None:
    """It has ended the transaction, of which the connection is free then."""
    with either.connect() as conn:
        driver: Any = conn.connection.driver_connection
        conn.execute(text("CREATE TABLE late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)"))
        conn.commit()
        if commit is by_preparing:
            driver.tpc_begin("late")
        conn.execute(text("INSERT INTO late VALUES (1), (1)"))
        leave(conn)
        with pytest.raises((exc.IntegrityError, psycopg.IntegrityError)):
            commit(conn)
        assert driver.info.transaction_status is psycopg.pq.TransactionStatus.IDLE
        conn.invalidate()


def test_autocommit_has_no_transaction_for_a_cursor(either: Engine) -> None:
    """The server's own refusal."""
    with either.connect() as conn:
        conn.execution_options(isolation_level="AUTOCOMMIT")
        with pytest.raises(exc.DBAPIError) as caught:
            conn.execute(COUNT, {"rows": 1}, execution_options=PER)
    assert sqlstate(caught.value) == "25P01"


def test_names_of_statements_are_kept_for_those_that_come_again(use: Use) -> None:
    """A DECLARE does not: it names another cursor each time. The prologue's name is used as ever."""
    use(prepare=1)
    with db.begin() as tx:
        for _ in range(3):
            assert tx.execute(COUNT, {"rows": 5}, execution_options=PER).scalars().all() == [*range(1, 6)]
        named = tx.execute(text("SELECT statement FROM pg_prepared_statements")).scalars().all()
    assert not [statement for statement in named if "DECLARE" in statement]


def test_a_cursor_in_binary_gives_what_one_in_text_does(use: Use) -> None:
    """With rows that came ahead, and with those that did not."""
    use()
    with db.begin() as tx:
        driver: Any = tx.connection.driver_connection
        with driver.cursor("apart") as cursor:
            cursor.rows_ahead = 2
            cursor.execute("SELECT n, n::text, n::float8 FROM generate_series(1, 5) n", binary=True)
            assert cursor.fetchall() == [(n, str(n), float(n)) for n in range(1, 6)]


def test_what_cannot_be_sent_is_refused_as_psycopg_does(either: Engine) -> None:
    """On a cursor that is closed, or within a pipeline."""
    with either.begin() as tx:
        driver: Any = tx.connection.driver_connection
        with driver.cursor("apart") as cursor, driver.pipeline(), pytest.raises(psycopg.NotSupportedError):
            cursor.execute("SELECT 1")
        for call in (lambda: cursor.execute("SELECT 1"), cursor.fetchone):
            with pytest.raises(psycopg.InterfaceError, match="closed"):
                call()
