"""The handlers in the real Lambda runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from devkit.app import demo
from devkit.app.project import Project
from devkit.app.stack import Stack
from devkit.lambda_runtime.environment import LambdaEnvironment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.app.catalogue import Case

PROJECT = Project.find(Path(__file__))
CASES = {case.name: case for case in PROJECT.cases()}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """The application's surroundings, migrated."""
    with Stack(PROJECT) as running, environment(running, "MigrateFunction") as migrate:
        assert migrate.invoke(running.payload(CASES["migrate/create"])).payload["status"] == "SUCCESS"
        yield running


def environment(stack: Stack, name: str, **variables: str) -> LambdaEnvironment:
    function = stack.functions()[name]
    return LambdaEnvironment(
        handler=function.handler,
        code=[function.code],
        environment={**stack.variables(function), **variables},
        timeout_s=function.timeout_s,
        name=name,
    )


def connection_events(lines: tuple[str, ...]) -> list[str]:
    read: list[dict[str, Any]] = [json.loads(line) for line in lines if line.startswith("{")]
    return [line["connection_event"] for line in read if "connection_event" in line]


def case(name: str) -> Case:
    return CASES[name]


def test_the_demo_answers_every_event_as_expected(capsys: pytest.CaptureFixture[str]) -> None:
    """Its exit status is the verdict, and its table has a row for each."""
    assert demo.run(PROJECT) == 0
    printed = capsys.readouterr().out
    assert f"{len(CASES)} of {len(CASES)} events answered as expected" in printed


def test_a_warm_environment_keeps_its_connection(stack: Stack) -> None:
    """Cold: it connects. Warm: it only checks out, and says so."""
    with environment(stack, "HealthFunction", POWERTOOLS_LOG_LEVEL="DEBUG") as health:
        cold, warm = (health.invoke(case("health/get").payload) for _ in range(2))
    assert (cold.cold, warm.cold) == (True, False)
    assert connection_events(cold.logs) == ["connect", "checkout", "checkin"]
    assert connection_events(warm.logs) == ["checkout", "checkin"]


def test_a_null_pool_leaves_no_connection_between_invocations(stack: Stack) -> None:
    """Each connects and closes."""
    with environment(stack, "HealthFunction", DB_POOL="null") as health:
        for _ in range(2):
            invocation = health.invoke(case("health/get").payload)
            assert connection_events(invocation.logs) == ["connect", "close"]
            assert stack.postgres.all_left(PROJECT.database, user="app")


def test_an_environment_thaws_with_a_live_connection(stack: Stack) -> None:
    """Also when the server has ended the old one in the meantime."""
    with environment(stack, "HealthFunction") as health:
        assert health.invoke(case("health/get").payload).payload["statusCode"] == 200
        health.freeze()
        stack.postgres.terminate(PROJECT.database)
        health.thaw()
        invocation = health.invoke(case("health/get").payload)
    assert invocation.payload["statusCode"] == 200
    assert connection_events(invocation.logs) == ["invalidate", "close", "connect"]


def test_no_line_of_the_log_holds_a_password(stack: Stack) -> None:
    """With everything on that logs: DEBUG, echo of SQL and rows, echo of the pool, failures of all kinds."""
    noisy = {
        "POWERTOOLS_LOG_LEVEL": "DEBUG",
        "DB_ECHO": "debug",
        "DB_ECHO_POOL": "debug",
        "AWS_LAMBDA_LOG_LEVEL": "DEBUG",
    }
    lines: list[str] = []
    for function, names in (
        ("OrdersApiFunction", ("orders/create", "orders/list", "orders/create-invalid")),
        ("OrdersIntakeFunction", ("intake/partly-bad",)),
        ("HealthFunction", ("health/get",)),
    ):
        with environment(stack, function, **noisy) as running:
            for name in names:
                assert running.invoke(case(name).payload).error is None
            stack.postgres.terminate(PROJECT.database)
            running.invoke(case(names[0]).payload)
            lines += running.logs
    assert any('"connection_event":"invalidate"' in line for line in lines)
    assert [line for line in lines for password in stack.passwords.values() if password in line] == []


def test_an_environment_without_settings_says_all_that_is_missing(stack: Stack) -> None:
    """Once, in the log; the caller is told no more than that it is not his fault."""
    with environment(stack, "OrdersApiFunction", DB_SECRET_ID="", DB_POOL="big") as api:
        invocation = api.invoke(case("orders/list").payload)
    assert invocation.payload["statusCode"] == 500
    log = "\n".join(invocation.logs)
    assert "DB_POOL is none of queue, null, static" in log
    assert "set DB_SECRET_ID, DB_URL" in log
    assert "Traceback" not in invocation.payload["body"]
