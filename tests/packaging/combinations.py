"""A template as it is by one choice of its parameters: every condition decided, and nothing left that does not hold."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from devkit.app.intrinsics import Intrinsics

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Choice = dict[str, str]
NO_VALUE = {"Ref": "AWS::NoValue"}
# What a parameter that may be empty holds where it is not, by the end of its name.
SOMETHING = {
    "SecurityGroupId": "sg-0123456789abcdef0",
    "SecretId": "arn:aws:secretsmanager:us-east-1:123456789012:secret:orders",
    "TopicArn": "arn:aws:sns:us-east-1:123456789012:alarms",
    "KeyArn": "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    "": "something",
}


def choices(template: Mapping[str, Any]) -> Iterator[Choice]:
    """Every combination of what the conditions tell apart: of allowed values, or of an empty one and another."""
    asked = [name for name in template["Parameters"] if name in set(_referred(template["Conditions"]))]
    values = [list(_told_apart(template, name)) for name in asked]
    for combination in itertools.product(*values):
        yield dict(zip(asked, map(str, combination), strict=True))


def pairs(all_choices: list[Choice]) -> list[Choice]:
    """A few of them that have every two values of two parameters together somewhere."""
    missing = set().union(*(_pairs(choice) for choice in all_choices))
    found = []
    while missing:
        best = max(all_choices, key=lambda choice: len(_pairs(choice) & missing))
        found.append(best)
        missing -= _pairs(best)
    return found


def decided(template: Mapping[str, Any], choice: Choice) -> dict[str, Any]:
    """The template without conditions, as ``choice`` decides them."""
    known = Intrinsics(template, choice)
    sections = {name: value for name, value in template.items() if name != "Conditions"}
    sections["Parameters"] = {
        name: {**said, "Default": choice[name]} if name in choice else said
        for name, said in template["Parameters"].items()
    }
    for name in ("Resources", "Outputs"):
        sections[name] = {
            key: {inner: value for inner, value in said.items() if inner != "Condition"}
            for key, said in sections[name].items()
            if "Condition" not in said or known.holds({"Condition": said["Condition"]})
        }
    return {name: _without_if(value, known) for name, value in sections.items()}


def dangling(template: Mapping[str, Any], decided_template: Mapping[str, Any]) -> set[str]:
    """The resources that something refers to and that this choice does not make."""
    referred = {name.partition(".")[0] for name in _referred(decided_template)}
    return referred & (set(template["Resources"]) - set(decided_template["Resources"]))


def _told_apart(template: Mapping[str, Any], name: str) -> Iterator[str]:
    seen = set()
    for value in template["Parameters"][name].get("AllowedValues", ["", _something(name)]):
        known = Intrinsics(template, {name: str(value)})
        truths = tuple(known.holds({"Condition": condition}) for condition in template["Conditions"])
        if truths not in seen:
            seen.add(truths)
            yield value


def _something(name: str) -> str:
    return next(value for ending, value in SOMETHING.items() if name.endswith(ending))


def _pairs(choice: Choice) -> set[Any]:
    return set(itertools.combinations(choice.items(), 2)) or set(choice.items())


def _without_if(value: Any, known: Intrinsics) -> Any:
    value = known.chosen(value)
    if isinstance(value, list):
        return [one for inner in value if (one := _without_if(inner, known)) != NO_VALUE]
    if isinstance(value, dict):
        changed = {key: _without_if(inner, known) for key, inner in value.items()}
        return {key: inner for key, inner in changed.items() if inner != NO_VALUE}
    return value


def _referred(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for one in value:
            yield from _referred(one)
    if isinstance(value, dict):
        for key, inner in value.items():
            match key, inner:
                case "Ref" | "DependsOn" | "Fn::GetAtt", str(name):
                    yield name
                case "Fn::GetAtt", [str(name), *_]:
                    yield name
                case "Fn::Sub", str(text) | [str(text), *_]:
                    yield from (part.partition("}")[0] for part in text.split("${")[1:])
            yield from _referred(inner)
