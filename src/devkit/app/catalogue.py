"""The cases of an application: which payload goes to which function, in which order, and what the answer has to hold.

``events/catalogue.json`` says it. Without one, each ``events/<function>/*.json`` goes to the function that the folder
is named after, and any answer will do that is no failure. ``<function>`` is the logical id, in any case, with or
without ``Function`` at its end and hyphens within: ``hello-world`` is ``HelloWorldFunction``. In an application of one
function, ``events/*.json`` are its own too. Functions that a deploy calls come first, as they do in a deploy; the
rest is in the order of names.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import ProjectError
from .expectations import ANYTHING, failure, mismatch

if TYPE_CHECKING:
    from pathlib import Path

    from .template import Template

FILE = "catalogue.json"
_KEYS = {"event": str, "function": str}
_OPTIONAL = {"expect", "callback"}
# CloudFormation waits for an hour for one that says nothing, and rolls back after any other.
_SUCCESS = {"Status": "SUCCESS"}


@dataclass(frozen=True)
class Case:
    """One payload: for ``function`` (its logical id), with what is expected of the answer and of CloudFormation's."""

    name: str
    function: str
    payload: Any
    expect: Any = ANYTHING
    callback: Any = None

    def problem(self, answer: object) -> str | None:
        """What the answer lacks, in a sentence; None where it is as expected."""
        failed = failure(answer)
        if failed and not (isinstance(self.expect, dict) and "errorType" in self.expect):
            return f"the function failed: {failed}"
        return mismatch(self.expect, answer)


def read(events: Path, template: Template) -> list[Case]:
    """All cases, in the order in which they are to run: they share a database. Raises ProjectError."""
    catalogue = events / FILE
    cases = _listed(catalogue) if catalogue.is_file() else _by_folder(events, template)
    if not cases:
        raise ProjectError(f"{events} holds no events: {FILE}, or a folder of payloads for each function")
    for case in cases:
        if reason := template.unsupported(case.function):
            raise ProjectError(f"{case.name}: {reason}")
    return cases


def _listed(catalogue: Path) -> list[Case]:
    entries = _json(catalogue)
    if not isinstance(entries, list):
        raise ProjectError(f"{catalogue} is not a list of cases")
    for number, entry in enumerate(entries, 1):
        _check(entry, f"{catalogue}: case {number}")
    return [
        _case(entry["event"], entry["function"], catalogue.parent / f"{entry['event']}.json", **_said(entry))
        for entry in entries
    ]


def _check(entry: Any, where: str) -> None:
    if not isinstance(entry, dict):
        raise ProjectError(f"{where} is not an object")
    for key, kind in _KEYS.items():
        if not isinstance(entry.get(key), kind):
            raise ProjectError(f"{where}: {key!r} is missing, or no text")
    if unknown := entry.keys() - _KEYS - _OPTIONAL:
        raise ProjectError(f"{where}: {min(unknown)!r} is no key; the keys are event, function, expect, callback")


def _said(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: entry[key] for key in _OPTIONAL if key in entry}


def _case(name: str, function: str, path: Path, **said: Any) -> Case:
    payload = _json(path)
    if isinstance(payload, dict) and "ResponseURL" in payload:
        said.setdefault("callback", _SUCCESS)
    return Case(name, function, payload, **said)


def _by_folder(events: Path, template: Template) -> list[Case]:
    by_name = {_plain(name): name for name in template.functions()}
    found = []
    for path in sorted({*events.glob("*/*.json"), *(events.glob("*.json") if len(by_name) == 1 else ())}):
        folder = path.parent.name
        function = next(iter(by_name.values())) if path.parent == events else by_name.get(_plain(folder))
        if function is None:
            raise ProjectError(
                f"{path.parent}: no function is called {folder}; {template.path.name} has"
                f" {', '.join(by_name.values()) or 'none that runs here'}. {events / FILE} can say which event is whose"
            )
        found.append(_case(str(path.relative_to(events).with_suffix("")), function, path))
    first = template.called_at_deploy()
    return sorted(found, key=lambda case: case.function not in first)


def _plain(name: str) -> str:
    return re.sub(r"[-_ ]", "", name).lower().removesuffix("function")


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ProjectError(f"{path}: {error}") from error
