"""No unit of work outlives its invocation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import exc, text

import db

from .conftest import Use

if TYPE_CHECKING:
    from collections.abc import Callable

    Contexts = Callable[..., Any]

LIMITS = text(
    "SELECT name, setting::int AS setting FROM pg_settings"
    " WHERE name IN ('statement_timeout', 'idle_in_transaction_session_timeout')"
)


def limits() -> dict[str, int]:
    with db.begin() as tx:
        return {row.name: row.setting for row in tx.execute(LIMITS)}


def within(context: Any, fn: Callable[[], Any]) -> Any:
    return db.invocation(lambda _event, _context: fn())({}, context)


def test_statements_are_limited_by_the_setting_outside_an_invocation(use: Use) -> None:
    """DB_STATEMENT_TIMEOUT_S, for the statement and for the pause after it."""
    use(statement_timeout_s=7)
    assert set(limits().values()) == {7000}


def test_statements_are_limited_by_the_invocation_within_one(use: Use, lambda_context: Contexts) -> None:
    """By what remains, less the reserve."""
    use(statement_timeout_s=60, deadline_reserve_s=1)
    found = within(lambda_context(remaining_s=5), limits)
    assert all(3000 <= limit <= 4000 for limit in found.values())


def test_a_statement_that_would_outlive_the_invocation_is_cancelled(use: Use, lambda_context: Contexts) -> None:
    """By the server, so that the handler still has its reserve to answer in."""
    use(deadline_reserve_s=0.5)
    context = lambda_context(remaining_s=0.8)

    def sleep() -> None:
        with db.begin() as tx:
            tx.execute(text("SELECT pg_sleep(60)"))

    with pytest.raises(exc.OperationalError) as caught:
        within(context, sleep)
    assert db.sqlstate(caught.value) == "57014"
    assert context.get_remaining_time_in_millis() > 0


def test_no_connection_is_opened_without_time(use: Use, lambda_context: Contexts) -> None:
    """The error says so, and nothing was sent."""
    use(deadline_reserve_s=0.5)
    for unit in (limits, lambda: db.run(lambda _tx: None)):
        with pytest.raises(db.DeadlineError):
            within(lambda_context(remaining_s=0.4), unit)
    assert db.status()["totals"]["connects"] == 0


def test_the_time_limits_end_with_the_transaction(use: Use) -> None:
    """A plain use of the engine does not inherit them."""
    use()
    limits()
    with db.engine().connect() as conn:
        assert {row.setting for row in conn.execute(LIMITS)} == {0}
