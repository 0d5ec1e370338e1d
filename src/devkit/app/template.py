"""What a SAM template says of each function, with its parameters filled in: enough to run it without CloudFormation.

Its sections may all be absent but for Resources. What a function here cannot be run from is told, not guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .errors import ProjectError
from .intrinsics import Intrinsics, UnknownValueError, reference, section
from .runtime import FUNCTION, LAYER, on

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# Lambda's own, in seconds and megabytes, where a template says nothing.
LIMITS = {"Timeout": 3, "MemorySize": 128}


@dataclass(frozen=True)
class Function:
    """One AWS::Serverless::Function with the template's Globals merged in.

    ``environment`` holds its variables as text; those in ``unknown`` are empty there, because only a deployed stack
    knows them. ``variables`` are the same as the template writes them. ``assumed`` has Lambda's own limit for each
    property that only a deployed stack knows. ``code`` is the folder that CodeUri names, and ``layers`` are those of
    its layers whose modules lie in a folder too; what a layer's build installs is not in them.
    """

    name: str
    handler: str
    runtime: str
    code: Path
    layers: tuple[Path, ...]
    timeout_s: int
    memory_mb: int
    environment: Mapping[str, str]
    unknown: tuple[str, ...]
    variables: Mapping[str, Any]
    assumed: Mapping[str, int]


@dataclass(frozen=True)
class Template:
    """The SAM template in ``path``, with the values ``given`` over its parameters' defaults.

    ``runtime`` is the Python that its functions are for in the place of the one that it names.
    """

    path: Path
    given: Mapping[str, str] = field(default_factory=dict)
    runtime: str | None = None

    @cached_property
    def content(self) -> dict[str, Any]:
        """The template as it stands, short forms of intrinsic functions as their long ones. Raises ProjectError."""
        from samcli.yamlhelper import yaml_parse
        from yaml import YAMLError

        try:
            content = yaml_parse(self.path.read_text())
        except (OSError, ValueError, YAMLError) as error:
            raise ProjectError(f"{self.path}: {error}") from error
        if not isinstance(content, dict) or not isinstance(content.get("Resources"), dict):
            raise ProjectError(f"{self.path} is no template: it has no Resources")
        for kind in ("Parameters", "Resources"):
            for name, said in section(content, kind).items():
                if not isinstance(said, dict):  # as the list of an Fn::ForEach, or nothing
                    raise ProjectError(f"{self.path}: {kind}: {name} cannot be read here: {said!r}")
        return on(content, self.runtime) if self.runtime else content

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters' declarations by name."""
        return section(self.content, "Parameters")

    @property
    def resources(self) -> dict[str, Any]:
        """The resources by logical id."""
        return section(self.content, "Resources")

    def intrinsics(self, given: Mapping[str, str] | None = None) -> Intrinsics:
        """Its intrinsic functions. ``given`` are further values of parameters, and of what else can be referred to."""
        return Intrinsics(self.content, {**self.given, **(given or {})})

    def functions(self, given: Mapping[str, str] | None = None) -> dict[str, Function]:
        """The functions that this machine can run, by logical id.

        ``given`` are further values of parameters; one without any value is empty.
        """
        known = self.intrinsics(given)
        return {name: self._function(name, known) for name in self._named() if self.unsupported(name) is None}

    def unsupported(self, name: str) -> str | None:
        """Why the resource ``name`` is no function that can be run here, in a sentence; None where it is one."""
        if name not in self._named():
            return f"{self.path.name} has no function {name}; it has {', '.join(self._named()) or 'none'}"
        properties, known = self._properties(name), self.intrinsics()
        runtime, code = (known.text_or_none(properties.get(key, "")) for key in ("Runtime", "CodeUri"))
        reasons = {
            "is an image; what runs here comes from a folder (CodeUri)": "ImageUri" in properties
            or properties.get("PackageType") == "Image",
            "is inline code; what runs here comes from a folder (CodeUri)": "InlineCode" in properties,
            f"has the Runtime {runtime}; what runs here is Python": not (runtime or "").startswith("python"),
            f"has the CodeUri {code}, which is no folder here": code is None or not self._folder(code).is_dir(),
            "has no Handler": not isinstance(properties.get("Handler"), str),
        }
        return next((f"{name} {reason}" for reason, holds in reasons.items() if holds), None)

    def called_at_deploy(self) -> set[str]:
        """The functions that CloudFormation itself calls: those behind custom resources, such as migrations."""
        tokens = [section(resource, "Properties").get("ServiceToken") for resource in self.resources.values()]
        return {reference(token).partition(".")[0] for token in tokens} & set(self._named())

    def _named(self) -> list[str]:
        return [name for name, resource in self.resources.items() if resource.get("Type") == FUNCTION]

    def _properties(self, name: str) -> dict[str, Any]:
        shared = section(section(self.content, "Globals"), "Function")
        own = section(self.resources[name], "Properties")
        variables = _variables(shared) | _variables(own)
        return {**shared, **own, "Environment": {"Variables": variables}}

    def _folder(self, code: str) -> Path:
        return self.path.parent / code

    def _function(self, name: str, known: Intrinsics) -> Function:
        properties = self._properties(name)
        variables: dict[str, Any] = properties["Environment"]["Variables"]
        environment, unknown = {}, []
        for key, value in variables.items():
            try:
                environment[key] = known.text(value)
            except UnknownValueError:
                environment[key] = ""
                unknown.append(key)
        said = {key: self._limit(name, key, properties, known) for key in LIMITS}
        assumed = {key: default for key, default in LIMITS.items() if said[key] is None}
        limits = {key: limit for key, limit in said.items() if limit is not None} | assumed
        return Function(
            name=name,
            handler=properties["Handler"],
            runtime=known.text(properties["Runtime"]),
            code=self._folder(known.text(properties.get("CodeUri", ""))).resolve(),
            layers=tuple(self._layers(properties.get("Layers") or [], known)),
            timeout_s=limits["Timeout"],
            memory_mb=limits["MemorySize"],
            environment=environment,
            unknown=tuple(unknown),
            variables=variables,
            assumed=assumed,
        )

    def _layers(self, layers: list[Any], known: Intrinsics) -> Iterator[Path]:
        for layer in layers:
            resource = self.resources.get(known.reference(layer), {})
            content = known.text_or_none(section(resource, "Properties").get("ContentUri", {}))
            built_by = str(section(resource, "Metadata").get("BuildMethod", ""))
            if resource.get("Type") != LAYER or content is None:
                continue
            # What `sam build` makes the folder `python` of, or what is one already.
            folder = self._folder(content) if built_by.startswith("python") else self._folder(content) / "python"
            if folder.is_dir():
                yield folder.resolve()

    def _limit(self, name: str, key: str, properties: Mapping[str, Any], known: Intrinsics) -> int | None:
        """None where only a deployed stack has it, as it has a parameter that nothing gives a value."""
        text = known.text_or_none(properties.get(key, LIMITS[key]))
        if not text:
            return None
        if not text.isdecimal():
            raise ProjectError(f"{self.path.name}: {name} has the {key} {text}, which is no number")
        return int(text)


def _variables(properties: dict[str, Any]) -> dict[str, Any]:
    return section(section(properties, "Environment"), "Variables")
