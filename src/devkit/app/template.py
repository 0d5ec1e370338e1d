"""What template.yaml says of each function, with its parameters filled in: enough to run it without CloudFormation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .catalogue import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TEMPLATE = ROOT / "template.yaml"


@dataclass(frozen=True)
class Function:
    """One AWS::Serverless::Function with the template's Globals merged in."""

    name: str
    handler: str
    timeout_s: int
    memory_mb: int
    environment: Mapping[str, str]


def functions(parameters: Mapping[str, str], template: Path = TEMPLATE) -> dict[str, Function]:
    """The functions by logical id. ``parameters`` override the template's defaults; a value of neither is empty."""
    content = load(template)
    values = {name: str(spec.get("Default", "")) for name, spec in content["Parameters"].items()} | dict(parameters)
    shared = content["Globals"]["Function"]
    return {
        name: _function(name, shared, resource["Properties"], values)
        for name, resource in content["Resources"].items()
        if resource["Type"] == "AWS::Serverless::Function"
    }


def load(template: Path = TEMPLATE) -> dict[str, Any]:
    """The template as it stands, short forms of intrinsic functions as their long ones."""
    from samcli.yamlhelper import yaml_parse

    content: dict[str, Any] = yaml_parse(template.read_text())
    return content


def _function(name: str, shared: dict[str, Any], own: dict[str, Any], values: Mapping[str, str]) -> Function:
    variables = _variables(shared) | _variables(own)
    return Function(
        name=name,
        handler=own["Handler"],
        timeout_s=own.get("Timeout", shared.get("Timeout", 3)),
        memory_mb=own.get("MemorySize", shared.get("MemorySize", 128)),
        environment={key: _resolved(value, values) for key, value in variables.items()},
    )


def _variables(properties: dict[str, Any]) -> dict[str, Any]:
    variables: dict[str, Any] = properties.get("Environment", {}).get("Variables", {})
    return variables


def _resolved(value: Any, values: Mapping[str, str]) -> str:
    """A literal, or a Ref to a parameter. Anything else needs CloudFormation, and is empty as it is to SAM locally."""
    if isinstance(value, dict):
        return values.get(value.get("Ref", ""), "")
    return str(value)
