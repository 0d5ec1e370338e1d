"""What is seen of statements: slow ones, repeated ones, comments in the server's views, spans. Never a value."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import Column, Integer, MetaData, Table, Text, exc, insert, make_url, select, text

import db
from db.telemetry.fingerprint import fingerprint

from .conftest import Lines, Use

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.sdk.trace import ReadableSpan
    from sqlalchemy import Connection

    from devkit.plugin import Database, MakeLambdaContext, MakeWire

SRC = Path(__file__).parents[2] / "src"
SECRET = "bound-value"
LEDGER = Table("ledger", MetaData(), Column("n", Integer, primary_key=True), Column("tenant", Text))
MINE = text("SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()")


def in_an_invocation(context: Any, work: Callable[[Connection], object]) -> None:
    @db.invocation
    def handler(_event: Any, _context: Any) -> None:
        with db.begin() as tx:
            work(tx)

    handler({}, context)


# Slow statements.


def test_a_slow_statement_is_logged_by_its_fingerprint(
    use: Use, lines: Lines, lambda_context: MakeLambdaContext
) -> None:
    """With duration, rows and request, and without values, wherever they stood."""
    use(slow_query_s=0.01)
    context = lambda_context()
    statement = f"SELECT pg_sleep(0.02), '{SECRET}', %(bound)s::text  -- {SECRET}"
    in_an_invocation(context, lambda tx: tx.exec_driver_sql(statement, {"bound": SECRET}))
    (line,) = lines.of("slow query")
    assert line["statement"] == "SELECT pg_sleep(?), ?, ?::text"
    assert line["fingerprint"] == fingerprint(statement).id
    assert (line["rows"], line["request_id"]) == (1, context.aws_request_id)
    assert line["duration_ms"] >= 10
    assert SECRET not in json.dumps(line, default=str)


def test_a_statement_that_was_cut_short_is_logged_as_slow_too(use: Use, lines: Lines) -> None:
    """With the error in place of its rows: it is the one to look for."""
    use(slow_query_s=0.01, statement_timeout_s=0.05)
    with pytest.raises(exc.OperationalError), db.begin() as tx:
        tx.execute(text("SELECT pg_sleep(10)"))
    (line,) = lines.of("slow query")
    assert line["error"] == "QueryCanceled 57014"
    assert "rows" not in line


# Repeated statements.


def one_by_one(tx: Connection) -> None:
    for n in range(5):
        tx.execute(select(LEDGER).where(LEDGER.c.n == n))  # the line that is named


def literals(tx: Connection) -> None:
    for n in range(5):
        tx.exec_driver_sql(f"SELECT * FROM ledger WHERE tenant = '{SECRET}-{n}'")


def lists(tx: Connection) -> None:
    for n in range(5):
        tx.execute(select(LEDGER).where(LEDGER.c.n.in_(range(n + 1))))


def many_at_once(tx: Connection) -> None:
    tx.execute(text("INSERT INTO ledger VALUES (:n)"), [{"n": n} for n in range(5)])


def batches(tx: Connection) -> None:
    # RETURNING makes SQLAlchemy send batches of its own, here five.
    statement = insert(LEDGER).returning(LEDGER.c.n)
    tx.execute(statement, [{"n": n} for n in range(5)], execution_options={"insertmanyvalues_page_size": 1})


def savepoints(tx: Connection) -> None:
    for _ in range(5):
        with tx.begin_nested():
            pass


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize("work", [one_by_one, literals, lists])
def test_a_query_in_a_loop_is_warned_of(
    work: Callable[[Connection], None], use: Use, lines: Lines, lambda_context: MakeLambdaContext
) -> None:
    """Once for the invocation, with how often and how long, and without values."""
    use(statement_repeats=4)
    context = lambda_context()
    in_an_invocation(context, work)
    (line,) = lines.of("repeated statement")
    assert (line["runs"], line["request_id"]) == (5, context.aws_request_id)
    assert line["duration_ms"] > 0
    assert line["statement"].startswith("SELECT")
    assert SECRET not in json.dumps(line, default=str)


@pytest.mark.usefixtures("ledger")
def test_the_warning_names_the_line_that_ran_it(use: Use, lines: Lines, lambda_context: MakeLambdaContext) -> None:
    """The caller's, and none of the layer's or of SQLAlchemy's."""
    use(statement_repeats=4)
    in_an_invocation(lambda_context(), one_by_one)
    (line,) = lines.of("repeated statement")
    path, number = line["place"].rsplit(":", 1)
    assert Path(path) == Path(__file__)
    assert "the line that is named" in Path(path).read_text().splitlines()[int(number) - 1]


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize("work", [many_at_once, batches, savepoints])
def test_one_execution_of_many_rows_is_one_run(
    work: Callable[[Connection], None], use: Use, lines: Lines, lambda_context: MakeLambdaContext
) -> None:
    """However many statements SQLAlchemy or the driver make of it."""
    use(statement_repeats=1)
    in_an_invocation(lambda_context(), work)
    assert lines.of("repeated statement") == []


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize("budget", [0, 5])
def test_within_the_budget_or_without_one_nothing_is_said(
    budget: int, use: Use, lines: Lines, lambda_context: MakeLambdaContext
) -> None:
    """Zero is off."""
    use(statement_repeats=budget)
    in_an_invocation(lambda_context(), one_by_one)
    assert lines.of("repeated statement") == []


@pytest.mark.usefixtures("ledger")
def test_each_invocation_counts_for_itself(use: Use, lines: Lines, lambda_context: MakeLambdaContext) -> None:
    """And what runs outside of any, a migration or a script, is not counted."""
    use(statement_repeats=5)
    for _ in range(2):
        in_an_invocation(lambda_context(), one_by_one)
    with db.begin() as tx:
        one_by_one(tx)
        one_by_one(tx)
    assert lines.of("repeated statement") == []


# The name.

NAME = text("SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()")


def test_a_unit_of_work_is_named_by_function_and_request(use: Use, lambda_context: MakeLambdaContext) -> None:
    """For its length; then the session has its own name again."""
    use(function_name="orders-api")
    context, named = lambda_context(), []
    in_an_invocation(context, lambda tx: named.append(tx.execute(NAME).scalar_one()))
    with db.read() as conn:
        named.append(conn.execute(NAME).scalar_one())
    assert named == [f"orders-api:{context.aws_request_id}", "orders-api"]


def test_the_request_id_may_be_left_out(use: Use, lambda_context: MakeLambdaContext) -> None:
    """For views that group by name."""
    use(application_name="shop", application_name_request_id=False)
    named: list[str] = []
    in_an_invocation(lambda_context(), lambda tx: named.append(tx.execute(NAME).scalar_one()))
    assert named == ["shop"]


# Comments.


def seen_by_the_server(work: Callable[[Connection], Any]) -> str:
    with db.begin() as tx:
        return str(work(tx))


def test_no_comment_is_sent_unless_asked_for(use: Use) -> None:
    """The text arrives as it is."""
    use(function_name="orders-api")
    assert seen_by_the_server(lambda tx: tx.execute(MINE).scalar_one()) == str(MINE)


@pytest.mark.parametrize("parameters", [None, {"one": 1}], ids=["without parameters", "with parameters"])
def test_the_server_sees_who_sends(parameters: dict[str, int] | None, use: Use) -> None:
    """In sqlcommenter's format, percent signs as they should be."""
    use(function_name="orders/api", sql_comments="function", application_name="shop")
    query = f"{MINE} AND 1 = :one" if parameters else str(MINE)
    sent = seen_by_the_server(lambda tx: tx.execute(text(query), parameters).scalar_one())
    assert sent.removeprefix(str(MINE)).removeprefix(" AND 1 = $1") == " /*action='orders%2Fapi',application='shop'*/"


def test_a_statement_without_placeholders_keeps_its_percent_signs(use: Use) -> None:
    """The driver reads none there, and the comment's are not doubled."""
    use(function_name="orders/api", sql_comments="function")
    options = {"no_parameters": True}
    query = f"{MINE} AND 5 % 3 = 2"
    sent = seen_by_the_server(lambda tx: tx.exec_driver_sql(query, execution_options=options).scalar_one())
    assert sent == f"{query} /*application='orders%2Fapi'*/"


def test_a_request_is_named_where_that_is_wanted(use: Use, lambda_context: MakeLambdaContext) -> None:
    """For statements that are to be found from a request's log lines."""
    use(function_name="orders-api", sql_comments="request")
    context, sent = lambda_context(), []
    in_an_invocation(context, lambda tx: sent.append(tx.execute(MINE).scalar_one()))
    assert sent == [f"{MINE} /*application='orders-api',request_id='{context.aws_request_id}'*/"]


@pytest.mark.usefixtures("ledger")
def test_comments_change_neither_caches_nor_batches_nor_trips(
    use: Use, database: Database, wire: MakeWire, lambda_context: MakeLambdaContext
) -> None:
    """SQLAlchemy compiles once, executemany and savepoints work as ever, COPY is left alone."""
    spent, compiled = [], []
    for comments in ("off", "request"):
        proxy = wire()
        use(url=make_url(database.through(proxy).url()), sslmode="disable", sql_comments=comments)
        for _ in range(2):
            in_an_invocation(lambda_context(), everything)
        before = proxy.counts()
        in_an_invocation(lambda_context(), everything)
        spent.append((proxy.counts() - before).trips)
        compiled.append(len(db.engine()._compiled_cache or {}))
        db.dispose()
    assert spent[0] == spent[1]
    assert compiled[0] == compiled[1]


def everything(tx: Connection) -> None:
    tx.execute(LEDGER.delete())
    with tx.begin_nested():
        many_at_once(tx)
    with tx.begin_nested() as savepoint:
        tx.execute(insert(LEDGER).values(n=7, tenant="100%"))
        savepoint.rollback()
    with tx.connection.cursor().copy("COPY ledger FROM STDIN") as copy:
        copy.write_row((8, "acme"))
    assert tx.execute(select(LEDGER.c.n).order_by(LEDGER.c.n)).scalars().all() == [0, 1, 2, 3, 4, 8]


# Spans.


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[ReadableSpan]]:
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    # Which else can be set once for a process, and by whoever comes first.
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return lambda: list(exporter.get_finished_spans())


def test_connects_and_statements_are_spans(use: Use, database: Database, spans: Callable[[], list[Any]]) -> None:
    """Named and described as OpenTelemetry's conventions for PostgreSQL ask, without values."""
    use(trace="otel")
    with trace.get_tracer("test").start_as_current_span("handler"), db.begin() as tx:
        tx.execute(text("SELECT n FROM generate_series(1, 3) AS n WHERE CAST(n AS text) <> :v"), {"v": SECRET})
    connect, statement, handler = spans()
    peer = {
        "db.system.name": "postgresql",
        "db.namespace": database.name,
        "server.address": database.host,
        "server.port": database.port,
    }
    assert (connect.name, dict(connect.attributes)) == ("connect", peer)
    assert statement.name == "SELECT generate_series"
    assert dict(statement.attributes) == peer | {
        "db.query.text": "SELECT n FROM generate_series(?, ?) AS n WHERE CAST(n AS text) <> ?",
        "db.query.summary": "SELECT generate_series",
        "db.response.returned_rows": 3,
    }
    assert statement.kind is trace.SpanKind.CLIENT
    assert statement.parent == handler.context
    assert handler.start_time <= statement.start_time < statement.end_time <= handler.end_time


@pytest.mark.usefixtures("ledger")
def test_a_failed_statement_is_a_span_with_its_sqlstate(use: Use, spans: Callable[[], list[Any]]) -> None:
    """The server's message stays out: it quotes the row."""
    use(trace="otel")
    with pytest.raises(exc.IntegrityError), db.begin() as tx:
        many_at_once(tx)
        many_at_once(tx)
    _, first, failed = spans()
    assert first.attributes["db.operation.batch.size"] == 5
    assert first.name == first.attributes["db.query.summary"] == "BATCH INSERT ledger"
    assert (failed.attributes["error.type"], failed.attributes["db.response.status_code"]) == ("23505", "23505")
    assert failed.status.status_code is trace.StatusCode.ERROR
    assert (failed.status.description, failed.events) == (None, ())


def test_a_failed_connect_is_a_span_too(use: Use, spans: Callable[[], list[Any]]) -> None:
    """By the error's type."""
    use(trace="otel", name="nowhere")
    with pytest.raises(exc.OperationalError), db.begin():
        pass
    (span,) = spans()
    assert (span.name, span.attributes["error.type"]) == ("connect", "OperationalError")


@pytest.mark.usefixtures("spans")
def test_the_comment_carries_the_trace(use: Use) -> None:
    """So that the server's log leads to it."""
    use(trace="otel", sql_comments="request", function_name="orders-api")
    with trace.get_tracer("test").start_as_current_span("handler") as handler:
        sent = seen_by_the_server(lambda tx: tx.execute(MINE).scalar_one())
    current = handler.get_span_context()
    parent = f"00-{current.trace_id:032x}-{current.span_id:016x}-{current.trace_flags:02x}"
    assert sent == f"{MINE} /*application='orders-api',traceparent='{parent}'*/"


@pytest.mark.parametrize(("trace_to", "missing"), [("otel", "opentelemetry"), ("xray", "aws_xray_sdk")])
def test_a_tracer_that_is_not_installed_is_a_wrong_setting(
    trace_to: str, missing: str, use: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said where the database is first used."""
    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.startswith("aws_lambda_powertools.tracing")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    use(trace=trace_to)
    with pytest.raises(db.ConfigurationError, match=f"DB_TRACE={trace_to} needs a package .* {missing}"), db.begin():
        pass


PROGRAM = """
import sys
import db
from sqlalchemy import text
with db.begin() as tx:
    tx.execute(text("SELECT n FROM generate_series(1, 3) AS n WHERE CAST(n AS text) <> :v"), {"v": "bound-value"})
db.dispose()
print(*sys.modules)
"""


def run(database: Database, **environment: str) -> set[str]:
    """The modules in a process of its own that ran one statement."""
    environ = os.environ | {"DB_URL": database.url(), "PYTHONPATH": str(SRC)} | environment
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environ, check=True, capture_output=True, text=True)
    return set(done.stdout.splitlines()[-1].split())


def test_no_tracing_library_is_loaded_unless_asked_for(database: Database) -> None:
    """Nor what of the layer only they, or a slow statement, would need."""
    heavy = {"opentelemetry", "aws_xray_sdk", "wrapt", "db.telemetry.spans", "db.telemetry.fingerprint"}
    heavy |= {"db.environment.prometheus", "db.telemetry.otel_metrics", "orjson", "prometheus_client"}
    assert run(database) & heavy == set()


@pytest.fixture
def daemon() -> Iterator[socket.socket]:
    """Where X-Ray's daemon would listen, in Lambda."""
    marker = Path("/tmp/.aws-xray/initialized")  # noqa: S108 - the SDK's own choice
    was_there = marker.exists()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(10)
        yield listening
    if not was_there and marker.exists():
        marker.unlink()
        marker.parent.rmdir()


def test_subsegments_reach_x_ray_through_powertools(database: Database, daemon: socket.socket) -> None:
    """As children of the invocation's segment, with X-Ray's own block for SQL, without values."""
    address = f"127.0.0.1:{daemon.getsockname()[1]}"
    header = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
    lambda_like = {"LAMBDA_TASK_ROOT": "/var/task", "AWS_XRAY_DAEMON_ADDRESS": address, "_X_AMZN_TRACE_ID": header}
    assert "aws_xray_sdk" in run(database, DB_TRACE="xray", **lambda_like)
    connect, statement = (json.loads(daemon.recv(65536).partition(b"\n")[2]) for _ in range(2))
    for subsegment in (connect, statement):
        assert subsegment["name"] == f"{database.name}@{database.host}"
        assert subsegment["namespace"] == "remote"
        assert (subsegment["trace_id"], subsegment["parent_id"]) == (
            "1-5759e988-bd862e3fe1be46a994272793",
            "53995c3f42cd8ad8",
        )
        assert subsegment["start_time"] < subsegment["end_time"]
    shown = statement["sql"]["sanitized_query"]
    assert shown == "SELECT n FROM generate_series(?, ?) AS n WHERE CAST(n AS text) <> ?"
    assert re.fullmatch(r"postgresql://[^@]+", statement["sql"]["url"])
    assert statement["annotations"] == {"operation": "SELECT generate_series", "fingerprint": fingerprint(shown).id}
    assert connect["annotations"] == {"operation": "connect"}


def test_outside_of_lambda_powertools_turns_x_ray_off(database: Database) -> None:
    """A unit test of a handler sends nothing and needs no daemon."""
    assert "aws_xray_sdk" in run(database, DB_TRACE="xray")
