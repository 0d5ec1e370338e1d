"""What may be done with a stack, and why its last deploy failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto.cloudformation.models import cloudformation_backends

from devkit.app.errors import ProjectError
from devkit.deploys import removal, stacks
from devkit.deploys.stacks import Stack

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.deploys.target import Target

    from .conftest import Devkit

ID = "arn:aws:cloudformation:eu-central-1:123456789012:stack/orders/1"


def there(status: str) -> Stack:
    return Stack("orders", status, {}, {}, {})


@pytest.mark.parametrize(
    "status",
    [
        *("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "UPDATE_FAILED"),
        *("ROLLBACK_COMPLETE", "REVIEW_IN_PROGRESS"),
    ],
)
def test_what_can_be_changed_or_made_anew_is_not_in_the_way(status: str) -> None:
    """A rolled-back update is as good as none, and so are an empty stack and an announced one."""
    assert stacks.in_the_way(there(status), "make destroy") is None


@pytest.mark.parametrize("status", ["ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED"])
def test_what_a_failed_first_deploy_leaves_is_to_be_deleted(status: str) -> None:
    """It holds something, so a person says that it may go; `sam deploy` would try to update it, and be refused."""
    said = stacks.in_the_way(there(status), "make destroy ENV=prod")
    assert said == f"orders is {status}, which can only be deleted: make destroy ENV=prod, and then this again"


@pytest.mark.parametrize("status", ["CREATE_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "DELETE_IN_PROGRESS"])
def test_what_is_at_work_is_waited_for(status: str) -> None:
    """By the person: it may be another person's deploy."""
    assert "try again when it is done" in (stacks.in_the_way(there(status), "make destroy") or "")


def test_a_roll_back_that_stuck_is_continued() -> None:
    """It can be neither changed nor, without loss, deleted."""
    said = stacks.in_the_way(there("UPDATE_ROLLBACK_FAILED"), "make destroy") or ""
    assert "aws cloudformation continue-update-rollback --stack-name orders" in said


def test_a_deploy_that_never_reached_cloudformation_points_at_sam() -> None:
    """As a build that failed; there is nothing else to mend."""
    assert stacks.failed("orders", None, [], "make destroy").splitlines() == [
        "There is no stack orders.",
        "  CloudFormation gives no reason: what sam says above is why.",
        "Mend that, and try again.",
    ]
    said = stacks.failed("orders", there("ROLLBACK_FAILED"), ["Queue: no"], "make destroy").splitlines()
    assert said[:2] == ["orders is ROLLBACK_FAILED.", "  Queue: no"]
    assert "only be deleted: make destroy" in said[2]


def event(name: str, status: str, why: str = "", *, whole: bool = False) -> dict[str, Any]:
    kind = "AWS::CloudFormation::Stack" if whole else "Custom::Migration"
    told = {"ResourceStatusReason": why} if why else {}
    where = {"StackId": ID, "PhysicalResourceId": ID if whole else "x"}
    return {"LogicalResourceId": name, "ResourceType": kind, "ResourceStatus": status, **where, **told}


def test_the_reason_is_that_of_the_last_deploy_s_first_failure() -> None:
    """Not what was given up because of it, nor what an earlier deploy failed of."""
    newest_first = [
        event("orders", "ROLLBACK_COMPLETE", whole=True),
        event("orders", "ROLLBACK_IN_PROGRESS", "The following resource(s) failed", whole=True),
        event("Api", "CREATE_FAILED", "Resource creation cancelled"),
        event("Migration", "CREATE_FAILED", "connection timeout expired"),
        event("orders", "CREATE_IN_PROGRESS", "User Initiated", whole=True),
        event("Queue", "CREATE_FAILED", "of the day before"),
    ]
    assert stacks.reasons(newest_first) == ["Migration (Custom::Migration): connection timeout expired"]


def test_a_way_back_that_is_stuck_tells_what_keeps_it_there() -> None:
    """What the deploy failed of has been taken back, or will be."""
    newest_first = [
        event("orders", "UPDATE_ROLLBACK_FAILED", "The following resource(s) failed", whole=True),
        event("Migration", "UPDATE_FAILED", "cannot be reached"),
        event("orders", "UPDATE_ROLLBACK_IN_PROGRESS", "The following resource(s) failed", whole=True),
        event("Api", "UPDATE_FAILED", "Rate exceeded"),
        event("orders", "UPDATE_IN_PROGRESS", "User Initiated", whole=True),
    ]
    assert stacks.reasons(newest_first, (stacks.ROLLING_BACK,)) == ["Migration (Custom::Migration): cannot be reached"]


@pytest.fixture
def left(cloudformation: Any, target: Target) -> Callable[..., None]:
    """``left("ROLLBACK_COMPLETE")``: the application's stack, or another one, has a status that moto gives none."""

    def make(status: str, *, name: str = target.stack) -> None:
        cloudformation.create_stack(StackName=name, TemplateBody="Resources: {Q: {Type: AWS::SQS::Queue}}")
        backend = cloudformation_backends["123456789012"]["us-east-1"]
        (stack,) = (one for one in backend.stacks.values() if one.name == name)
        stack.status = status

    return make


def test_an_empty_stack_is_deleted_and_said_why(
    cloudformation: Any, target: Target, left: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """So one command goes on where a first deploy has failed."""
    left("ROLLBACK_COMPLETE")
    assert stacks.without_empty(cloudformation, stacks.look(cloudformation, target.stack, target), target) is None
    assert stacks.look(cloudformation, target.stack, target) is None
    said = capsys.readouterr().out
    assert f"{target.stack} is ROLLBACK_COMPLETE: its first deploy failed, and nothing is left in it." in said
    assert "$ aws cloudformation delete-stack --stack-name arn:aws:cloudformation:us-east-1:" in said


def test_a_stack_that_another_deploy_has_begun_under_the_name_stays(
    cloudformation: Any, target: Target, left: Callable[..., None]
) -> None:
    """Two deploys saw the same empty one; the first has deleted it, and makes the next."""
    left("ROLLBACK_COMPLETE")
    empty = stacks.look(cloudformation, target.stack, target)
    cloudformation.delete_stack(StackName=target.stack)
    left("CREATE_IN_PROGRESS")
    assert stacks.without_empty(cloudformation, empty, target) is None
    other = stacks.look(cloudformation, target.stack, target)
    assert other is not None
    assert other.status == "CREATE_IN_PROGRESS"


def test_an_announced_stack_that_somebody_has_begun_to_make_stays(
    cloudformation: Any, target: Target, left: Callable[..., None]
) -> None:
    """While the question waited for its answer."""
    left("REVIEW_IN_PROGRESS")
    announced = stacks.look(cloudformation, target.stack, target, announced=True)
    assert announced is not None
    (stack,) = (
        one for one in cloudformation_backends["123456789012"]["us-east-1"].stacks.values() if one.name == target.stack
    )
    stack.status = "CREATE_IN_PROGRESS"
    with pytest.raises(ProjectError, match="is CREATE_IN_PROGRESS by now, and was not deleted"):
        removal.delete(cloudformation, announced, "us-east-1", target)
    assert stacks.look(cloudformation, target.stack, target) is not None


def test_what_a_roll_back_has_left_in_the_account_is_named() -> None:
    """Once the stack is gone, nothing else knows of it."""
    pool = event("Users", "DELETE_SKIPPED") | {"PhysicalResourceId": "eu-central-1_a"}
    newest_first = [event("orders", "ROLLBACK_COMPLETE", whole=True), pool, event("Api", "DELETE_COMPLETE")]
    assert stacks.retained(newest_first) == ["Users (Custom::Migration): eu-central-1_a"]


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED", "CREATE_FAILED"])
def test_a_stack_that_holds_something_stays(
    status: str, cloudformation: Any, target: Target, left: Callable[..., None]
) -> None:
    """Nobody said that it may go."""
    left(status)
    found = stacks.look(cloudformation, target.stack, target)
    assert stacks.without_empty(cloudformation, found, target) is found
    assert stacks.look(cloudformation, target.stack, target) is not None


def test_a_database_that_failed_is_not_deployed_to(target: Target, left: Callable[..., None], devkit: Devkit) -> None:
    """It has no outputs; the command that makes one is named."""
    left("ROLLBACK_COMPLETE", name=target.database_stack)
    status, said = devkit("deploy")
    failed = f"{target.database_stack} is ROLLBACK_COMPLETE: its first deploy failed"
    assert (status, said) == (2, f"{failed}. make database makes it anew, and then this again\n")


def test_an_announced_stack_is_none_to_a_deploy_and_goes_with_a_destroy(
    cloudformation: Any, target: Target, left: Callable[..., None], devkit: Devkit
) -> None:
    """A change set that was refused leaves one."""
    left("REVIEW_IN_PROGRESS")
    assert stacks.look(cloudformation, target.stack, target) is None
    status, said = devkit("destroy", "--yes")
    assert (status, "There is no stack" in said.splitlines()[0]) == (0, False)
    assert stacks.look(cloudformation, target.stack, target, announced=True) is None


def test_a_stack_that_is_not_there_is_none_and_has_no_reasons(cloudformation: Any, target: Target) -> None:
    """As moto says it, in AWS's words."""
    assert stacks.look(cloudformation, target.stack, target) is None
    assert stacks.why(cloudformation, target.stack, target) == []


def test_a_stack_is_read_with_its_values(cloudformation: Any, target: Target) -> None:
    """Parameters and outputs by name, and the status."""
    template = (
        "Parameters: {A: {Type: String}}\nResources: {Q: {Type: AWS::SQS::Queue}}\n"
        "Outputs: {B: {Value: !Ref A, Description: c}}"
    )
    cloudformation.create_stack(
        StackName=target.stack, TemplateBody=template, Parameters=[{"ParameterKey": "A", "ParameterValue": "a"}]
    )
    found = stacks.look(cloudformation, target.stack, target)
    assert found == Stack(target.stack, "CREATE_COMPLETE", {"B": "a"}, {"A": "a"}, {"B": "c"})
    assert stacks.why(cloudformation, target.stack, target) == []


def test_a_refusal_is_a_sentence_that_names_the_permission(target: Target) -> None:
    """No traceback of botocore's."""
    from botocore.stub import Stubber

    client = boto3.client(
        "cloudformation", region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="y"
    )
    with Stubber(client) as stub:
        stub.add_client_error("describe_stacks", "AccessDenied", "not\nauthorized")
        with pytest.raises(ProjectError, match=r"^cloudformation:DescribeStacks: AccessDenied: not authorized$"):
            stacks.look(client, target.stack, target)
