"""What CloudFormation says of a stack, and what may be done with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .asking import RefusedError, asking

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .target import Target

# There is a stack, with nothing in it: its first change set waits, or was given up.
ANNOUNCED = "REVIEW_IN_PROGRESS"
# What a first deploy leaves that failed, and a delete.
NEVER_DEPLOYED = ("CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED")
ONLY_TO_DELETE = (*NEVER_DEPLOYED, "DELETE_FAILED")
STUCK = "UPDATE_ROLLBACK_FAILED"

# A resource that was only given up because another one failed tells nothing.
CANCELLED = "cancelled"
STARTS = ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS")
MOST_REASONS = 3


@dataclass(frozen=True)
class Stack:
    """A stack that is there."""

    name: str
    status: str
    outputs: Mapping[str, str]
    parameters: Mapping[str, str]
    descriptions: Mapping[str, str]


def look(cloudformation: Any, name: str, target: Target) -> Stack | None:
    """The stack; None where there is none, or only its announcement. Raises ProjectError."""
    try:
        with asking("cloudformation:DescribeStacks", target):
            (found,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
    except RefusedError as error:
        # CloudFormation has no code of its own for it.
        if "does not exist" in str(error):
            return None
        raise
    if found["StackStatus"] == ANNOUNCED:
        return None
    outputs = found.get("Outputs", [])
    return Stack(
        name=name,
        status=found["StackStatus"],
        outputs={one["OutputKey"]: one["OutputValue"] for one in outputs},
        parameters={one["ParameterKey"]: one.get("ParameterValue", "") for one in found.get("Parameters", [])},
        descriptions={one["OutputKey"]: one.get("Description", "") for one in outputs},
    )


def in_the_way(stack: Stack | None, destroy: str) -> str | None:
    """Why ``stack`` can be neither made nor changed, and the command that mends it; None where it can.

    ``destroy`` is the command that deletes it.
    """
    if stack is None:
        return None
    if stack.status in ONLY_TO_DELETE:
        return f"{stack.name} is {stack.status}, which can only be deleted: {destroy}, and then this again"
    if stack.status == STUCK:
        return (
            f"{stack.name} is {stack.status}: mend what it names, and then"
            f" `aws cloudformation continue-update-rollback --stack-name {stack.name}`"
        )
    if stack.status.endswith("IN_PROGRESS"):
        return f"{stack.name} is {stack.status}: something is at work there; try again when it is done"
    return None


def reasons(events: Iterable[Mapping[str, Any]]) -> list[str]:
    """Why the last operation failed, first things first, from its ``events``, newest first."""
    found: list[str] = []
    for event in events:
        whole = event.get("PhysicalResourceId") == event.get("StackId")
        said = event.get("ResourceStatusReason", "")
        if event["ResourceStatus"].endswith("FAILED") and said and CANCELLED not in said and not whole:
            found.append(f"{event['LogicalResourceId']} ({event['ResourceType']}): {said}")
        if whole and event["ResourceStatus"] in STARTS:
            break
    return found[::-1][:MOST_REASONS]


def failed(name: str, after: Stack | None, told: Iterable[str], destroy: str) -> str:
    """What a deploy that failed has left of the stack ``name``, what CloudFormation told of it, and what to do next."""
    lines = [f"  {reason}" for reason in told] or ["  CloudFormation gives no reason: what sam says above is why."]
    state = f"{name} is {after.status}." if after else f"There is no stack {name}."
    return "\n".join((state, *lines, in_the_way(after, destroy) or "Mend that, and try again."))


def why(cloudformation: Any, name: str, target: Target) -> list[str]:
    """The same of a stack. Empty where it is gone; raises ProjectError where it may not be asked."""
    try:
        with asking("cloudformation:DescribeStackEvents", target):
            pages = cloudformation.get_paginator("describe_stack_events").paginate(StackName=name)
            return reasons(event for page in pages for event in page["StackEvents"])
    except RefusedError as error:
        if "does not exist" in str(error):
            return []
        raise
