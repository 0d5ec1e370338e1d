"""The trace of a connection's life."""

from __future__ import annotations

import copy
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine, event, exc, text

import db

from .conftest import Lines, Use

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres

LEVELS = {
    "connect": logging.INFO,
    "checkout": logging.DEBUG,
    "checkin": logging.DEBUG,
    "invalidate": logging.WARNING,
    "close": logging.INFO,
    "dispose": logging.INFO,
}


def work(statement: str = "SELECT 1") -> None:
    with db.begin() as tx:
        tx.execute(text(statement))


@db.invocation
def handler(_event: Any, _context: Any) -> None:
    work()


def test_each_event_has_a_line_at_its_level(use: Use, lines: Lines, database: Database, postgres: Postgres) -> None:
    """Checkouts at DEBUG, connects at INFO, losses at WARNING."""
    use()
    work()
    postgres.terminate(database.name)
    work()
    db.dispose()
    levels = {vars(r)["connection_event"]: r.levelno for r in lines.records if "connection_event" in vars(r)}
    assert levels == LEVELS


def test_a_line_says_who_where_and_how_long(use: Use, lines: Lines, lambda_context: Callable[..., Any]) -> None:
    """Duration, age, backend, pool, role, cold or warm, request id."""
    use()
    context = lambda_context(remaining_s=10)
    handler({}, context)
    (connect,) = lines.of("connect")
    (checkin,) = lines.of("checkin")
    assert connect["duration_ms"] > 0
    assert connect["backend_pid"] == checkin["backend_pid"]
    assert (connect["role"], connect["pool"], connect["request_id"]) == ("writer", "queue", context.aws_request_id)
    assert isinstance(connect["cold"], bool)
    assert checkin["age_s"] >= checkin["held_s"] >= 0


def test_a_loss_names_the_backend_that_is_gone(use: Use, lines: Lines, database: Database, postgres: Postgres) -> None:
    """As the server's own log does."""
    use()
    work()
    postgres.terminate(database.name)
    work()
    first, _ = lines.of("connect")
    assert [lines.of(event)[0]["backend_pid"] for event in ("invalidate", "close")] == [first["backend_pid"]] * 2


def test_a_reused_connection_says_so(use: Use, lines: Lines) -> None:
    """With how long it was idle."""
    use()
    work()
    work()
    assert [line["reused"] for line in lines.of("checkout")] == [False, True]
    assert lines.of("checkout")[1]["idle_s"] >= 0


def test_a_failed_connect_is_logged_with_its_verdict(use: Use, lines: Lines, database: Database) -> None:
    """And with what the server said: that names host, user and database, and no value."""
    use(name="nowhere")
    with pytest.raises(exc.OperationalError):
        work()
    (line,) = lines.of("connect failed")
    assert (line["error"], line["verdict"]) == ("OperationalError", "give up: another try would fail alike")
    assert 'database "nowhere" does not exist' in line["reason"]


def test_a_replay_is_said_with_both_connections(use: Use, lines: Lines, database: Database, postgres: Postgres) -> None:
    """The handler notices nothing, so the log is the one place that tells."""
    use(pool_pre_ping=False)
    work()
    postgres.terminate(database.name)
    work()
    first, second = lines.of("connect")
    (lost,), (replay,) = lines.of("invalidate"), lines.of("replay")
    assert (lost["backend_pid"], replay["backend_pid"]) == (first["backend_pid"], second["backend_pid"])
    assert replay["error"].startswith(("AdminShutdown", "OperationalError"))
    assert lines.of("checkin")[-1]["held_s"] >= 0


def test_watching_leaves_each_connection_without_events_of_its_own(use: Use) -> None:
    """A listener to the engine's would cost every transaction more than the watching itself."""
    use()
    assert not db.engine()._has_events


@pytest.mark.parametrize("target", [Engine, None])
def test_a_listener_of_the_users_own_is_heard(target: type[Engine] | None, use: Use) -> None:
    """Whether it was given to the engine, or to all engines after this one was made."""
    use()
    engine = db.engine()
    listening_to = target or engine
    heard: list[str] = []

    def hear(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        heard.append(statement)

    event.listen(listening_to, "before_cursor_execute", hear)
    work()
    event.remove(listening_to, "before_cursor_execute", hear)
    assert heard == ["SELECT 1"]


@pytest.mark.parametrize("derive", [copy.copy, lambda engine: engine.execution_options(logging_token="x")])
def test_a_derived_engine_says_that_it_is_disposed(derive: Callable[[Engine], Engine], use: Use, lines: Lines) -> None:
    """With the number of connections that are still open, whichever engine they came from."""
    use()
    derived = derive(db.engine())
    with derived.connect():
        derived.dispose()
    assert [line["left_open"] for line in lines.of("dispose")] == [1]


def test_metrics_are_printed_once_per_invocation(
    use: Use, lambda_context: Callable[..., Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In CloudWatch's embedded format, under the namespace that Powertools is told."""
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Shop")
    use()
    handler({}, lambda_context(remaining_s=10))
    handler({}, lambda_context(remaining_s=10))
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line)
    assert first["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Shop"
    shown = [(m["Connects"], m["Checkouts"], m["Reuses"], m["Statements"]) for m in (first, second)]
    assert shown == [([1.0], [1.0], [0.0], [1.0]), ([0.0], [1.0], [1.0], [1.0])]
    assert first["ConnectMs"][0] > 0
    assert first["DatabaseMs"][0] > 0


def test_an_invocation_that_touches_no_database_prints_no_metrics(
    use: Use, lambda_context: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """CloudWatch bills by the metric."""
    use()
    db.invocation(lambda _event, _context: None)({}, lambda_context(remaining_s=10))
    assert '"_aws"' not in capsys.readouterr().out


@pytest.mark.parametrize("pool", ["queue", "null"])
def test_a_connection_left_checked_out_is_warned_of(
    pool: str, use: Use, lines: Lines, lambda_context: Callable[..., Any]
) -> None:
    """It would idle in its transaction for as long as the environment is frozen."""
    use(pool=pool)
    kept = []

    @db.invocation
    def leaky(_event: Any, _context: Any) -> None:
        kept.append(db.engine().connect())

    leaky({}, lambda_context(remaining_s=10))
    (line,) = lines.of("leak")
    assert line["checked_out"] == db.status()["engines"]["writer"]["checked_out"] == 1
    kept.pop().close()


def test_echo_inside_lambda_is_warned_of(use: Use, lines: Lines) -> None:
    """It stays on, and somebody should know what it costs."""
    use(echo_pool="on", function_name="orders-api")
    assert [r.getMessage() for r in lines.records if r.levelno == logging.WARNING] == ["SQL echo is on inside Lambda"]


def test_bound_values_are_hidden_from_exceptions_unless_wanted(use: Use) -> None:
    """Exceptions end up in logs."""
    shown = []
    for hidden in (True, False):
        use(hide_parameters=hidden)
        with pytest.raises(exc.ProgrammingError) as caught, db.begin() as tx:
            tx.execute(text("SELECT * FROM nowhere WHERE x = :x"), {"x": "bound-value"})
        shown.append("bound-value" in str(caught.value))
    assert shown == [False, True]
