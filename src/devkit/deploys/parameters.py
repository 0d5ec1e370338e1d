"""Which value each parameter of a template gets, and what is wrong with it: values in, values out."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

NUMBER = re.compile(r"-?\d+(\.\d+)?")


def settled(declared: Mapping[str, Any], *given: Mapping[str, str]) -> dict[str, str]:
    """The value of each parameter that has one: the first of ``given`` that names it, else its default.

    Defaults are among them, for `sam deploy` takes a parameter that it is not told of from the last deploy: a line
    that was taken out of the file would stay in force. What a template does not declare is left out.
    """
    values = {}
    for name, declaration in declared.items():
        found = [*(one[name] for one in given if name in one)]
        if "Default" in declaration:
            found.append(_text(declaration["Default"]))
        if found:
            values[name] = found[0]
    return values


def unknown(declared: Mapping[str, Any], own: Mapping[str, str], where: str) -> list[str]:
    """The names in ``own`` that the template does not declare; each with the one that was meant."""
    problems = []
    for name in own:
        if name not in declared:
            (near,) = difflib.get_close_matches(name, declared, n=1, cutoff=0.6) or [""]
            meant = f" (is it {near}?)" if near else ""
            problems.append(f"{where}.{name}: the template has no such parameter{meant}")
    return problems


def missing(declared: Mapping[str, Any], values: Mapping[str, str]) -> list[str]:
    """The parameters that have no value, and those whose value is empty where the template has no default."""
    return [name for name, one in declared.items() if "Default" not in one and not values.get(name)]


def refused(declared: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, str]:
    """By name, why CloudFormation would not take a value; it would say so as well, after a build and an upload."""
    found = {name: _refused(declared[name], value) for name, value in values.items()}
    return {name: why for name, why in found.items() if why}


def _refused(declaration: Mapping[str, Any], value: str) -> str | None:
    allowed = [_text(one) for one in declaration.get("AllowedValues", [])]
    if allowed and value not in allowed:
        return f"{value!r} is none of {', '.join(one or 'an empty text' for one in allowed)}"
    if declaration.get("Type") == "Number":
        return _refused_number(declaration, value)
    pattern = declaration.get("AllowedPattern")
    if pattern is not None and not _fits(pattern, value):
        return declaration.get("ConstraintDescription") or f"{value!r} is not of the form {pattern}"
    return None


def _text(said: object) -> str:
    """As CloudFormation takes it: YAML's ``yes`` is true by now."""
    return str(said).lower() if isinstance(said, bool) else str(said)


def _fits(pattern: str, value: str) -> bool:
    try:
        return re.fullmatch(pattern, value) is not None
    except re.error:  # Java's are not all Python's, and CloudFormation's are Java's
        return True


def _refused_number(declaration: Mapping[str, Any], value: str) -> str | None:
    if not NUMBER.fullmatch(value):
        return f"{value!r} is no number"
    if (least := declaration.get("MinValue")) is not None and float(value) < float(least):
        return f"{value} is below {least}"
    if (most := declaration.get("MaxValue")) is not None and float(value) > float(most):
        return f"{value} is above {most}"
    return None
