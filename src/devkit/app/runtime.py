"""The Python that an application's functions run on: what its template names, or another one in its place.

A build compiles for one Python, so another one is a change of the template and not a parameter: nobody could deploy
what was built for the one and name the other.
"""

from __future__ import annotations

import copy
import json
import re
from typing import TYPE_CHECKING, Any

from devkit.lambda_runtime.environment import RUNNING

from .errors import ProjectError
from .intrinsics import section

if TYPE_CHECKING:
    from collections.abc import Mapping

# The kinds of resource that are for one.
FUNCTION = "AWS::Serverless::Function"
LAYER = "AWS::Serverless::LayerVersion"


def asked_for(text: str) -> str:
    """The runtime that ``text`` means: python3.14, or 3.14. Raises ProjectError where it is none that runs here."""
    runtime = f"python{text.removeprefix('python')}"
    if not re.fullmatch(r"python3\.\d+", runtime):
        raise ProjectError(f"--runtime {text}: {RUNNING} is one, and so is {RUNNING.removeprefix('python')}")
    if runtime != RUNNING:
        raise ProjectError(
            f"--runtime {text}: what runs here is {RUNNING}. With RUNTIME={runtime.removeprefix('python')}, make has an"
            " environment of that version"
        )
    return runtime


def on(template: Mapping[str, Any], runtime: str) -> dict[str, Any]:
    """A copy in which each function and each layer is for ``runtime``. Raises ProjectError where a Ref says which."""
    changed = copy.deepcopy(dict(template))
    shared = section(section(changed, "Globals"), "Function")
    resources = section(changed, "Resources")
    for name, properties in {"Globals": shared, **_properties(resources, FUNCTION)}.items():
        if "Runtime" in properties:
            properties["Runtime"] = _instead(properties["Runtime"], runtime, f"Runtime of {name}")
    for name, properties in _properties(resources, LAYER).items():
        match properties.get("CompatibleRuntimes"):
            case [value]:
                properties["CompatibleRuntimes"] = [_instead(value, runtime, f"CompatibleRuntimes of {name}")]
    return changed


def _properties(resources: Mapping[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    return {name: section(one, "Properties") for name, one in resources.items() if one.get("Type") == kind}


def _instead(value: Any, runtime: str, what: str) -> Any:
    if not isinstance(value, str):
        raise ProjectError(f"--runtime {runtime}: {what} is {json.dumps(value)}, and only a name can be another one")
    return runtime if value.startswith("python") else value
