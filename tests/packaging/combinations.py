"""A template as it is by one choice of its parameters: every condition decided, and nothing left that does not hold."""

from __future__ import annotations

import functools
import itertools
import math
from typing import TYPE_CHECKING, Any

from devkit.app.intrinsics import Intrinsics

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Choice = dict[str, str]
NO_VALUE = {"Ref": "AWS::NoValue"}
# What a parameter that may be empty holds where it is not, by the end of its name.
SOMETHING = {
    "SecurityGroupId": "sg-0123456789abcdef0",
    "ResourceId": "cluster-ABCDEFGHIJKL",
    "SecretId": "arn:aws:secretsmanager:us-east-1:123456789012:secret:orders",
    "TopicArn": "arn:aws:sns:us-east-1:123456789012:alarms",
    "KeyArn": "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    "Origin": "https://shop.example.com",
    "": "something",
}


def choices(template: Mapping[str, Any], names: Iterable[str]) -> Iterator[Choice]:
    """Every combination of what the conditions tell apart: of allowed values, or of an empty one and another."""
    values = {name: list(_told_apart(template, name)) for name in names}
    for combination in itertools.product(*values.values()):
        yield dict(zip(values, combination, strict=True))


def given(template: Mapping[str, Any], values: Choice) -> dict[str, Any]:
    """The template with these values as defaults: what has one is no choice, unless its values are listed."""
    declared = template["Parameters"]
    return {**template, "Parameters": declared | {name: declared[name] | {"Default": values[name]} for name in values}}


def asked(template: Mapping[str, Any]) -> list[str]:
    """The parameters that a condition asks for."""
    return [name for name in template["Parameters"] if name in set(_referred(template["Conditions"]))]


def deciding(template: Mapping[str, Any]) -> list[str]:
    """Those on which it depends which resources there are, or who refers to one that may not be there.

    The others change neither, so the combinations of these are all that there is to see of it.
    """
    optional = {name: said["Condition"] for name, said in template["Resources"].items() if "Condition" in said}
    over = {
        condition
        for condition, *branches in _nested(template, "Fn::If")
        if optional.keys() & {name.partition(".")[0] for name in _referred(branches)}
    }
    outputs = {said["Condition"] for said in template["Outputs"].values() if "Condition" in said}
    asked_for = set(_asked_by(template["Conditions"], {*optional.values(), *over, *outputs}))
    return [name for name in template["Parameters"] if name in asked_for]


def pairs(template: Mapping[str, Any], **more: Iterable[str]) -> list[Choice]:
    """A few choices of all parameters that have every two values of two of them together somewhere.

    ``more`` are the values of what is chosen in another way, by its name.
    """
    values = {name: list(_told_apart(template, name)) for name in asked(template)}
    values |= {name: list(offered) for name, offered in more.items()}
    each = [[(name, value) for value in values[name]] for name in values]
    missing = {pair for one, other in itertools.combinations(each, 2) for pair in itertools.product(one, other)}
    found = list(_pairs_of_two(values))
    for choice in found:
        missing -= _pairs(values, choice)

    def gain(choice: Choice, name: str, value: str) -> int:
        return len(_pairs(values, {**choice, name: value}) & missing)

    # What has a third value.
    while missing:
        choice = dict(min(missing))
        for name, offered in values.items():
            choice.setdefault(name, max(offered, key=functools.partial(gain, choice, name)))
        missing -= _pairs(values, choice)
        found.append({name: choice[name] for name in values})
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
    said = template["Parameters"][name]
    for value in said.get("AllowedValues") or ([said["Default"]] if said["Default"] else ["", _something(name)]):
        known = Intrinsics(template, {name: str(value)})
        truths = tuple(known.holds({"Condition": condition}) for condition in template["Conditions"])
        if truths not in seen:
            seen.add(truths)
            yield str(value)


def _something(name: str) -> str:
    return next(value for ending, value in SOMETHING.items() if name.endswith(ending))


def _pairs_of_two(values: Mapping[str, list[str]]) -> Iterator[Choice]:
    """As few as can be for the first two values of each: 7 choices for 15 names.

    In the first, each name has its first value. In more than half of the others, and in no two names the same ones, it
    has its second: so any two have both seconds together somewhere, and each has its second without the other's.
    https://doi.org/10.1016/0012-365X(73)90098-8
    """
    chosen = [name for name, offered in values.items() if len(offered) > 1]
    others = next(n for n in itertools.count(1) if math.comb(n, n // 2 + 1) >= len(chosen))
    seconds = dict(zip(chosen, itertools.combinations(range(others), others // 2 + 1), strict=False))
    for number in range(-1, others):
        yield {name: offered[number in seconds.get(name, ())] for name, offered in values.items()}


def _pairs(order: Iterable[str], choice: Choice) -> set[Any]:
    return set(itertools.combinations([(name, choice[name]) for name in order if name in choice], 2))


def _asked_by(conditions: Mapping[str, Any], names: Iterable[str]) -> Iterator[str]:
    for name in names:
        yield from _referred(conditions[name])
        yield from _asked_by(conditions, _nested(conditions[name], "Condition"))


def _nested(value: Any, wanted: str) -> Iterator[Any]:
    """What stands under the key ``wanted``, wherever it is."""
    for inner in value if isinstance(value, list) else value.values() if isinstance(value, dict) else ():
        yield from _nested(inner, wanted)
    if isinstance(value, dict) and wanted in value:
        yield value[wanted]


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
