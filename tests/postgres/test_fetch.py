"""Independent reads that leave together."""

from __future__ import annotations

import pytest
from sqlalchemy import exc, func, literal, select, text

import db

from .conftest import Lines, Use


def test_results_come_in_the_order_of_the_statements(use: Use) -> None:
    """Each is an ordinary Result, readable after the connection has gone back."""
    use()
    one, series, none = db.fetch(
        select(literal(1).label("n")), select(func.generate_series(1, 3)), text("SELECT 1 WHERE false")
    )
    assert one.mappings().one() == {"n": 1}
    assert series.scalars().all() == [1, 2, 3]
    assert none.first() is None
    assert db.status()["engines"]["writer"]["checked_out"] == 0


def test_tenant_and_time_limit_hold_for_all_of_them(use: Use) -> None:
    """And none of them can write."""
    use(statement_timeout_s=7)
    seen = select(
        func.current_setting("app.tenant_id"),
        func.current_setting("statement_timeout"),
        func.current_setting("transaction_read_only"),
    )
    assert [tuple(r.one()) for r in db.fetch(seen, seen, tenant="acme")] == [("acme", "7s", "on")] * 2


def test_the_error_of_one_is_the_error_of_all_and_names_its_statement(use: Use) -> None:
    """With the connection as good as before."""
    use()
    with pytest.raises(exc.DataError, match="division by zero") as caught:
        db.fetch(select(literal(1)), text("SELECT 1 / 0"), select(literal(2)))
    assert caught.value.statement == "SELECT 1 / 0"
    assert db.fetch(select(literal(1)))[0].scalar_one() == 1
    assert db.status()["totals"]["connects"] == 1


def test_what_cannot_leave_with_others_is_refused(use: Use) -> None:
    """Before anything is sent."""
    use()
    for statement in ("SELECT 1; SELECT 2", "COPY (SELECT 1) TO STDOUT"):
        with pytest.raises(exc.NotSupportedError, match="single statements"):
            db.fetch(select(literal(1)), text(statement))


def test_nothing_asked_is_nothing_sent(use: Use) -> None:
    """Not even a connection is opened for it."""
    use()
    assert db.fetch() == []
    assert db.status()["totals"]["statements"] == 0


def test_each_statement_counts_once(use: Use, lines: Lines) -> None:
    """Though SQLAlchemy compiles it twice."""
    use(slow_query_s=0)
    db.fetch(select(literal(1)), select(literal(2)))
    assert db.status()["totals"]["statements"] == 2
    assert len(lines.of("slow query")) == 2
