"""How an answer is compared with what its case expects."""

from __future__ import annotations

import pytest

from devkit.app.catalogue import Case
from devkit.app.expectations import mismatch


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"statusCode": 200, "body": '{"orders": [1]}'}, None),
        ({"statusCode": 201, "body": '{"orders": [1]}'}, "the answer.statusCode is 201, not 200"),
        ({"statusCode": 200, "body": '{"orders": []}'}, "the answer.body.orders is [], not a list of 1"),
        ({"statusCode": 200}, "the answer has no 'body': {'statusCode': 200}"),
        (None, "the answer is None, not an object"),
    ],
)
def test_an_answer_that_differs_is_told(answer: object, problem: str | None) -> None:
    """The check of the demo can fail."""
    case = Case("x", "F", {}, {"statusCode": 200, "body": {"orders": [1]}})
    assert case.problem(answer) == problem
    assert mismatch(case.expect, answer) == problem
