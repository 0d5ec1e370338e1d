"""A change set, carried out: every resource in order, and back again when one fails.

moto's has a note in this place: "TODO: handle execution errors and implement rollback". CloudFormation brings each
resource that it has touched back to what the older template says, the one that failed included, and only then removes
what the new one had added; https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/stack-failure-options.html.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from moto.cloudformation.models import Event
from moto.cloudformation.parsing import OutputMap

from .custom_resource import CreationFailed
from .failure import Failed
from .order import in_order
from .resources import Resources

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moto.cloudformation.models import ChangeSet, Stack

    from .resources import Definition, Makers

STACK = "AWS::CloudFormation::Stack"


@dataclass(frozen=True)
class State:
    """What a stack was last brought to."""

    template: dict[str, Any]
    parameters: Mapping[str, str]


NOTHING = State({"Resources": {}}, {})


@dataclass
class Execution:
    """One stack. ``refused`` has a reason for each logical id that is to fail the next time that it is touched."""

    stack: Stack
    makers: Makers
    refused: dict[str, str] = field(default_factory=dict)
    state: State = NOTHING

    def __post_init__(self) -> None:
        stack = self.stack
        self.resources = Resources(stack.stack_id, stack.name, stack.account_id, stack.region_name)
        stack.resource_map = self.resources
        stack.output_map = OutputMap(self.resources, {}, stack.stack_id)

    def execute(self, change_set: ChangeSet) -> None:
        """To the change set's template, or back to where it was."""
        verb = str(change_set.change_set_type)
        before, after = self.state, State(change_set.template_dict, change_set.parameters)
        self._tell(f"{verb}_IN_PROGRESS", "User Initiated")
        try:
            self._bring_to(after)
            outputs = self._outputs(after)
        except Failed as error:
            self._roll_back(before, "ROLLBACK" if verb == "CREATE" else "UPDATE_ROLLBACK", str(error))
            return
        self._remove_what_is_left(f"{verb}_COMPLETE_CLEANUP_IN_PROGRESS")
        self.state = after
        self.stack.output_map = outputs
        self.stack.template, self.stack.parameters = change_set.template, change_set.parameters
        self.stack.description = change_set.template_dict.get("Description")
        change_set.execution_status = "EXECUTE_COMPLETE"
        self._tell(f"{verb}_COMPLETE")

    def delete(self) -> bool:
        """Everything that it has but for what is to be retained. Whether it went."""
        self._tell("DELETE_IN_PROGRESS", "User Initiated")
        try:
            self._remove(in_order(self.state.template["Resources"]))
        except Failed as error:
            self._tell("DELETE_FAILED", str(error))
            return False
        self._tell("DELETE_COMPLETE")
        return True

    def _roll_back(self, before: State, verb: str, reason: str) -> None:
        self._tell(f"{verb}_IN_PROGRESS", reason)
        try:
            self._bring_to(before)
            self._remove_what_is_left(f"{verb}_COMPLETE_CLEANUP_IN_PROGRESS", rolled_back=True)
        except Failed as error:
            self._tell(f"{verb}_FAILED", str(error))
            return
        self._tell(f"{verb}_COMPLETE")

    def _bring_to(self, state: State) -> None:
        resources = self.resources
        resources.adopt(state.template, state.parameters)
        wanted = set(resources.wanted())
        for name in in_order(state.template["Resources"]):
            if name in wanted:
                self._bring(name)

    def _bring(self, name: str) -> None:
        """One resource to what the template says, if it is not there yet."""
        resources = self.resources
        before = resources.applied.get(name)
        definition = resources.definition(name)
        if before == definition:
            return
        verb = "CREATE" if before is None else "UPDATE"
        self._event(f"{verb}_IN_PROGRESS", name, definition.kind)
        try:
            made = self._made(definition, before)
        except Failed as error:
            if isinstance(error, CreationFailed):
                resources.put(definition, error.made)
            self._event(f"{verb}_FAILED", name, definition.kind, str(error))
            raise
        except Exception as error:
            self._event(f"{verb}_FAILED", name, definition.kind, repr(error))
            raise Failed(f"{name}: {error!r}") from error
        resources.put(definition, made)
        self._event(f"{verb}_COMPLETE", name, definition.kind)

    def _made(self, definition: Definition, before: Definition | None) -> Any:
        if reason := self.refused.pop(definition.logical_id, None):
            raise Failed(reason)
        maker = self.makers[definition.kind]
        if before is None:
            return maker.create(definition)
        # Also what fails counts as touched: a roll-back updates it again.
        self.resources.applied[definition.logical_id] = definition
        return maker.update(self.resources[definition.logical_id], definition, before)

    def _remove_what_is_left(self, status: str, *, rolled_back: bool = False) -> None:
        wanted = set(self.resources.wanted())
        if left := [name for name in self.resources.applied if name not in wanted]:
            self._tell(status)
            self._remove(left, rolled_back=rolled_back)

    def _remove(self, names: list[str], *, rolled_back: bool = False) -> None:
        """From the last to the first: ``names`` are in the order in which they were made."""
        for name in reversed([one for one in names if one in self.resources.applied]):
            made, definition = self.resources.take(name)
            if definition.stays(rolled_back=rolled_back):
                self._event("DELETE_SKIPPED", name, definition.kind)
                continue
            self._event("DELETE_IN_PROGRESS", name, definition.kind)
            try:
                self.makers[definition.kind].delete(made, definition)
            except Exception as error:
                self.resources.put(definition, made)
                said = str(error) if isinstance(error, Failed) else repr(error)
                self._event("DELETE_FAILED", name, definition.kind, said)
                raise Failed(said) from error
            self._event("DELETE_COMPLETE", name, definition.kind)

    def _outputs(self, state: State) -> OutputMap:
        outputs = OutputMap(self.resources, state.template, self.stack.stack_id)
        try:
            # Now: later it would be read from the middle of the next update.
            list(outputs.values())
        except Exception as error:
            raise Failed(f"Unresolved resource dependencies in the Outputs block of the template: {error!r}") from error
        return outputs

    def _tell(self, status: str, reason: str | None = None) -> None:
        # The status first: `sam deploy` ends its wait by the event, and then looks at the stack.
        self.stack.status = status
        self._event(status, self.stack.name, STACK, reason, self.stack.stack_id)

    def _event(
        self, status: str, name: str, kind: str, reason: str | None = None, physical_id: str | None = None
    ) -> None:
        event = Event(
            stack_id=self.stack.stack_id,
            stack_name=self.stack.name,
            logical_resource_id=name,
            physical_resource_id=physical_id or name,
            resource_type=kind,
            resource_status=status,
            resource_status_reason=reason,
            resource_properties=None,
        )
        self.stack.events.append(event)
