"""The functions in the real Lambda runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devkit.app import demo
from devkit.app.project import Project
from devkit.app.stack import Stack
from devkit.lambda_runtime.environment import LambdaEnvironment

if TYPE_CHECKING:
    from devkit.app.template import Function

PROJECT = Project.find(Path(__file__))
CASES = PROJECT.cases()
NOISY = {"POWERTOOLS_LOG_LEVEL": "DEBUG", "DB_ECHO": "debug", "DB_ECHO_POOL": "debug", "AWS_LAMBDA_LOG_LEVEL": "DEBUG"}


@pytest.mark.slow
def test_the_demo_answers_every_event_as_expected(capsys: pytest.CaptureFixture[str]) -> None:
    """Its exit status is the verdict, and its table has a row for each."""
    assert demo.run(PROJECT) == 0
    printed = capsys.readouterr().out
    assert f"{len(CASES)} of {len(CASES)} events answered as expected" in printed


def logged(stack: Stack, function: Function) -> list[str]:
    """What the function logs for all its cases, and for the last one again when its connection has died."""
    events = [stack.payload(case) for case in CASES if case.function == function.name]
    with LambdaEnvironment(
        handler=function.handler,
        code=[function.code],
        environment={**stack.variables(function), **NOISY},
        timeout_s=function.timeout_s,
        name=function.name,
    ) as running:
        for event in events:
            assert running.invoke(event).error is None
        stack.postgres.terminate(PROJECT.database)
        running.invoke(events[-1])
        return running.logs


@pytest.mark.slow
def test_no_line_of_a_log_holds_a_password() -> None:
    """With everything on that logs: DEBUG, echo of SQL and rows, echo of the pool, failures of all kinds."""
    with Stack(PROJECT) as stack:
        # In the catalogue's order, in which the migration is the first.
        configured = stack.functions()
        lines = [
            line for name in dict.fromkeys(case.function for case in CASES) for line in logged(stack, configured[name])
        ]
        assert any('"connection_event":"invalidate"' in line for line in lines)
        assert [line for line in lines for password in stack.passwords.values() if password in line] == []
