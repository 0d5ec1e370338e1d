"""The catalogue of events, in this process."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import db
from db.environment import process
from devkit.app.project import Project
from devkit.app.stack import Stack

if TYPE_CHECKING:
    import pytest

    from devkit.plugin import MakeLambdaContext

PROJECT = Project.find(Path(__file__))


def test_every_event_is_answered_as_its_case_expects(
    lambda_context: MakeLambdaContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In their order, each with the settings that the template gives its function."""
    with Stack(PROJECT) as stack:
        configured = stack.functions()
        wrong = []
        for case in PROJECT.cases():
            function = configured[case.function]
            with monkeypatch.context() as its_own:
                for name, value in stack.variables(function).items():
                    its_own.setenv(name, value)
                db.configure()
                module, _, attribute = function.handler.rpartition(".")
                handler = getattr(importlib.import_module(module), attribute)
                answer = handler(stack.payload(case), lambda_context(remaining_s=function.timeout_s))
            wrong.append(stack.problem(case, answer))
        db.dispose()
        process.DEFAULT._runtime = None
        assert wrong == [None] * len(wrong)


def test_every_payload_is_in_the_catalogue() -> None:
    """A file that nothing runs would rot."""
    named = {f"{case.name}.json" for case in PROJECT.cases()}
    found = {str(path.relative_to(PROJECT.events)) for path in PROJECT.events.rglob("*/*.json")}
    assert named == found


def test_every_function_has_a_case() -> None:
    """So that the demo leaves none out."""
    assert {case.function for case in PROJECT.cases()} == set(PROJECT.functions())
