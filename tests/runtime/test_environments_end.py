"""What the server sees of an execution environment that ends: by shutdown, by the function's timeout, by itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from devkit.lambda_runtime.environment import LambdaEnvironment
from devkit.lambda_runtime.managed_and_snapstart import BareEnvironment
from tests.moments import given_its_moment, heard

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres

pytestmark = pytest.mark.slow

FUNCTION = """
import time

import db
from db import aio
from sqlalchemy import text

@db.invocation
def handler(event, context):
    return globals()[event](context)

@db.invocation
async def async_handler(event, context):
    async with aio.engine().connect() as conn:
        return (await conn.execute(text(event))).scalar()

def query(context):
    with db.begin() as tx:
        return tx.execute(text("SELECT pg_backend_pid()")).scalar()

def idle_in_transaction(context):
    with db.begin() as tx:
        tx.execute(text("SELECT 1"))
        time.sleep(60)

def busy_in_transaction(context):
    with db.begin() as tx:
        tx.execute(text("SELECT pg_sleep(60)"))

def busy_without_a_limit(context):
    with db.engine().connect() as conn:
        conn.execute(text("SELECT pg_sleep(60)"))

def decorate_late(context):
    db.invocation(query)
    return query(context)
"""

# The first decorator is inside the handler: too late to register.
LATE = """
def handler(event, context):
    import function
    return function.handler(event, context)
"""


@pytest.fixture
def code(tmp_path: Path) -> list[Path]:
    (tmp_path / "function.py").write_text(FUNCTION)
    (tmp_path / "late.py").write_text(LATE)
    return [tmp_path]


def warmed_up(environment: LambdaEnvironment, event: str = "query") -> LambdaEnvironment:
    """The environment when it is warm: on a busy machine, Init may take longer than a timeout that a test waits for."""
    for _ in range(5):
        if environment.invoke(event).error is None:
            break
    return environment


def connection_events(lines: list[str] | tuple[str, ...]) -> list[dict[str, Any]]:
    read: list[dict[str, Any]] = [json.loads(line) for line in lines if line.startswith("{")]
    return [line for line in read if "connection_event" in line]


def shutdown_lines(lines: list[str] | tuple[str, ...]) -> list[dict[str, Any]]:
    return [line for line in connection_events(lines) if line["connection_event"] == "shutdown"]


def metrics(lines: tuple[str, ...]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines if line.startswith('{"_aws"')]


@pytest.mark.parametrize("frozen", [False, True], ids=["thawed", "frozen"])
@given_its_moment
def test_after_a_shutdown_the_server_has_no_connection_left(
    database: Database, postgres: Postgres, code: list[Path], frozen: bool
) -> None:
    """The environment closes it, and says so; from the freeze as well."""
    variables = {"DB_URL": database.url()}
    with LambdaEnvironment(handler="function.handler", environment=variables, code=code, timeout_s=30) as environment:
        assert environment.invoke("query").error is None
        if frozen:
            environment.freeze()
    lines = heard(shutdown_lines(environment.logs))
    assert [(line["closed"], line["cancelled"], line["failed"]) for line in lines] == [(1, 0, 0)]
    assert postgres.all_left(database.name, user=database.app)


@pytest.mark.parametrize(
    ("hook", "work"),
    [
        ("on", "idle_in_transaction"),
        ("on", "busy_in_transaction"),
        ("on", "busy_without_a_limit"),
        ("off", "idle_in_transaction"),
        ("off", "busy_in_transaction"),
    ],
)
def test_after_a_timeout_no_backend_outlives_the_invocation(
    database: Database, postgres: Postgres, code: list[Path], hook: str, work: str
) -> None:
    """Within two seconds; without the hook by the statement's limit alone, which the layer's own units have."""
    # No reserve, so that the statement's limit is the deadline itself and the handler has no time to answer.
    variables = {"DB_URL": database.url(), "DB_SHUTDOWN_HOOK": hook, "DB_DEADLINE_RESERVE_S": "0"}
    with LambdaEnvironment(handler="function.handler", environment=variables, code=code, timeout_s=3) as environment:
        warmed_up(environment).invoke(work)
        assert postgres.all_left(database.name, user=database.app)


@given_its_moment
def test_a_timeout_is_told_of_with_what_was_cut_short(database: Database, code: list[Path]) -> None:
    """The log names the invocation, and its metrics are not lost."""
    variables = {"DB_URL": database.url()}
    with LambdaEnvironment(handler="function.handler", environment=variables, code=code, timeout_s=3) as environment:
        timed_out = warmed_up(environment).invoke("busy_without_a_limit")
    (line,) = heard(shutdown_lines(timed_out.logs))
    (reported,) = metrics(timed_out.logs)
    assert timed_out.error == "Sandbox.Timedout"
    assert (line["closed"], line["cancelled"], line["failed"], len(line["request_id"])) == (0, 1, 0, 36)
    assert (reported["Connects"], reported["Checkouts"]) == ([0], [1])


@given_its_moment
def test_an_async_handler_ends_alike(database: Database, postgres: Postgres, code: list[Path]) -> None:
    """Its connections are closed from outside of its event loop, which may be waiting for one of them."""
    variables = {"DB_URL": database.url()}
    with LambdaEnvironment(
        handler="function.async_handler", environment=variables, code=code, timeout_s=3
    ) as environment:
        timed_out = warmed_up(environment, "SELECT 1").invoke("SELECT pg_sleep(60)")
        assert [line["cancelled"] for line in heard(shutdown_lines(timed_out.logs))] == [1]
        assert postgres.all_left(database.name, user=database.app)
        assert warmed_up(environment, "SELECT 1").invoke("SELECT 1").payload == 1
        before = len(environment.logs)
    assert [line["closed"] for line in heard(shutdown_lines(environment.logs[before:]))] == [1]


def test_a_handler_that_registers_too_late_works_all_the_same(database: Database, code: list[Path]) -> None:
    """Lambda refuses; that is a line at DEBUG and no more."""
    variables = {"DB_URL": database.url(), "POWERTOOLS_LOG_LEVEL": "DEBUG"}
    with LambdaEnvironment(handler="late.handler", environment=variables, code=code, timeout_s=30) as environment:
        assert environment.invoke("query").error is None
        (line,) = shutdown_lines(environment.logs)
    assert (line["level"], "Extension.RegistrationClosed" in line["reason"]) == ("DEBUG", True)
    assert "closed" not in shutdown_lines(environment.logs)[-1]


def test_decorating_a_second_handler_registers_nothing_new(database: Database, code: list[Path]) -> None:
    """A process has one end."""
    with BareEnvironment(
        handler="function.handler", environment={"DB_URL": database.url()}, code=code, timeout_s=30
    ) as environment:
        assert environment.invoke("decorate_late").error is None
        assert environment.api.extensions == ["serverless-data-access"]
    assert [line["closed"] for line in shutdown_lines(environment.logs)] == [1]


def test_turned_off_it_registers_nothing(database: Database, code: list[Path]) -> None:
    """And Lambda kills the environment without a word, as it does without extensions."""
    variables = {"DB_URL": database.url(), "DB_SHUTDOWN_HOOK": "off"}
    with BareEnvironment(handler="function.handler", environment=variables, code=code, timeout_s=30) as environment:
        assert environment.invoke("query").error is None
        assert environment.api.extensions == []
    assert shutdown_lines(environment.logs) == []
