"""What an answer has to hold, and how it differs from that."""

from __future__ import annotations

import json
from typing import Any, Final


class Anything:
    """The expectation of a case that has none: every answer that is no failure."""

    def __repr__(self) -> str:
        return "anything"


ANYTHING: Final = Anything()


def in_a_word(answer: object) -> str:
    """An answer for a table: HTTP's status, the records that failed, an error's type, what CloudFormation is told."""
    match answer:
        case {"statusCode": int(code)}:
            return str(code)
        case {"batchItemFailures": list(failures)}:
            return f"{len(failures)} failed"
        case {"errorType": str(word)} | {"status": str(word)}:
            return word
    return "answered"


def failure(answer: object) -> str | None:
    """What the function raised, or how it ended, where ``answer`` is Lambda's document of that; else None."""
    match answer:
        case {"errorType": str(kind), "errorMessage": str(message)}:
            return f"{kind}: {message}"
    return None


def mismatch(expected: Any, actual: Any, at: str = "the answer") -> str | None:
    """Where ``actual`` does not hold ``expected``: objects by their named keys, lists item by item, bodies as JSON."""
    if expected is ANYTHING:
        return None
    if isinstance(expected, dict):
        return _object_mismatch(expected, actual, at)
    if isinstance(expected, list):
        return _list_mismatch(expected, actual, at)
    return None if expected == actual else f"{at} is {actual!r}, not {expected!r}"


def _object_mismatch(expected: dict[str, Any], actual: Any, at: str) -> str | None:
    if at.endswith(".body") and isinstance(actual, str):
        try:
            actual = json.loads(actual)
        except ValueError:
            return f"{at} is {actual!r}, not JSON"
    if not isinstance(actual, dict):
        return f"{at} is {actual!r}, not an object"
    for key, value in expected.items():
        if key not in actual:
            return f"{at} has no {key!r}: {actual!r}"
        if problem := mismatch(value, actual[key], f"{at}.{key}"):
            return problem
    return None


def _list_mismatch(expected: list[Any], actual: Any, at: str) -> str | None:
    if not isinstance(actual, list) or len(actual) != len(expected):
        return f"{at} is {actual!r}, not a list of {len(expected)}"
    return next(
        (
            problem
            for index, value in enumerate(expected)
            if (problem := mismatch(value, actual[index], f"{at}[{index}]"))
        ),
        None,
    )
