"""No unit of work outlives its invocation."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import exc, text

import db

from .conftest import Use

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres

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
    use(deadline_reserve_s=1)
    context = lambda_context(remaining_s=2)

    def sleep() -> None:
        with db.begin() as tx:
            tx.execute(text("SELECT pg_sleep(60)"))

    with pytest.raises(exc.OperationalError) as caught:
        within(context, sleep)
    assert db.sqlstate(caught.value) == "57014"
    assert context.get_remaining_time_in_millis() > 0


def test_a_transaction_of_many_statements_ends_with_the_invocation(use: Use, lambda_context: Contexts) -> None:
    """Each is within its own limit; together they would commit after the caller has gone."""
    use(deadline_reserve_s=1)
    context = lambda_context(remaining_s=2)

    def sleep() -> None:
        with db.begin() as tx:
            for _ in range(4):
                tx.execute(text("SELECT pg_sleep(0.6)"))

    with pytest.raises(exc.DBAPIError) as caught:
        within(context, sleep)
    assert db.sqlstate(caught.value) == "25P04"
    assert context.get_remaining_time_in_millis() > 0


def test_a_default_of_the_role_does_not_lift_that_limit(
    use: Use, lambda_context: Contexts, database: Database, postgres: Postgres
) -> None:
    """Its timer runs from BEGIN on, and has to be stopped before ours is started."""
    postgres.execute(f"ALTER ROLE {database.app} SET transaction_timeout = '60s'")
    test_a_transaction_of_many_statements_ends_with_the_invocation(use, lambda_context)


def test_overlapping_invocations_leave_no_deadline_behind(use: Use, lambda_context: Contexts) -> None:
    """As threads of a local server have them; the last to end is not the last to begin."""
    use()
    both, first_ended = threading.Barrier(2), threading.Event()

    def first() -> None:
        both.wait(5)

    def second() -> None:
        both.wait(5)
        first_ended.wait(5)

    context = lambda_context(remaining_s=0.1)
    threads = [threading.Thread(target=within, args=(context, fn)) for fn in (first, second)]
    threads[0].start()
    threads[1].start()
    threads[0].join(5)
    first_ended.set()
    threads[1].join(5)
    assert set(limits().values()) == {30_000}


def test_a_thread_of_the_handlers_has_the_same_deadline(use: Use, lambda_context: Contexts) -> None:
    """It has no context of its own."""
    use(statement_timeout_s=60, deadline_reserve_s=1)

    def elsewhere() -> dict[str, int]:
        with ThreadPoolExecutor(1) as threads:
            return threads.submit(limits).result()

    found = within(lambda_context(remaining_s=5), elsewhere)
    assert all(3000 <= limit <= 4000 for limit in found.values())


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
