"""A template after its transform, with the values that are known. What is not known is asked for by name."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from devkit.app.intrinsics import PSEUDO_PARAMETERS, Intrinsics, UnknownValueError, section
from devkit.app.template import Template
from devkit.app.transform import as_if_packaged, transformed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# Its default is the name under which Systems Manager has the value.
ELSEWHERE = "AWS::SSM::Parameter::Value"
# https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/dynamic-references.html
DYNAMIC = "{{resolve:"


class UnsaidError(Exception):
    """A number that the plan needs and nothing here says; the message says how to."""


@dataclass(frozen=True)
class Stack:
    """The template in ``path``, with the values ``given`` for its parameters."""

    path: Path
    given: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def template(self) -> Template:
        """As it was written."""
        return Template(self.path, self.given)

    @cached_property
    def resources(self) -> dict[str, Any]:
        """Those that there are, as CloudFormation makes them. Raises ProjectError, or UnsaidError for a condition."""
        content = transformed(as_if_packaged(self.template.content), self.given, PSEUDO_PARAMETERS["AWS::Region"])
        return {
            name: resource
            for name, resource in section(content, "Resources").items()
            if "Condition" not in resource or self._holds(name, resource["Condition"])
        }

    def of(self, *kinds: str) -> dict[str, dict[str, Any]]:
        """The properties of each resource of these kinds."""
        return {
            name: section(resource, "Properties")
            for name, resource in self.resources.items()
            if resource.get("Type") in kinds
        }

    @cached_property
    def known(self) -> Intrinsics:
        """The intrinsic functions over it; a parameter without a value has none, and is not taken for empty."""
        content = self.template.content
        declared = section(content, "Parameters")
        said = {
            name: one
            for name, one in declared.items()
            if name in self.given or ("Default" in one and not str(one.get("Type", "")).startswith(ELSEWHERE))
        }
        return Intrinsics({**content, "Parameters": said}, self.given)

    def part(self, properties: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
        """What a property holds of properties of its own; empty where it is absent. Raises UnsaidError."""
        try:
            found = self.known.chosen(properties.get(key))
        except UnknownValueError as error:
            raise self.unsaid(f"{where}: {key}", properties[key], error) from error
        return found if isinstance(found, dict) and "Ref" not in found else {}

    def text(self, value: Any, where: str) -> str:
        """The text that ``value`` comes to; empty where it is absent. Raises UnsaidError."""
        if value is None:
            return ""
        try:
            text = self.known.text(value)
        except UnknownValueError as error:
            raise self.unsaid(where, value, error) from error
        if DYNAMIC in text:
            raise UnsaidError(f"{where} is {text}, which CloudFormation looks up as it deploys")
        return text

    def number(self, value: Any, where: str) -> float | None:
        """The number that ``value`` comes to; None where it is absent. Raises UnsaidError."""
        text = self.text(value, where)
        if not text:
            return None
        try:
            return float(text)
        except ValueError:
            raise UnsaidError(f"{where} is {text!r}, which is no number") from None

    def count(self, value: Any, where: str) -> int | None:
        """The same, whole."""
        number = self.number(value, where)
        return None if number is None else int(number)

    def unsaid(self, where: str, value: Any, error: UnknownValueError) -> UnsaidError:
        """Which parameter, or which value of a deployed stack, has to be given."""
        name = str(error)
        if name in section(self.template.content, "Parameters"):
            return UnsaidError(f"{where} is the parameter {name}, which has no value here: --parameter {name}=…")
        if "{" in name:
            return UnsaidError(f"{where} is {json.dumps(value)}, which only a deployed stack knows")
        return UnsaidError(f"{where} is {name}, which only a deployed stack knows: --parameter {name}=…")

    def _holds(self, name: str, condition: str) -> bool:
        try:
            return self.known.holds({"Condition": condition})
        except UnknownValueError as error:
            raise self.unsaid(f"whether there is {name}", {"Condition": condition}, error) from error


def mentioned(value: Any) -> Iterator[str]:
    """The resources and parameters that ``value`` refers to, in whichever branch."""
    if isinstance(value, list):
        for one in value:
            yield from mentioned(one)
    elif isinstance(value, dict):
        for key, inner in value.items():
            match key, inner:
                case "Ref", str(name):
                    yield name
                case "Fn::GetAtt", str(path):
                    yield path.partition(".")[0]
                case "Fn::GetAtt", [str(name), *_]:
                    yield name
                case "Fn::Sub", str(text):
                    yield from _placeholders(text)
                case "Fn::Sub", [str(text), own]:
                    yield from _placeholders(text)
                    yield from mentioned(own)
                case _:
                    yield from mentioned(inner)


def _placeholders(text: str) -> Iterator[str]:
    for part in text.split("${")[1:]:
        yield part.partition("}")[0].partition(".")[0]
