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


def test_a_protected_database_is_refused_before_anything_is_deleted(target: Target) -> None:
    """CloudFormation would delete what it can, and stop at the cluster."""
    protected = {"DeletionProtection": "true"}
    with pytest.raises(ProjectError, match=r"DeletionProtection = false under \[database\] in deploy/dev.toml"):
        removal.check_protection(Stack("b", "CREATE_COMPLETE", {}, protected, {}), target)
    removal.check_protection(Stack("b", "CREATE_COMPLETE", {}, {"DeletionProtection": "false"}, {}), target)
    removal.check_protection(Stack("b", "ROLLBACK_FAILED", {}, protected, {}), target)


def test_the_cluster_of_a_stack_that_never_was_loses_its_protection(aws: LocalAws, target: Target) -> None:
    """It was made with it on, and would hold the stack for ever."""
    rds, cloudformation = boto3.client("rds"), boto3.client("cloudformation")
    rds.create_db_cluster(
        DBClusterIdentifier=target.stack,
        Engine="aurora-postgresql",
        MasterUsername="m",
        ManageMasterUserPassword=True,
        DeletionProtection=True,
    )
    resource = {
        "LogicalResourceId": "Cluster",
        "PhysicalResourceId": target.stack,
        "ResourceType": "AWS::RDS::DBCluster",
        "ResourceStatus": "CREATE_COMPLETE",
        "Timestamp": "2026-01-01T00:00:00Z",
    }
    with Stubber(cloudformation) as stub:
        stub.add_response("describe_stack_resources", {"StackResources": [resource]})
        removal.unprotect(Account(target), cloudformation, Stack("b", "ROLLBACK_FAILED", {}, {}, {}), target)
    (cluster,) = rds.describe_db_clusters(DBClusterIdentifier=target.stack)["DBClusters"]
    assert cluster["DeletionProtection"] is False
    rds.delete_db_cluster(DBClusterIdentifier=target.stack, SkipFinalSnapshot=True)
    rds.close()
    cloudformation.close()
