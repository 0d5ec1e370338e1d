"""Which events there are, for whom, in which order; and what an answer has to hold."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from devkit.app import catalogue
from devkit.app.catalogue import Case
from devkit.app.errors import ProjectError
from devkit.app.expectations import ANYTHING, in_a_word, mismatch
from devkit.app.template import Template

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FUNCTION = {
    "Type": "AWS::Serverless::Function",
    "Properties": {"Handler": "app.handler", "Runtime": "python3.13", "CodeUri": "."},
}
MIGRATION = {"Type": "Custom::Migration", "Properties": {"ServiceToken": {"Fn::GetAtt": ["SetUp", "Arn"]}}}


def cases(folder: Path, resources: Mapping[str, Any], files: Mapping[str, Any]) -> list[Case]:
    """The cases of an application with ``resources`` and, in events/, ``files``."""
    (folder / "template.json").write_text(json.dumps({"Resources": resources}))
    for name, content in files.items():
        path = folder / "events" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return catalogue.read(folder / "events", Template(folder / "template.json"))


def test_without_a_catalogue_a_folder_is_a_function(tmp_path: Path) -> None:
    """By its logical id or a plainer form of it; those of a deploy come first."""
    resources = {"HelloWorldFunction": FUNCTION, "SetUp": FUNCTION, "Migration": MIGRATION}
    files: dict[str, Any] = {
        "hello-world/b.json": {},
        "HelloWorldFunction/a.json": {},
        "SetUp/create.json": {"ResponseURL": "https://cloudformation.example"},
        "README.md": "no event",
    }
    found = cases(tmp_path, resources, files)
    assert [(case.name, case.function) for case in found] == [
        ("SetUp/create", "SetUp"),
        ("HelloWorldFunction/a", "HelloWorldFunction"),
        ("hello-world/b", "HelloWorldFunction"),
    ]
    assert [(case.expect, case.callback) for case in found[:2]] == [
        (ANYTHING, {"Status": "SUCCESS"}),
        (ANYTHING, None),
    ]


def test_the_only_function_has_the_events_that_lie_about(tmp_path: Path) -> None:
    """``sam init`` puts them there. Where there are two functions, nobody knows whose they are."""
    assert [case.function for case in cases(tmp_path, {"Only": FUNCTION}, {"event.json": {}})] == ["Only"]
    with pytest.raises(ProjectError, match="holds no events"):
        cases(tmp_path, {"One": FUNCTION, "Two": FUNCTION}, {})


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({}, "holds no events"),
        ({"other/a.json": {}}, "no function is called other; template.json has Only"),
        ({"only/a.json": "{"}, "a.json: "),
        ({"catalogue.json": {}}, "catalogue.json is not a list of cases"),
        ({"catalogue.json": []}, "holds no events"),
        ({"catalogue.json": ["a"]}, "case 1 is not an object"),
        ({"catalogue.json": [{"function": "Only"}]}, "case 1: 'event' is missing"),
        ({"catalogue.json": [{"event": "a", "function": "Only"}]}, "a.json: "),
        ({"a.json": {}, "catalogue.json": [{"event": "a", "function": "Only", "expects": 1}]}, "'expects' is no key"),
        ({"a.json": {}, "catalogue.json": [{"event": "a", "function": "Nobody"}]}, "a: template.json has no function"),
    ],
)
def test_events_that_cannot_be_used_are_named(tmp_path: Path, files: Mapping[str, Any], problem: str) -> None:
    """Before anything is started."""
    with pytest.raises(ProjectError, match=problem):
        cases(tmp_path, {"Only": FUNCTION}, files)


@pytest.mark.parametrize(
    ("expected", "answer", "problem"),
    [
        ({"statusCode": 200}, {"statusCode": 200, "headers": {}}, None),
        ({"statusCode": 200}, {"statusCode": 201}, "the answer.statusCode is 201, not 200"),
        ({"body": {"n": [1]}}, {"body": '{"n": [1]}'}, None),
        ({"body": {"n": [1]}}, {"body": '{"n": []}'}, "the answer.body.n is [], not a list of 1"),
        ({"body": {"n": 1}}, {"body": "no"}, "the answer.body is 'no', not JSON"),
        ({"body": {"n": 1}}, {}, "the answer has no 'body': {}"),
        ({"n": 1}, None, "the answer is None, not an object"),
        (None, None, None),
        (ANYTHING, {"any": "thing"}, None),
    ],
)
def test_an_answer_that_differs_is_told(expected: Any, answer: Any, problem: str | None) -> None:
    """Objects hold the named keys, lists each item, bodies are read as JSON."""
    assert mismatch(expected, answer) == problem
    assert Case("a", "Only", {}, expected).problem(answer) == problem


def test_a_failure_is_no_answer_unless_it_is_expected() -> None:
    """Not even where anything would do."""
    failure = {"errorType": "KeyError", "errorMessage": "'id'", "stackTrace": []}
    assert Case("a", "Only", {}).problem(failure) == "the function failed: KeyError: 'id'"
    assert Case("a", "Only", {}, {"statusCode": 200}).problem(failure) == "the function failed: KeyError: 'id'"
    assert Case("a", "Only", {}, {"errorType": "KeyError"}).problem(failure) is None


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        ({"statusCode": 201}, "201"),
        ({"batchItemFailures": [{}, {}]}, "2 failed"),
        ({"status": "SUCCESS", "reason": ""}, "SUCCESS"),
        ({"errorType": "KeyError"}, "KeyError"),
        (None, "answered"),
    ],
)
def test_an_answer_is_shown_in_a_word(answer: Any, word: str) -> None:
    """For a column of a table."""
    assert in_a_word(answer) == word
