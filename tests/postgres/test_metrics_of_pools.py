"""The numbers of pools and statements: for Prometheus as text and by a collector, for OpenTelemetry by its SDK."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Sum
from opentelemetry.semconv._incubating.metrics import db_metrics
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import exc, text

import db
from db import aio
from db.environment import process, prometheus
from db.telemetry import log, otel_metrics

from .conftest import Lines, Use

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devkit.plugin import Database, MakeLambdaContext

ONE = text("SELECT 1")
POOL, STATE = "db.client.connection.pool.name", "db.client.connection.state"


@pytest.fixture(autouse=True)
def nothing_counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What other tests have counted is not in the way, nor a database of theirs that something still has."""
    default = process.DEFAULT
    monkeypatch.setattr(process, "_all", {id(default): weakref.ref(default)})
    monkeypatch.setattr(default, "_past", [])
    yield
    for holder in process.holders():
        holder.dispose()


def scraped(exposition: str | None = None) -> dict[tuple[str, ...], float]:
    """Each sample of the text, by its name and what tells it from others of that name."""
    found = {}
    for family in text_string_to_metric_families(prometheus.text() if exposition is None else exposition):
        for sample in family.samples:
            state = sample.labels.get("db_client_connection_state")
            key = sample.name, sample.labels["db_client_connection_pool_name"], *([state] if state else [])
            assert key not in found
            found[key] = sample.value
    return found


def read(times: int = 1) -> None:
    for _ in range(times):
        with db.read() as conn:
            conn.execute(ONE)


# Prometheus.


def test_the_text_has_what_status_has(use: Use) -> None:
    """By the names that OpenTelemetry's have there, where there are such."""
    use()
    read(3)
    with db.begin() as tx:
        tx.execute(ONE)
        found = scraped()
    pool = "db/writer"
    totals = db.status()["totals"]
    assert {key: value for key, value in found.items() if "seconds" not in key[0]} == {
        ("db_client_connection_count", pool, "idle"): 0,
        ("db_client_connection_count", pool, "used"): 1,
        ("db_client_connection_max", pool): 1,
        ("db_client_connection_idle_max", pool): 1,
        ("db_client_connection_pending_requests", pool): 0,
        ("db_client_connection_timeouts_total", pool): 0,
        ("db_client_connection_checkouts_total", pool): 4,
        ("db_client_connection_reuses_total", pool): 3,
        ("db_client_connection_invalidations_total", pool): 0,
        ("db_client_connection_closes_total", pool): 0,
        ("db_client_statements_total", pool): 4,
    }
    assert found["db_client_connection_create_time_seconds_count", pool] == totals["connects"] == 1
    assert found["db_client_connection_create_time_seconds_sum", pool] == pytest.approx(totals["connect_ms"] / 1000)
    assert found["db_client_database_seconds_total", pool] > 0
    assert scraped()["db_client_connection_count", pool, "idle"] == 1


def test_a_registry_gives_the_same_by_the_collector(use: Use) -> None:
    """Sample by sample."""
    use()
    read(2)
    registry = CollectorRegistry()
    registry.register(prometheus.Collector())
    assert scraped(generate_latest(registry).decode()) == scraped()


def test_each_database_and_the_pool_of_tasks_are_apart(use: Use, database: Database) -> None:
    """One that is not used is not there, and one that nobody has any more is gone."""
    use()
    audit = db.Database(db.Settings(url=database.url()), name="audit")
    unused = db.Database(db.Settings(url=database.url()), name="unused")

    async def in_tasks() -> None:
        async def one() -> None:
            async with aio.read() as conn:
                await conn.execute(ONE)

        await asyncio.gather(*(one() for _ in range(20)))

    with audit.read() as conn:
        conn.execute(ONE)
    read(2)
    asyncio.run(in_tasks())
    found, name = scraped(), "db_client_statements_total"
    counted = {key[1]: value for key, value in found.items() if key[0] == name}
    assert counted == {"db/writer": 2, "db/aio writer": 20, "audit/writer": 1}
    assert found["db_client_connection_max", "db/aio writer"] == 4
    del audit, unused
    gc.collect()
    assert {key[1] for key in scraped()} == {"db/writer", "db/aio writer"}


def test_two_databases_of_one_name_are_one(use: Use, database: Database) -> None:
    """A text with the same sample twice is refused by Prometheus as a whole."""
    twins = [db.Database(db.Settings(url=database.url()), name="twin") for _ in range(2)]
    for twin in twins:
        with twin.read() as conn:
            conn.execute(ONE)
    found = scraped()
    assert found["db_client_statements_total", "twin/writer"] == 2
    assert found["db_client_connection_count", "twin/writer", "idle"] == 2
    for twin in twins:
        twin.dispose()


FORK = """
import os, sys, threading, time
import db
from db.environment import process, prometheus
from sqlalchemy import text

def read():
    with db.read() as conn:
        conn.execute(text("SELECT 1"))

@db.invocation
def handler(event, context):
    read()
    if os.fork():
        os.wait()
    read()
    read()

read()
db.configure()  # what was counted before is told under its pool's name as well
with db.begin() as tx:
    tx.execute(text("SELECT 1"))
    waits = threading.Thread(target=read)  # for the only connection
    waits.start()
    while not process.pools()[0].pending:
        time.sleep(0.01)
    if not os.fork():
        sys.stdout.write(prometheus.text() + "---\\n")
        sys.stdout.flush()
        os._exit(0)
    os.wait()
waits.join()
handler({}, None)  # the child's, then the parent's
sys.stdout.flush()
"""


def test_a_forked_child_counts_from_nothing(database: Database) -> None:
    """Its pool is empty and nobody waits; the metrics of a call are those of its own part of it."""
    environment = os.environ | {"DB_URL": database.url(), "POWERTOOLS_LOG_LEVEL": "CRITICAL"}
    command = [sys.executable, "-W", "ignore", "-c", FORK]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    at_first, of_call = done.stdout.split("---\n")
    assert {value for key, value in scraped(at_first).items() if not key[0].endswith("_max")} == {0}
    assert [json.loads(line)["Statements"] for line in of_call.splitlines()] == [[2], [3]]


def test_configure_makes_no_counter_fall(use: Use) -> None:
    """Though ``db.status()`` begins anew, with the runtime: what went before is kept, and what was open is closed."""
    for runtime in range(1, 5):
        use()
        read(2)
        assert db.status()["totals"]["statements"] == 2
        found = scraped()
        counted = [found[f"db_client_connection_{name}_total", "db/writer"] for name in ("checkouts", "closes")]
        assert counted == [2 * runtime, runtime - 1]


def test_threads_lose_no_count(use: Use) -> None:
    """Those of one pool, at the same time."""
    use(pool_size=3)
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda _: read(25), range(6)))
    found = scraped()
    assert found["db_client_statements_total", "db/writer"] == 150
    assert found["db_client_connection_count", "db/writer", "used"] == 0


def test_who_waits_in_vain_is_seen(use: Use) -> None:
    """While it waits, and for ever after."""
    use(pool_timeout_s=0.2)
    with ThreadPoolExecutor(1) as threads, db.begin() as tx:
        tx.execute(ONE)
        waiting = threads.submit(read)
        while not scraped()["db_client_connection_pending_requests", "db/writer"]:
            assert not waiting.done()
        assert isinstance(waiting.exception(), exc.TimeoutError)
    found = scraped()
    assert found["db_client_connection_pending_requests", "db/writer"] == 0
    assert found["db_client_connection_timeouts_total", "db/writer"] == 1


def test_a_pool_without_bound_has_no_most(use: Use) -> None:
    """DB_POOL=null opens what is asked for, and keeps nothing."""
    use(pool="null")
    read()
    found = scraped()
    assert ("db_client_connection_max", "db/writer") not in found
    assert found["db_client_connection_idle_max", "db/writer"] == 0


def test_what_a_pool_keeps_is_less_than_what_it_opens(use: Use) -> None:
    """By DB_MAX_OVERFLOW."""
    use(pool_size=2, max_overflow=3)
    read()
    found = scraped()
    assert [found[f"db_client_connection_{name}", "db/writer"] for name in ("idle_max", "max")] == [2, 5]


def test_a_collector_without_its_package_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, where it is made."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(
        db.ConfigurationError,
        match=r"Collector of db\.environment\.prometheus needs a package that is not installed, prometheus_client",
    ):
        prometheus.Collector()


# OpenTelemetry.


@pytest.fixture(scope="session")
def reader() -> InMemoryMetricReader:
    """OpenTelemetry's provider can be set once for a process."""
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    return reader


class Collected:
    """What the reader finds, as of a moment: points of histograms by their count, of the rest by their value."""

    def __init__(self, reader: InMemoryMetricReader) -> None:
        self.instruments: dict[str, tuple[str, bool | None, str | None, str | None]] = {}
        self.points: dict[str, list[tuple[dict[str, Any], int]]] = {}
        data = reader.get_metrics_data()
        for metric in (m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics) if data else ():
            falls = not metric.data.is_monotonic if isinstance(metric.data, Sum) else None
            self.instruments[metric.name] = type(metric.data).__name__, falls, metric.unit, metric.description
            self.points[metric.name] = [
                (dict(point.attributes or {}), int(getattr(point, "count" if hasattr(point, "count") else "value")))
                for point in metric.data.data_points
            ]

    def total(self, name: str, **attributes: str) -> int:
        named = {key.replace("__", "."): value for key, value in attributes.items()}
        return sum(number for found, number in self.points.get(name, []) if named.items() <= found.items())

    def of_pool(self, name: str, pool: str) -> int:
        return sum(number for found, number in self.points.get(name, []) if found[POOL] == pool)


@pytest.fixture
def collect(reader: InMemoryMetricReader) -> Callable[[], Collected]:
    return lambda: Collected(reader)


def test_pools_are_measured_by_the_conventions(use: Use, collect: Callable[[], Collected]) -> None:
    """A pool by its name, its connections by their state."""
    before = collect()
    use(metrics="otel")
    read(3)
    with db.begin() as tx:
        tx.execute(ONE)
        found = collect()
    times = [f"db.client.connection.{what}_time" for what in ("create", "wait", "use")]
    assert [found.of_pool(name, "db/writer") - before.of_pool(name, "db/writer") for name in times] == [1, 4, 3]
    assert found.points["db.client.connection.count"] == [
        ({POOL: "db/writer", STATE: "idle"}, 0),
        ({POOL: "db/writer", STATE: "used"}, 1),
    ]
    each = {name: found.of_pool(f"db.client.connection.{name}", "db/writer") for name in ("max", "pending_requests")}
    assert each == {"max": 1, "pending_requests": 0}


def test_names_units_and_words_are_those_of_the_conventions(use: Use, collect: Callable[[], Collected]) -> None:
    """As OpenTelemetry's own package has them; all of those for pools but one, which no pool here has."""
    use(metrics="otel")
    read()
    theirs = MeterProvider([own := InMemoryMetricReader()]).get_meter("theirs")
    for name, create in vars(db_metrics).items():
        if name.startswith(("create_db_client_connection_", "create_db_client_operation_duration")):
            instrument = create(theirs)
            getattr(instrument, "record" if isinstance(instrument, metrics.Histogram) else "add")(1)
    expected = Collected(own).instruments
    del expected["db.client.connection.idle.min"]
    assert collect().instruments == expected


def test_the_documented_table_has_each_name(use: Use, collect: Callable[[], Collected]) -> None:
    """And none besides, in each of its columns."""
    use(metrics="both")
    read()
    page = (Path(__file__).parents[2] / "docs" / "run" / "observability.md").read_text()
    rows = [line.split("|")[1:4] for line in page.partition("EMF | OpenTelemetry")[2].partition("\n\n")[0].splitlines()]
    emf, otel, scrapes = (
        {name for cell in cells for name in re.findall(r"`(\w[\w.]+)`", cell)} for cells in zip(*rows[2:], strict=True)
    )
    assert emf == {"".join(part.title() for part in name.split("_")) for name in db.status()["totals"]}
    assert otel - {STATE, "idle", "used"} == collect().points.keys()
    assert scrapes == {name for name, *_ in scraped()}


def test_statements_are_measured_without_values(use: Use, database: Database, collect: Callable[[], Collected]) -> None:
    """By what they do; a failed one by its SQLSTATE."""
    use(metrics="both")
    before = collect()
    with pytest.raises(exc.DataError), db.begin() as tx:
        tx.execute(text("SELECT relname FROM pg_class WHERE relname = :name"), {"name": "bound-value"})
        tx.execute(text("SELECT 1 / :zero"), {"zero": 0})
    found, name = collect(), "db.client.operation.duration"
    summary = {"db__query__summary": "SELECT pg_class"}
    assert found.total(name, **summary) - before.total(name, **summary) == 1
    failed = {"db__response__status_code": "22012", "error__type": "22012", "db__namespace": database.name}
    assert found.total(name, **failed) - before.total(name, **failed) == 1
    assert "bound-value" not in str(found.points)
    assert not any("db.query.text" in attributes for attributes, _ in found.points[name])


def test_databases_that_do_not_ask_are_not_told_of(
    use: Use, database: Database, collect: Callable[[], Collected]
) -> None:
    """Each has its own DB_METRICS."""
    use()
    audit = db.Database(db.Settings(url=database.url(), metrics="otel"), name="audit")
    read()
    with audit.read() as conn:
        conn.execute(ONE)
    found = collect().points["db.client.connection.count"]
    assert [(attributes[POOL], number) for attributes, number in found] == [("audit/writer", 1), ("audit/writer", 0)]
    audit.dispose()


def test_lambda_is_not_frozen_with_what_was_measured(
    use: Use, lambda_context: MakeLambdaContext, reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of an invocation the provider is told to send, within its time; elsewhere it has its interval."""
    sent: list[float] = []

    def send(timeout_millis: float) -> None:
        sent.append(timeout_millis)

    monkeypatch.setattr(metrics.get_meter_provider(), "force_flush", send)

    @db.invocation
    def handler(_event: Any, _context: Any) -> None:
        read(2)

    for asked, function_name in (("otel", "orders-api"), ("otel", None), ("emf", "orders-api")):
        use(metrics=asked, function_name=function_name)
        handler({}, lambda_context())
    assert len(sent) == 1
    assert 0 < sent[0] <= 1000


def test_what_cannot_be_sent_fails_no_invocation(
    use: Use, lines: Lines, lambda_context: MakeLambdaContext, reader: InMemoryMetricReader, monkeypatch: Any
) -> None:
    """It is warned of, once a process."""

    def fail(timeout_millis: float) -> None:
        raise TimeoutError(f"no collector in {timeout_millis} ms")

    monkeypatch.setattr(log, "_metrics_lost", False)
    monkeypatch.setattr(metrics.get_meter_provider(), "force_flush", fail)
    use(metrics="otel", function_name="orders-api")

    @db.invocation
    def handler(_event: Any, _context: Any) -> str:
        read()
        return "answer"

    assert [handler({}, lambda_context()) for _ in range(2)] == ["answer", "answer"]
    said = [vars(record)["error"] for record in lines.records if "OpenTelemetry metrics" in record.getMessage()]
    assert said == ["TimeoutError"]


@pytest.mark.parametrize(("asked", "printed"), [("emf", True), ("both", True), ("otel", False), ("off", False)])
def test_the_metrics_of_an_invocation_are_printed_where_they_are_asked_for(
    asked: str,
    printed: bool,
    use: Use,
    lambda_context: MakeLambdaContext,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In CloudWatch's format, without the pool's own."""
    use(metrics=asked)

    @db.invocation
    def handler(_event: Any, _context: Any) -> None:
        read()

    handler({}, lambda_context())
    out = capsys.readouterr().out
    assert ("_aws" in out, "DatabaseMs" in out, "Timeouts" in out) == (printed, printed, False)


def test_opentelemetry_that_is_not_installed_is_a_wrong_setting(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said where the setting is first used."""
    monkeypatch.setattr(otel_metrics, "_instruments", otel_metrics._instruments.__wrapped__)
    for name in [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    settings = db.Settings(url=database.url(), metrics="otel")
    with pytest.raises(db.ConfigurationError, match=r"DB_METRICS=otel or both needs a package .* opentelemetry"):
        db.configure(settings)
