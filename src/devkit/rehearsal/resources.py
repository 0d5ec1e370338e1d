"""The resources of a stack: what exists, what it was made from, and how one of a type is made.

moto makes a resource as soon as anybody mentions it, so that whoever lists a stack in the middle of a deploy carries it
on; here only ``execution`` makes one. And moto leaves out a type that it does not know, with all that refers to it;
here a ``Recorded`` takes its place, which has an id, any attribute, and does nothing.
"""

from __future__ import annotations

import copy
import ipaddress
import itertools
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from moto.cloudformation.parsing import (
    ResourceMap,
    clean_json,
    generate_resource_name,
    get_model_map,
    resource_name_property_from_type,
)

from .failure import Failed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from moto.core.common_models import CloudFormationModel


@dataclass(frozen=True)
class Definition:
    """A resource as its template means it: ``properties`` without an intrinsic function left in them."""

    logical_id: str
    kind: str
    properties: dict[str, Any]
    deletion_policy: str
    stack_id: str
    physical_name: str = field(compare=False)

    def stays(self, *, rolled_back: bool) -> bool:
        """Whether its end is skipped; ``rolled_back`` says that what goes is what the operation itself had made."""
        return self.deletion_policy == "Retain" or (self.deletion_policy == "RetainExceptOnCreate" and not rolled_back)


class Maker(Protocol):
    """How resources of one type are made, changed and removed. Each raises Failed."""

    def create(self, definition: Definition) -> Any: ...

    def update(self, made: Any, definition: Definition, before: Definition) -> Any: ...

    def delete(self, made: Any, definition: Definition) -> None: ...


class Recorded:
    """A resource that exists as a record alone."""

    def __init__(self, logical_id: str) -> None:
        self.physical_resource_id = f"{logical_id.lower()}-{uuid.uuid4().hex[:10]}"

    def get_cfn_attribute(self, name: str) -> str:
        """Some text, the same at each call."""
        return f"{self.physical_resource_id}.{name}"


class Recorder:
    """The maker of ``Recorded``. It remembers for which types."""

    def __init__(self) -> None:
        self.kinds: set[str] = set()

    def create(self, definition: Definition) -> Recorded:
        """One more."""
        self.kinds.add(definition.kind)
        return Recorded(definition.logical_id)

    def update(self, made: Recorded, _definition: Definition, _before: Definition) -> Recorded:
        """The same."""
        return made

    def delete(self, _made: Recorded, _definition: Definition) -> None:
        """Nothing is there to delete."""


class MotoMaker:
    """The maker of what moto knows. A type that it cannot change keeps what it was created with."""

    def __init__(self, model: type[CloudFormationModel], account_id: str, region: str) -> None:
        self._model = model
        self._where = (account_id, region)

    def create(self, definition: Definition) -> Any:
        """As moto does it."""
        return self._model.create_from_cloudformation_json(
            definition.physical_name,
            _as_moto_reads_it(definition),
            *self._where,
            LogicalId=definition.logical_id,
            StackId=definition.stack_id,
            ResourceType=definition.kind,
        )

    def update(self, made: Any, definition: Definition, _before: Definition) -> Any:
        """As moto does it, where it does."""
        if hasattr(self._model.update_from_cloudformation_json, "__isabstractmethod__"):
            return made
        name, read = definition.physical_name, _as_moto_reads_it(definition)
        return self._model.update_from_cloudformation_json(made, name, read, *self._where)

    def delete(self, made: Any, definition: Definition) -> None:
        """As moto does it: some models delete themselves, others are deleted by their name."""
        try:
            made.delete(*self._where)
        except (TypeError, AttributeError):
            if not hasattr(self._model.delete_from_cloudformation_json, "__isabstractmethod__"):
                name, read = made.physical_resource_id, _as_moto_reads_it(definition)
                self._model.delete_from_cloudformation_json(name, read, *self._where)


def _as_moto_reads_it(definition: Definition) -> dict[str, Any]:
    return {"Type": definition.kind, "Properties": copy.deepcopy(definition.properties)}


class Makers:
    """The maker for each type: ``own`` first, by the type's name or what it begins with; then moto's; then a record."""

    def __init__(self, own: Mapping[str, Maker], account_id: str, region: str) -> None:
        self._own = own
        self._where = (account_id, region)
        self.recorder = Recorder()

    def __getitem__(self, kind: str) -> Maker:
        for name, maker in self._own.items():
            if kind == name or (name.endswith("::") and kind.startswith(name)):
                return maker
        model = get_model_map().get(kind)
        return self.recorder if model is None else MotoMaker(model, *self._where)


class Resources(ResourceMap):
    """What a stack has. It reads as moto's, and makes nothing by itself; ``applied`` has what each was made from."""

    def __init__(self, stack_id: str, stack_name: str, account_id: str, region: str) -> None:
        super().__init__(stack_id, stack_name, {}, {}, region, account_id, {}, None)
        self.applied: dict[str, Definition] = {}

    def __getitem__(self, key: str) -> Any:
        return self._parsed_resources[key]

    @property
    def resources(self) -> list[str]:
        """The logical ids of those that exist."""
        return list(self.applied)

    def adopt(self, template: dict[str, Any], parameters: Mapping[str, str]) -> None:
        """From here on, names and conditions are those of ``template``."""
        self._template = template
        self._resource_json_map = template["Resources"]
        self.input_parameters = dict(parameters)
        self.resolved_parameters = {}
        self.load_mapping()
        self.load_parameters()
        self.load_conditions()

    def load_conditions(self) -> None:
        """By the parameters as texts, as CloudFormation compares them: to moto, 0 is a number and no template's "0"."""
        declared = self._template.get("Parameters", {})
        kept = self._parsed_resources
        texts = {name: value for name, value in self.input_parameters.items() if declared[name]["Type"] == "Number"}
        self._parsed_resources = {**kept, **texts}
        super().load_conditions()
        self._parsed_resources = kept

    def wanted(self) -> Iterator[str]:
        """The logical ids whose condition holds."""
        for name, said in self._resource_json_map.items():
            if "Condition" not in said or self.lazy_condition_map[said["Condition"]]:
                yield name

    def definition(self, name: str) -> Definition:
        """What the template says of ``name``, by what exists. Raises Failed where it mentions what does not."""
        said = self._resource_json_map[name]
        try:
            properties = _without_none(clean_json(self._with_addresses(said.get("Properties", {})), self))
        except KeyError as error:
            raise Failed(f"{name} refers to {error}, which the stack does not have") from error
        kind = said["Type"]
        named_by = resource_name_property_from_type(kind)
        generated = generate_resource_name(kind, self["AWS::StackName"], name)
        return Definition(
            logical_id=name,
            kind=kind,
            properties=properties,
            deletion_policy=said.get("DeletionPolicy", "Delete"),
            stack_id=self.stack_id,
            physical_name=properties.get(named_by, generated) if named_by else generated,
        )

    def _with_addresses(self, value: Any) -> Any:
        """A copy in which ``Fn::Cidr`` is what it comes to; moto does not know that function."""
        match value:
            case {"Fn::Cidr": [block, count, bits]}:
                network, number, host_bits = (
                    clean_json(self._with_addresses(one), self) for one in (block, count, bits)
                )
                parts = ipaddress.ip_network(network).subnets(new_prefix=32 - int(host_bits))
                return [str(part) for part in itertools.islice(parts, int(number))]
            case dict():
                return {key: self._with_addresses(inner) for key, inner in value.items()}
            case list():
                return [self._with_addresses(inner) for inner in value]
        return value

    def put(self, definition: Definition, made: Any) -> None:
        """``made`` is the resource of ``definition`` now."""
        # As `describe-stack-resources` asks for them, and what a Ref to it is.
        made.logical_resource_id, made.cf_resource_type = definition.logical_id, definition.kind
        if getattr(made, "physical_resource_id", None) is None:
            made.physical_resource_id = getattr(made, "arn", definition.physical_name)
        self._parsed_resources[definition.logical_id] = made
        self.applied[definition.logical_id] = definition

    def take(self, name: str) -> tuple[Any, Definition]:
        """A resource that is about to be no more."""
        return self._parsed_resources.pop(name), self.applied.pop(name)


def _without_none(value: Any) -> Any:
    """``AWS::NoValue`` takes an item out of a list as well; moto leaves a null there."""
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_none(inner) for inner in value if inner is not None]
    return value
