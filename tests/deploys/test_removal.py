"""What `make destroy` asks before, and does about what does not go by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.stub import Stubber

from devkit.app.errors import ProjectError
from devkit.deploys import removal
from devkit.deploys.asking import Account
from devkit.deploys.stacks import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.deploys.target import Target
    from devkit.servers.aws import LocalAws

    from .conftest import Devkit


def test_where_there_is_nothing_it_says_so(aws: LocalAws, target: Target, devkit: Devkit) -> None:
    """And succeeds: that is what was wanted."""
    status, said = devkit("destroy", "--yes")
    assert status == 0
    assert said.startswith(f"There is no stack {target.stack} in the account 123456789012, us-east-1.")


def test_without_a_terminal_nobody_agrees(cloudformation: Any, target: Target, devkit: Devkit) -> None:
    """A script says YES=yes."""
    cloudformation.create_stack(StackName=target.stack, TemplateBody="Resources: {Q: {Type: AWS::SQS::Queue}}")
    assert devkit("destroy") == (2, "nothing was deleted: make destroy YES=yes asks no question\n")
    assert len(cloudformation.describe_stacks(StackName=target.stack)["Stacks"]) == 1


@pytest.mark.parametrize(("typed", "agreed"), [("orders-prod\n", True), ("orders\n", False), ("yes\n", False)])
def test_a_person_types_the_name(typed: str, agreed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A habit of typing yes is none of this one."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: typed)
    assert removal.confirmed("orders-prod in the account 1, eu-central-1", "orders-prod") is agreed


def test_who_gives_no_answer_has_not_agreed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-D ends the question, and not in a traceback."""

    def ended(_: str) -> str:
        raise EOFError

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", ended)
    assert removal.confirmed("orders", "orders") is False


def test_a_protected_database_is_refused_before_anything_is_deleted(target: Target) -> None:
    """CloudFormation would delete what it can, and stop at the cluster."""
    on, off = {"DeletionProtection": "true"}, {"DeletionProtection": "false"}
    with pytest.raises(ProjectError, match=r"DeletionProtection = false under \[database\] in deploy/dev.toml"):
        removal.check_protection(Stack("b", "CREATE_COMPLETE", {}, on, {}), None, target)
    removal.check_protection(Stack("b", "CREATE_COMPLETE", {}, off, {}), None, target)


def test_a_delete_that_failed_of_the_protection_is_not_helped_over_it(target: Target) -> None:
    """It did what it is for; the stack takes no update any more, so the command is another one."""
    failed = Stack("b", "DELETE_FAILED", {}, {"DeletionProtection": "true"}, {})
    with pytest.raises(ProjectError, match=r"modify-db-cluster --db-cluster-identifier c-1 --no-deletion-protection$"):
        removal.check_protection(failed, "c-1", target)
    removal.check_protection(failed, None, target)  # it failed of something else


@pytest.fixture
def cluster(aws: LocalAws, target: Target) -> Iterator[str]:
    """A protected one."""
    rds = boto3.client("rds")
    rds.create_db_cluster(
        DBClusterIdentifier=target.stack,
        Engine="aurora-postgresql",
        MasterUsername="m",
        ManageMasterUserPassword=True,
        DeletionProtection=True,
    )
    yield target.stack
    rds.delete_db_cluster(DBClusterIdentifier=target.stack, SkipFinalSnapshot=True)
    rds.close()


def test_the_cluster_of_a_stack_that_never_was_loses_its_protection(target: Target, cluster: str) -> None:
    """CloudFormation makes it with its protection on, and then cannot roll it back."""
    account, cloudformation = Account(target), boto3.client("cloudformation")
    never = Stack("b", "ROLLBACK_FAILED", {}, {"DeletionProtection": "true"}, {})
    removal.check_protection(never, cluster, target)

    def guarded(physical_id: str) -> str | None:
        resource = {
            "LogicalResourceId": "Cluster",
            "PhysicalResourceId": physical_id,
            "ResourceType": "AWS::RDS::DBCluster",
            "ResourceStatus": "DELETE_FAILED",
            "Timestamp": "2026-01-01T00:00:00Z",
        }
        with Stubber(cloudformation) as stub:
            stub.add_response("describe_stack_resources", {"StackResources": [resource]})
            return removal.protected_cluster(account, cloudformation, never, target)

    assert (guarded("gone-already"), guarded(cluster)) == (None, cluster)
    removal.unprotect(account, cluster, target)
    assert guarded(cluster) is None
    cloudformation.close()
