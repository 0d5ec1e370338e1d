"""Custom resources of a rehearsed stack: what their function is asked, and which answers are taken."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from devkit.app.cloudformation import Callbacks
from devkit.lambda_runtime.environment import Invocation
from devkit.rehearsal.custom_resource import CreationFailed, CustomResourceMaker
from devkit.rehearsal.failure import Failed
from devkit.rehearsal.resources import Definition

Answer = Callable[[dict[str, Any]], dict[str, Any] | None]
DONE = {"Status": "SUCCESS", "PhysicalResourceId": "schema"}


class Function:
    """A function that answers as it is told, and keeps what it was asked."""

    def __init__(self, callbacks: Callbacks) -> None:
        self.maker = CustomResourceMaker(self._invoke, callbacks)
        self.events: list[dict[str, Any]] = []
        self.answer: dict[str, Any] | None = DONE

    def _invoke(self, _arn: str, event: dict[str, Any]) -> Invocation:
        self.events.append(event)
        if self.answer is not None:
            kept = {name: event[name] for name in ("StackId", "RequestId", "LogicalResourceId")}
            body = json.dumps({**kept, **self.answer}).encode()
            urllib.request.urlopen(urllib.request.Request(event["ResponseURL"], body, method="PUT")).close()  # noqa: S310 - the kit's own
        return Invocation(None, None, 1.0, False, ())


@pytest.fixture
def function() -> Iterator[Function]:
    with Callbacks() as callbacks:
        yield Function(callbacks)


def definition(**properties: Any) -> Definition:
    given = {"ServiceToken": "arn", **properties}
    return Definition("Migration", "Custom::Migration", given, "Delete", "stack", "name")


def test_a_function_is_asked_as_cloudformation_asks_it(function: Function) -> None:
    """Numbers are text, an update names what was, and the end names the resource that it gave."""
    first, second = definition(Revision="1", Size=3), definition(Revision="2", On=True)
    made = function.maker.create(first)
    function.maker.update(made, second, first)
    function.maker.delete(made, second)
    told = [
        (one["RequestType"], one["ResourceProperties"], one.get("OldResourceProperties"), one.get("PhysicalResourceId"))
        for one in function.events
    ]
    was = {"ServiceToken": "arn", "Revision": "1", "Size": "3"}
    now = {"ServiceToken": "arn", "Revision": "2", "On": "true"}
    assert told == [
        ("Create", was, None, None),
        ("Update", now, was, "schema"),
        ("Delete", now, None, "schema"),
    ]


def test_another_physical_id_is_a_replacement(function: Function) -> None:
    """And the old one is deleted."""
    made = function.maker.create(definition())
    function.answer = {**DONE, "PhysicalResourceId": "another"}
    function.maker.update(made, definition(A="b"), definition())
    assert [(one["RequestType"], one.get("PhysicalResourceId")) for one in function.events] == [
        *(("Create", None), ("Update", "schema"), ("Delete", "schema")),
    ]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({**DONE, "Status": "FAILED", "Reason": "no table"}, r"\[FAILED\] from custom resource.*no table"),
        ({"Status": "SUCCESS"}, "it has no PhysicalResourceId"),
        ({**DONE, "Reason": "x" * 5000}, "of at most 4096"),
        (None, r"did not receive a response.*waited 120 s"),
    ],
)
def test_an_answer_that_is_no_success_fails_the_resource(
    function: Function, answer: dict[str, Any] | None, reason: str
) -> None:
    """With what the function said; a creation has to be deleted again, for it may have left something."""
    function.answer = answer
    with pytest.raises(CreationFailed, match=reason) as failed:
        function.maker.create(definition(ServiceTimeout=120))
    function.answer = DONE
    function.maker.delete(failed.value.made, definition())


def test_data_is_what_an_attribute_refers_to(function: Function) -> None:
    """One that the answer did not have fails."""
    function.answer = {**DONE, "Data": {"after": "0002"}}
    made = function.maker.create(definition())
    assert made.get_cfn_attribute("after") == "0002"
    with pytest.raises(Failed, match="doesn't contain before attribute"):
        made.get_cfn_attribute("before")
