"""Parameters held against their declarations.

moto takes any value, and has no rules. CloudFormation refuses a change set whose values are missing, match no pattern,
or are none of those allowed; that is where a deploy with a parameter left empty is to end, and not at a resource
minutes later. https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/parameters-section-structure.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from devkit.app.rules import violated

from .failure import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Of these, a value has to be the id of something that exists: an empty one never is.
_EXISTING = ("AWS::EC2::", "List<AWS::EC2::", "AWS::SSM::Parameter::")


def checked(declared: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, str]:
    """All values as text, defaults filled in. Raises Refused, with everything that is wrong.

    moto hands a list on as such in an update and as text in a creation; and it compares the second with the first.
    """
    if missing := [name for name, said in declared.items() if "Default" not in said and name not in given]:
        raise Refused(f"Parameters: [{', '.join(missing)}] must have values")
    defaults = {name: said["Default"] for name, said in declared.items() if "Default" in said}
    values = {name: _text(value) for name, value in {**defaults, **given}.items() if name in declared}
    problems = [problem for name, value in values.items() for problem in _problems(name, value, declared[name])]
    if problems:
        raise Refused("; ".join(problems))
    return values


def obeyed(template: Mapping[str, Any], values: Mapping[str, str]) -> None:
    """Hold the values against the template's Rules, which may compare one with another. Raises Refused."""
    problems = violated(template, values)
    if problems:
        raise Refused(f"Template error: Rules were violated: {'; '.join(problems)}")


def _problems(name: str, value: str, said: Mapping[str, Any]) -> Iterator[str]:
    what = f"Parameter '{name}'"
    if (pattern := said.get("AllowedPattern")) and not re.fullmatch(pattern, value):
        yield f"{what} must match pattern {pattern}"
    if (allowed := said.get("AllowedValues")) and value not in (choices := [_text(one) for one in allowed]):
        yield f"{what} must be one of AllowedValues: {', '.join(choices)}"
    if said["Type"].startswith(_EXISTING) and not value:
        yield f"Parameter validation failed: parameter value '' for parameter name {name} does not exist"
    if said["Type"] == "Number":
        yield from _number_problems(what, value, said)
    if len(value) < int(said.get("MinLength", 0)):
        yield f"{what} must contain at least {said['MinLength']} characters"
    if len(value) > int(said.get("MaxLength", len(value))):
        yield f"{what} must contain at most {said['MaxLength']} characters"


def _number_problems(what: str, value: str, said: Mapping[str, Any]) -> Iterator[str]:
    try:
        number = float(value)
    except ValueError:
        yield f"{what} must be a number"
        return
    if number < float(said.get("MinValue", number)):
        yield f"{what} must be a number not less than {said['MinValue']}"
    if number > float(said.get("MaxValue", number)):
        yield f"{what} must be a number not greater than {said['MaxValue']}"


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(_text(one) for one in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
