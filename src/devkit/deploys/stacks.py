"""What CloudFormation says of a stack, and what may be done with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from devkit.app.errors import ProjectError

from .asking import RefusedError, asking

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

    from .target import Target

# There is a stack, with nothing in it: its first change set waits, or was given up.
ANNOUNCED = "REVIEW_IN_PROGRESS"
# A first deploy failed, and all that it had made is gone again: what is left is a name, which no deploy can use.
EMPTY = "ROLLBACK_COMPLETE"
# What a first deploy leaves that failed, and a delete.
NEVER_DEPLOYED = ("CREATE_FAILED", EMPTY, "ROLLBACK_FAILED")
ONLY_TO_DELETE = (*NEVER_DEPLOYED, "DELETE_FAILED")
STUCK = "UPDATE_ROLLBACK_FAILED"

# A resource that was only given up because another one failed tells nothing.
CANCELLED = "cancelled"
# Of a resource that its template tells CloudFormation to leave in the account.
SKIPPED = "DELETE_SKIPPED"
ROLLING_BACK = "UPDATE_ROLLBACK_IN_PROGRESS"
STARTS = ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS")
MOST_REASONS = 3
# s. There is nothing to delete in it; five minutes are far more than that takes.
POLL_S, POLLS = 2, 150


@dataclass(frozen=True)
class Stack:
    """A stack that is there."""

    name: str
    status: str
    outputs: Mapping[str, str]
    parameters: Mapping[str, str]
    descriptions: Mapping[str, str]
    # CloudFormation's own, which no other stack has that is made under this name.
    id: str = field(default="", compare=False)


def look(cloudformation: Any, name: str, target: Target, *, announced: bool = False) -> Stack | None:
    """The stack; None where there is none, or only its announcement, unless that is asked for. Raises ProjectError.

    A deploy makes an announced stack as it would make a new one.
    """
    try:
        with asking("cloudformation:DescribeStacks", target):
            (found,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
    except RefusedError as error:
        # CloudFormation has no code of its own for it.
        if "does not exist" in str(error):
            return None
        raise
    if found["StackStatus"] == ANNOUNCED and not announced:
        return None
    outputs = found.get("Outputs", [])
    return Stack(
        name=name,
        status=found["StackStatus"],
        outputs={one["OutputKey"]: one["OutputValue"] for one in outputs},
        parameters={one["ParameterKey"]: one.get("ParameterValue", "") for one in found.get("Parameters", [])},
        descriptions={one["OutputKey"]: one.get("Description", "") for one in outputs},
        id=found["StackId"],
    )


def is_empty(stack: Stack | None) -> bool:
    """Whether it is what a failed first deploy has left, of which nothing is there."""
    return stack is not None and stack.status == EMPTY


def in_the_way(stack: Stack | None, destroy: str) -> str | None:
    """Why ``stack`` can be neither made nor changed, and the command that mends it; None where it can.

    ``destroy`` is the command that deletes it. One that is empty is not in the way, for ``without_empty`` deletes it,
    nor is one that was announced, which is made by the next change set.
    """
    if stack is None or is_empty(stack) or stack.status == ANNOUNCED:
        return None
    if stack.status in ONLY_TO_DELETE:
        return f"{stack.name} is {stack.status}, which can only be deleted: {destroy}, and then this again"
    if stack.status == STUCK:
        return (
            f"{stack.name} is {stack.status}: mend what it names, and then"
            f" `aws cloudformation continue-update-rollback --stack-name {stack.name}`,"
            " with --resources-to-skip and a logical id for what cannot be mended"
        )
    if stack.status.endswith("IN_PROGRESS"):
        return f"{stack.name} is {stack.status}: something is at work there; try again when it is done"
    return None


def check(cloudformation: Any, stack: Stack | None, destroy: str, target: Target) -> None:
    """Raise ProjectError where ``stack`` is in the way of a deploy, with what CloudFormation told of it."""
    if stack is not None and (problem := in_the_way(stack, destroy)):
        raise ProjectError("\n  ".join((problem, *why(cloudformation, stack.name, target, of=stack.status))))


def without_empty(cloudformation: Any, stack: Stack | None, target: Target) -> Stack | None:
    """``stack`` as a deploy goes on with it: an empty one is deleted, and said why it is. Raises ProjectError."""
    if stack is None or not is_empty(stack):
        return stack
    print(f"{stack.name} is {EMPTY}: its first deploy failed, and nothing is left in it. So it is deleted first.")
    for reason in why(cloudformation, stack.name, target):
        print(f"  {reason}")
    if outlived := retained(_events(cloudformation, stack.name, target)):
        print("What its template retains is there, of no stack any more, and costs what it costs:")
        print("\n".join(f"  {one}" for one in outlived))
    drop(cloudformation, stack, target)
    return None


def drop(cloudformation: Any, stack: Stack, target: Target) -> None:
    """Delete a stack that has nothing in it, not even what `sam delete` would look for in the bucket.

    By its id: under its name there may be another one by now, which somebody else has begun.
    """
    print(f"\n$ aws cloudformation delete-stack --stack-name {stack.id}", flush=True)
    with asking("cloudformation:DeleteStack", target):
        cloudformation.delete_stack(StackName=stack.id)
        gone = cloudformation.get_waiter("stack_delete_complete")
        gone.wait(StackName=stack.id, WaiterConfig={"Delay": POLL_S, "MaxAttempts": POLLS})


def retained(events: Iterable[Mapping[str, Any]]) -> list[str]:
    """What a roll-back has left in the account, first things first, from a stack's ``events``, newest first."""
    return [
        f"{event['LogicalResourceId']} ({event['ResourceType']}): {event.get('PhysicalResourceId')}"
        for event in events
        if event["ResourceStatus"] == SKIPPED
    ][::-1]


def reasons(events: Iterable[Mapping[str, Any]], starts: Container[str] = STARTS) -> list[str]:
    """Why the last operation failed, first things first, from its ``events``, newest first."""
    found: list[str] = []
    for event in events:
        whole = event.get("PhysicalResourceId") == event.get("StackId")
        said = event.get("ResourceStatusReason", "")
        if event["ResourceStatus"].endswith("FAILED") and said and CANCELLED not in said and not whole:
            found.append(f"{event['LogicalResourceId']} ({event['ResourceType']}): {said}")
        if whole and event["ResourceStatus"] in starts:
            break
    return found[::-1][:MOST_REASONS]


def failed(name: str, after: Stack | None, told: Iterable[str], destroy: str) -> str:
    """What a deploy that failed has left of the stack ``name``, what CloudFormation told of it, and what to do next."""
    lines = [f"  {reason}" for reason in told] or ["  CloudFormation gives no reason: what sam says above is why."]
    state = f"{name} is {after.status}." if after else f"There is no stack {name}."
    return "\n".join((state, *lines, in_the_way(after, destroy) or "Mend that, and try again."))


def why(cloudformation: Any, name: str, target: Target, *, of: str = "") -> list[str]:
    """The same of a stack, whose status is ``of``. Empty where it is gone; raises ProjectError if it may not be asked.

    Of a way back that is stuck, only what keeps it there: not what the deploy had failed of.
    """
    starts = (ROLLING_BACK,) if of == STUCK else STARTS
    return reasons(_events(cloudformation, name, target), starts)


def _events(cloudformation: Any, name: str, target: Target) -> Iterator[Mapping[str, Any]]:
    """Newest first, and asked for as far as they are read."""
    try:
        with asking("cloudformation:DescribeStackEvents", target):
            for page in cloudformation.get_paginator("describe_stack_events").paginate(StackName=name):
                yield from page["StackEvents"]
    except RefusedError as error:
        if "does not exist" not in str(error):
            raise
