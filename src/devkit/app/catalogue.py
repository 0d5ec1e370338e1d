"""The catalogue of events: which payload goes to which function, and what the answer has to hold."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
EVENTS = ROOT / "events"


@dataclass(frozen=True)
class Case:
    """One payload: for ``function`` (its logical id in template.yaml), with what is expected of the answer."""

    name: str
    function: str
    payload: dict[str, Any]
    expect: Any
    callback: Any = None

    def problem(self, answer: object) -> str | None:
        """What the answer lacks, in a sentence; None where it is as expected."""
        return mismatch(self.expect, answer)


def cases(events: Path = EVENTS) -> list[Case]:
    """All cases, in the order in which they are to run: they share a database."""
    entries = json.loads((events / "catalogue.json").read_text())
    return [
        Case(
            name=entry["event"],
            function=entry["function"],
            payload=json.loads((events / f"{entry['event']}.json").read_text()),
            expect=entry["expect"],
            callback=entry.get("callback"),
        )
        for entry in entries
    ]


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


def mismatch(expected: Any, actual: Any, at: str = "the answer") -> str | None:
    """Where ``actual`` does not hold ``expected``: objects by their named keys, lists item by item, bodies as JSON."""
    if isinstance(expected, dict):
        return _object_mismatch(expected, actual, at)
    if isinstance(expected, list):
        return _list_mismatch(expected, actual, at)
    return None if expected == actual else f"{at} is {actual!r}, not {expected!r}"


def _object_mismatch(expected: dict[str, Any], actual: Any, at: str) -> str | None:
    if at.endswith(".body") and isinstance(actual, str):
        actual = json.loads(actual)
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
