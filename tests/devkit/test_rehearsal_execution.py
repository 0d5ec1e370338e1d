"""A rehearsed stack: what is created, changed, taken back and removed, in which order, and what its status is then."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from devkit.extras import require

require("aws")

from moto.cloudformation.exceptions import ValidationError  # noqa: E402 - after the check

from devkit.rehearsal.backend import Backend  # noqa: E402 - likewise
from devkit.rehearsal.failure import Failed  # noqa: E402 - likewise
from devkit.rehearsal.resources import Makers, Recorded  # noqa: E402 - likewise

if TYPE_CHECKING:
    from devkit.rehearsal.resources import Definition

ACCOUNT, REGION = "123456789012", "us-east-1"
KIND = "Test::Traced::Thing"


class Traced:
    """A maker that writes down what it is asked to do, and fails where a property tells it to."""

    def __init__(self) -> None:
        self.trace: list[str] = []

    def create(self, definition: Definition) -> Recorded:
        self._note("create", definition)
        return Recorded(definition.logical_id)

    def update(self, made: Recorded, definition: Definition, before: Definition) -> Recorded:
        self._note(f"update from {before.properties.get('V')}", definition)
        return made

    def delete(self, _made: Recorded, definition: Definition) -> None:
        self.trace.append(f"delete {definition.logical_id}")

    def _note(self, what: str, definition: Definition) -> None:
        self.trace.append(f"{what} {definition.logical_id} {definition.properties.get('V')}")
        if definition.properties.get("Fails") == definition.properties.get("V", "always"):
            raise Failed("it was told to")

    def take(self) -> list[str]:
        taken, self.trace[:] = list(self.trace), []
        return taken


class Stack:
    """One stack, deployed by change sets."""

    def __init__(self, backend: Backend, traced: Traced) -> None:
        self.backend = backend
        self.traced = traced
        self.name = f"stack-{uuid.uuid4().hex[:6]}"

    def deploy(self, resources: dict[str, Any], parameters: dict[str, str] | None = None, **sections: Any) -> list[str]:
        """What was done for it."""
        exists = any(one.name == self.name for one in self.backend.stacks.values())
        template = json.dumps({"Resources": resources, **sections})
        name = f"c{uuid.uuid4().hex}"
        self.backend.create_change_set(
            self.name, name, template, parameters or {}, "", "UPDATE" if exists else "CREATE"
        )
        self.backend.execute_change_set(name)
        self.backend.wait()
        return self.traced.take()

    @property
    def status(self) -> str:
        return str(self.backend.get_stack(self.name).status)

    def reasons(self) -> list[str]:
        events = self.backend.get_stack(self.name).events
        return [str(one.resource_status_reason) for one in events if one.resource_status.endswith("_FAILED")]


EXCEPT_ON_CREATE = {"DeletionPolicy": "RetainExceptOnCreate"}


@pytest.fixture
def stack() -> Stack:
    """Of a backend of its own."""
    backend, traced = Backend(REGION, ACCOUNT), Traced()
    backend.makers = Makers({KIND: traced}, ACCOUNT, REGION)
    return Stack(backend, traced)


def thing(value: Any = None, **more: Any) -> dict[str, Any]:
    properties = {"V": value} | ({"Fails": more.pop("Fails")} if "Fails" in more else {})
    return {"Type": KIND, "Properties": properties, **more}


def test_resources_are_made_in_order_and_removed_in_reverse(stack: Stack) -> None:
    """What waits comes later, and goes first."""
    resources = {"B": thing(1, DependsOn="A"), "A": thing(1)}
    assert stack.deploy(resources) == ["create A 1", "create B 1"]
    assert stack.status == "CREATE_COMPLETE"
    stack.backend.delete_stack(stack.name)
    assert stack.traced.take() == ["delete B", "delete A"]
    with pytest.raises(ValidationError, match="does not exist"):
        stack.backend.get_stack(stack.name)


def test_an_update_touches_what_changed_and_whoever_mentions_it(stack: Stack) -> None:
    """And removes what is no longer named, at the end."""
    before = {"A": thing(1), "B": thing(1, DependsOn="A"), "C": thing({"Ref": "P"})}
    declared = {"P": {"Type": "String", "Default": "x"}}
    stack.deploy(before, Parameters=declared)
    after = {"C": thing({"Ref": "P"}), "B": thing(2)}
    assert stack.deploy(after, {"P": "y"}, Parameters=declared) == [
        "update from x C y",
        "update from 1 B 2",
        "delete A",
    ]
    assert stack.status == "UPDATE_COMPLETE"


def test_a_failed_update_takes_back_what_it_touched_and_nothing_else(stack: Stack) -> None:
    """The resource that failed too; what was added goes, what had not been reached is left alone."""
    stack.deploy({"A": thing(1), "B": thing(1), "C": thing(1)})
    done = stack.deploy({"New": thing(1), "A": thing(2), "B": thing(2, Fails=2), "C": thing(2)})
    assert done == [
        *("create New 1", "update from 1 A 2", "update from 1 B 2"),
        *("update from 2 A 1", "update from 2 B 1", "delete New"),
    ]
    assert (stack.status, stack.reasons()) == ("UPDATE_ROLLBACK_COMPLETE", ["it was told to"])
    assert stack.deploy({"A": thing(1), "B": thing(1), "C": thing(3)}) == ["update from 1 C 3"]


def test_a_roll_back_that_fails_leaves_a_stack_that_cannot_be_deployed_to(stack: Stack) -> None:
    """Until somebody goes on with it by hand."""
    stack.deploy({"A": thing(1, Fails=2), "B": thing(1)})
    stack.backend.execution(stack.name).refused["B"] = "throttled"
    # Back at 1, A fails as well.
    stack.backend.execution(stack.name).state.template["Resources"]["A"]["Properties"]["Fails"] = 1
    stack.deploy({"A": thing(3), "B": thing(2)})
    assert (stack.status, stack.reasons()) == (
        "UPDATE_ROLLBACK_FAILED",
        ["throttled", "it was told to", "it was told to"],
    )
    with pytest.raises(ValidationError, match="is in UPDATE_ROLLBACK_FAILED state and can not be updated"):
        stack.deploy({"A": thing(4)})


def test_a_failed_creation_removes_what_there_was(stack: Stack) -> None:
    """And the stack can only be deleted."""
    assert stack.deploy({"A": thing(1), "B": thing(1, Fails=1), "C": thing(1)}) == [
        *("create A 1", "create B 1", "delete A"),
    ]
    assert stack.status == "ROLLBACK_COMPLETE"
    with pytest.raises(ValidationError, match="can not be updated"):
        stack.deploy({"A": thing(1)})
    stack.backend.delete_stack(stack.name)
    assert stack.traced.take() == []


def test_what_is_to_be_retained_outlives_the_stack(stack: Stack) -> None:
    """Its end is skipped."""
    stack.deploy({"A": thing(1, DeletionPolicy="Retain"), "B": thing(1), "C": thing(1, **EXCEPT_ON_CREATE)})
    stack.backend.delete_stack(stack.name)
    assert stack.traced.take() == ["delete B"]


def test_what_a_roll_back_takes_again_is_not_retained_where_that_is_said(stack: Stack) -> None:
    """Of an update as of a creation; but ``Retain`` by itself leaves behind what nobody has used yet."""
    failing = {"A": thing(1, DeletionPolicy="Retain"), "B": thing(1, **EXCEPT_ON_CREATE), "C": thing(1, Fails=1)}
    assert stack.deploy(failing) == ["create A 1", "create B 1", "create C 1", "delete B"]


def test_conditions_say_what_exists(stack: Stack) -> None:
    """A resource whose condition ceases to hold is removed; an item without a value leaves its list."""
    sections: dict[str, Any] = {
        "Parameters": {"On": {"Type": "String"}},
        "Conditions": {"IsOn": {"Fn::Equals": [{"Ref": "On"}, "yes"]}},
    }
    value = [1, {"Fn::If": ["IsOn", 2, {"Ref": "AWS::NoValue"}]}]
    resources = {"A": thing(value), "B": thing(1, Condition="IsOn")}
    assert stack.deploy(resources, {"On": "yes"}, **sections) == ["create A [1, 2]", "create B 1"]
    assert stack.deploy(resources, {"On": "no"}, **sections) == ["update from [1, 2] A [1]", "delete B"]


def test_a_number_is_compared_as_it_is_written(stack: Stack) -> None:
    """And reaches a resource as one."""
    sections: dict[str, Any] = {
        "Parameters": {"Least": {"Type": "Number", "Default": 0}},
        "Conditions": {"IsNone": {"Fn::Equals": [{"Ref": "Least"}, "0"]}},
    }
    resources = {"A": thing({"Fn::If": ["IsNone", "none", {"Ref": "Least"}]})}
    assert stack.deploy(resources, **sections) == ["create A none"]
    assert stack.deploy(resources, {"Least": "1"}, **sections) == ["update from none A 1"]


def test_addresses_are_divided(stack: Stack) -> None:
    """As a network's are into its subnets, with the host bits that are left to each."""
    block = {"Fn::Select": [1, {"Fn::Cidr": [{"Ref": "Block"}, 2, 8]}]}
    declared = {"Block": {"Type": "String", "Default": "10.20.0.0/16"}}
    assert stack.deploy({"A": thing(block)}, Parameters=declared) == ["create A 10.20.1.0/24"]


def test_a_resource_that_moto_does_not_know_has_an_id(stack: Stack) -> None:
    """So that whatever refers to it is made, and outputs are filled in; which they are is told."""
    resources = {"Api": {"Type": "AWS::ApiGatewayV2::Api"}, "A": thing({"Ref": "Api"})}
    outputs = {"Url": {"Value": {"Fn::Sub": "https://${Api}.example.com/${Api.Stage}"}}}
    (created,) = stack.deploy(resources, Outputs=outputs)
    identity = created.rpartition(" ")[2]
    outputs_of_stack = stack.backend.get_stack(stack.name).outputs
    assert outputs_of_stack is not None
    assert outputs_of_stack[0]["OutputValue"] == f"https://{identity}.example.com/{identity}.Stage"
    assert stack.backend.makers.recorder.kinds == {"AWS::ApiGatewayV2::Api"}


def test_a_change_set_without_a_change_says_so(stack: Stack) -> None:
    """Also where a value that is a default is given."""
    sections: dict[str, Any] = {"Parameters": {"P": {"Type": "String", "Default": "x"}}}
    stack.deploy({"A": thing(1)}, **sections)
    template = json.dumps({"Resources": {"A": thing(1)}, **sections})
    created, _ = stack.backend.create_change_set(stack.name, "again", template, {"P": "x"}, "", "UPDATE")
    change_set = stack.backend.describe_change_set(created)
    assert change_set is not None
    assert (change_set.status, "didn't contain changes" in str(change_set.status_reason)) == ("FAILED", True)


def test_a_parameter_that_is_missing_makes_no_stack(stack: Stack) -> None:
    """The reason names it."""
    with pytest.raises(ValidationError, match=r"Parameters: \[P\] must have values"):
        stack.deploy({"A": thing(1)}, Parameters={"P": {"Type": "String"}})
