"""CloudFormation's intrinsic functions, as far as a template and its parameters say what comes out.

What only a deployed stack knows (``Fn::GetAtt``, ``Fn::ImportValue``) has no value here; a reference to a resource is
the resource's logical id, as it is to ``sam local``.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/pseudo-parameter-reference.html
PSEUDO_PARAMETERS = {
    "AWS::AccountId": "123456789012",
    "AWS::NoValue": "",
    "AWS::NotificationARNs": "",
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::StackId": "arn:aws:cloudformation:us-east-1:123456789012:stack/local/00000000-0000-0000-0000-000000000000",
    "AWS::StackName": "local",
    "AWS::URLSuffix": "amazonaws.com",
}
_PLACEHOLDER = re.compile(r"\$\{(!?)([\w:.]+)\}")


class UnknownValueError(LookupError):
    """Only a deployed stack has the value."""


class Intrinsics:
    """The functions over one template: its Parameters (with ``given`` over their defaults), Conditions, Mappings."""

    def __init__(self, template: Mapping[str, Any], given: Mapping[str, str]) -> None:
        defaults = {name: _text(spec.get("Default", "")) for name, spec in section(template, "Parameters").items()}
        self._values = {**PSEUDO_PARAMETERS, **defaults, **given}
        self._conditions = section(template, "Conditions")
        self._mappings = section(template, "Mappings")
        self._resources = section(template, "Resources")

    def text(self, value: Any) -> str:
        """``value`` as the text that a function's variable would be. Raises UnknownValueError."""
        resolved = self._resolved(value)
        if isinstance(resolved, (dict, list)):
            raise UnknownValueError(json.dumps(value))
        return _text(resolved)

    def text_or_none(self, value: Any) -> str | None:
        """The same; None where it is not known."""
        try:
            return self.text(value)
        except UnknownValueError:
            return None

    def chosen(self, value: Any) -> Any:
        """``value`` as it stands, but for ``Fn::If``: of that, the branch that holds. Raises UnknownValueError."""
        while isinstance(value, dict) and value.keys() == {"Fn::If"}:
            condition, yes, no = value["Fn::If"]
            value = yes if self.holds({"Condition": condition}) else no
        return value

    def reference(self, value: Any) -> str:
        """What ``value`` refers to (``reference``) by the branch that holds; as a whole, where that is not known."""
        try:
            return reference(self.chosen(value))
        except UnknownValueError:
            return reference(value)

    def holds(self, condition: Any) -> bool:
        """Whether a condition of the template, or one written out, is true."""
        ((function, argument),) = condition.items()
        match function:
            case "Condition" if argument in self._conditions:
                return self.holds(self._conditions[argument])
            case "Fn::Equals":
                left, right = argument
                return self.text(left) == self.text(right)
            case "Fn::Not":
                return not self.holds(argument[0])
            case "Fn::And":
                return all(self.holds(one) for one in argument)
            case "Fn::Or":
                return any(self.holds(one) for one in argument)
        raise UnknownValueError(json.dumps(condition))

    def _resolved(self, value: Any) -> Any:
        value = self.chosen(value)
        if isinstance(value, list):
            return [self._resolved(one) for one in value]
        if not isinstance(value, dict) or len(value) != 1:
            return value
        ((name, argument),) = value.items()
        functions: dict[str, Callable[[Any], Any]] = {
            "Ref": self._ref,
            "Fn::FindInMap": self._find_in_map,
            "Fn::GetAtt": self._attribute,
            "Fn::Join": lambda parts: _text(parts[0]).join(self.text(one) for one in self._resolved(parts[1])),
            "Fn::Select": lambda parts: self._resolved(parts[1])[int(self.text(parts[0]))],
            "Fn::Split": lambda parts: self.text(parts[1]).split(_text(parts[0])),
            "Fn::Sub": self._sub,
        }
        if name not in functions:
            raise UnknownValueError(json.dumps(value))
        return functions[name](argument)

    def _ref(self, name: str) -> str:
        if name in self._values:
            return self._values[name]
        if name in self._resources:
            return name
        raise UnknownValueError(name)

    def _attribute(self, path: str | list[str]) -> str:
        name = path if isinstance(path, str) else ".".join(path)
        if name not in self._values:
            raise UnknownValueError(name)
        return self._values[name]

    def _find_in_map(self, argument: list[Any]) -> Any:
        keys, options = [self.text(key) for key in argument[:3]], argument[3:]
        found: Any = self._mappings
        for key in keys:  # YAML reads an account's number as one
            found = {_text(name): value for name, value in found.items()}.get(key) if isinstance(found, dict) else None
        if found is not None:
            return found
        match options:
            case [{"DefaultValue": default}]:  # of the transform AWS::LanguageExtensions
                return self._resolved(default)
        raise UnknownValueError(json.dumps(argument))

    def _sub(self, argument: Any) -> str:
        template, own = argument if isinstance(argument, list) else (argument, {})

        def filled(match: re.Match[str]) -> str:
            literal, name = match.groups()
            if literal:
                return f"${{{name}}}"
            if name in own:
                return self.text(own[name])
            return self._attribute(name) if "." in name else self._ref(name)

        return _PLACEHOLDER.sub(filled, template)


def section(template: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A section of the template; empty where it has none, or an empty one."""
    return template.get(name) or {}


def reference(value: Any) -> str:
    """What ``value`` refers to: a parameter's or a resource's name, ``Resource.Attribute``, or the text itself."""
    match value:
        case {"Ref": str(name)} | {"Fn::Sub": str(name)}:
            return name
        case {"Fn::GetAtt": str(path)}:
            return path
        case {"Fn::GetAtt": [*path]}:
            return ".".join(path)
        case str():
            return value
    return json.dumps(value)


def _text(value: Any) -> str:
    """As YAML's booleans are written, and CloudFormation hands them on."""
    return str(value).lower() if isinstance(value, bool) else str(value)
