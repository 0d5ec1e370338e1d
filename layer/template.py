"""What the template says of one of its resources: ``python template.py <logical id> <property>... --above <folder>``.

The makefiles ask, for SAM tells them a logical id and nothing else. Prints a property a line, those of Globals
included; a value that only CloudFormation knows is an error, and so is one that is missing.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

NAMES = ("template.yaml", "template.yml", "template.json")
_SECTION_OF_GLOBALS = {"AWS::Serverless::Function": "Function", "AWS::Serverless::LayerVersion": "LayerVersion"}


class TemplateError(Exception):
    """The template does not say what the build has to know. The message says what to write, or to give."""


class _Reader(yaml.SafeLoader):
    """Reads CloudFormation's tags, such as !Ref, as mappings."""


def _tag(reader: _Reader, name: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        return {name: node.value}
    if isinstance(node, yaml.SequenceNode):
        return {name: reader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.MappingNode)  # noqa: S101 - there are no other nodes
    return {name: reader.construct_mapping(node, deep=True)}


_Reader.add_multi_constructor("!", _tag)


@dataclass(frozen=True)
class Resource:
    """One resource, with the properties of Globals where it has none of its own."""

    name: str
    template: Path
    properties: dict[str, Any]
    metadata: dict[str, Any]

    def literal(self, name: str) -> str:
        """The property, where the template itself says it."""
        value = self.properties.get(name)
        if isinstance(value, str):
            return value
        what = "is decided by CloudFormation" if value else "is missing"
        raise TemplateError(f"{self.template}: {name} of {self.name} {what}, and the build has to know it")

    def states(self, name: str) -> bool:
        """Whether the resource's Metadata says that it is so; what says nothing says that it is not."""
        value = self.metadata.get(name, False)
        if str(value).lower() not in {"true", "false"}:
            raise TemplateError(
                f"{self.template}: {name} of {self.name}, in its Metadata, is {value!r}, and not true or false"
            )
        return str(value).lower() == "true"


def resource(name: str, *, above: Path, template: Path | None = None) -> Resource:
    """The resource ``name`` in ``template``, or else in the nearest template that has it, from ``above`` upwards."""
    given = [template] if template else [folder / file for folder in (above, *above.parents) for file in NAMES]
    for path in given:
        content = _read(path) if template or path.is_file() else {}
        found = (content.get("Resources") or {}).get(name)
        if found:
            shared = (content.get("Globals") or {}).get(_SECTION_OF_GLOBALS.get(found.get("Type", ""), "")) or {}
            return Resource(name, path, shared | (found.get("Properties") or {}), found.get("Metadata") or {})
    where = str(template) if template else f"a {' or '.join(NAMES)} in {above} or above"
    raise TemplateError(f"no resource {name} in {where}: SAM_TEMPLATE=<file> in the environment names another")


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(), _Reader)  # noqa: S506 - a SafeLoader, and tags as mappings
    except (OSError, yaml.YAMLError) as error:
        raise TemplateError(f"cannot read {path}: {error}") from error
    return content if isinstance(content, dict) else {}


def main(arguments: list[str]) -> str:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("resource")
    parser.add_argument("properties", nargs="*")
    parser.add_argument("--states", help="a key of its Metadata that is true or false, printed last")
    parser.add_argument(
        "--above", type=Path, required=True, help="the folder from which templates are looked for upwards"
    )
    parser.add_argument("--template", type=Path, help="the template, where it has another name")
    given = parser.parse_args(arguments)
    found = resource(given.resource, above=given.above, template=given.template)
    lines = [found.literal(name) for name in given.properties]
    return "\n".join([*lines, str(found.states(given.states)).lower()] if given.states else lines)


if __name__ == "__main__":
    try:
        print(main(sys.argv[1:]))
    except TemplateError as error:
        sys.exit(str(error))
