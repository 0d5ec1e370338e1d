"""``make destroy``: deletes the application's stack, and the database's where that is said; tells what stays."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from devkit.app.errors import ProjectError

from . import commands, prices, stacks
from .asking import Account, RefusedError, asking

if TYPE_CHECKING:
    from .stacks import Stack
    from .target import Target

CLUSTER = "AWS::RDS::DBCluster"
PROTECTION = "DeletionProtection"
BUCKET_STACK = "aws-sam-cli-managed-default"


def run(target: Target, *, database: bool, agreed: bool) -> int:
    """Delete; an exit status. Raises ProjectError before anything is deleted that is not to be."""
    account = Account(target)
    number, _ = account.identity()
    cloudformation = account.client("cloudformation")
    top, base = (
        stacks.look(cloudformation, name, target, announced=True) for name in (target.stack, target.database_stack)
    )
    doomed = [one for one in (top, base if database else None) if one is not None]
    if not doomed:
        print(f"There is no stack {target.stack} in the account {number}, {account.region}.")
        print(_database_left(base, target))
        return 0
    for one in doomed:
        if one.status.endswith("IN_PROGRESS") and one.status != stacks.ANNOUNCED:
            raise ProjectError(f"{one.name} is {one.status}: try again when that is done")
    guarded = None
    if database and base is not None:
        if base.status in stacks.ONLY_TO_DELETE:
            guarded = protected_cluster(account, cloudformation, base, target)
        check_protection(base, guarded, target)
    names = " and ".join(one.name for one in doomed)
    if not (agreed or confirmed(f"{names} in the account {number}, {account.region}", doomed[-1].name)):
        raise ProjectError(f"nothing was deleted: {target.make('destroy', 'YES=yes')} asks no question")
    print(f"Deleting {names} takes {prices.DELETE_WAIT}.")
    for one in doomed:
        if one is base and guarded is not None:
            unprotect(account, guarded, target)
        if status := delete(cloudformation, one, account.region or "", target):
            return status
    print(_stays(target, base, deleted=database))
    return 0


def confirmed(what: str, name: str) -> bool:
    """Whether a person types ``name``. Nobody does where there is no terminal."""
    if not sys.stdin.isatty():
        return False
    try:
        return input(f"To delete {what}, type {name}: ").strip() == name
    except EOFError:  # Ctrl-D
        return False


def check_protection(base: Stack, guarded: str | None, target: Target) -> None:
    """Raise ProjectError where CloudFormation would begin to delete a database, and stop half an hour later.

    A stack that never was in whole has no data, and its cluster, made with its protection on, would hold it for ever.
    One whose deletion failed may have failed of just that, and cannot be updated.
    """
    if base.status in {*stacks.NEVER_DEPLOYED, stacks.ANNOUNCED}:
        return
    if guarded is not None:
        raise ProjectError(f"{base.name} is {base.status}, and its cluster protected. If it is to go: {off(guarded)}")
    if base.status not in stacks.ONLY_TO_DELETE and base.parameters.get(PROTECTION) == "true":
        raise ProjectError(
            f"{base.name} is protected. {PROTECTION} = false under [database] in {target.file},"
            f" then {target.make('database')}, then this again"
        )


def protected_cluster(account: Account, cloudformation: Any, base: Stack, target: Target) -> str | None:
    """The stack's cluster, where it is there and would not let itself be deleted."""
    with asking("cloudformation:DescribeStackResources", target):
        resources = cloudformation.describe_stack_resources(StackName=base.name)["StackResources"]
    for resource in resources:
        if resource["ResourceType"] != CLUSTER or not resource.get("PhysicalResourceId"):
            continue
        name = str(resource["PhysicalResourceId"])
        try:
            with asking("rds:DescribeDBClusters", target):
                (cluster,) = account.client("rds").describe_db_clusters(DBClusterIdentifier=name)["DBClusters"]
        except RefusedError as error:
            if "NotFound" in str(error):
                continue
            raise
        if cluster.get("DeletionProtection"):
            return name
    return None


def unprotect(account: Account, cluster: str, target: Target) -> None:
    """So that CloudFormation can delete it."""
    print(f"\n$ {off(cluster)}", flush=True)
    with asking("rds:ModifyDBCluster", target):
        account.client("rds").modify_db_cluster(
            DBClusterIdentifier=cluster, DeletionProtection=False, ApplyImmediately=True
        )


def off(cluster: str) -> str:
    """What takes its protection off."""
    return f"aws rds modify-db-cluster --db-cluster-identifier {cluster} --no-deletion-protection"


def delete(cloudformation: Any, doomed: Stack, region: str, target: Target) -> int:
    """With what was uploaded for it; where it sticks, what holds it and what to do."""
    if doomed.status == stacks.ANNOUNCED:
        # A person may have taken long to agree, and somebody else have begun to make it.
        now = stacks.look(cloudformation, doomed.name, target, announced=True)
        if now is not None and now.status != stacks.ANNOUNCED:
            raise ProjectError(f"{now.name} is {now.status} by now, and was not deleted")
        stacks.drop(cloudformation, doomed, target)
        return 0
    where = [*target.where(), *([] if target.region else ["--region", region])]
    status = commands.sam(target.root, "delete", "--stack-name", doomed.name, *where, "--no-prompts")
    left = stacks.look(cloudformation, doomed.name, target)
    if left is None:
        return 0
    print(f"\n{doomed.name} is {left.status}.")
    for reason in stacks.why(cloudformation, doomed.name, target):
        print(f"  {reason}")
    print(
        f"Mend that, and try again. What cannot be mended can be left behind:\n"
        f"  aws cloudformation delete-stack --stack-name {doomed.name} --retain-resources <its logical id>"
    )
    return status or 1


def _database_left(base: Stack | None, target: Target) -> str:
    if base is None:
        return f"There is no stack {target.database_stack} either."
    return f"The database stays, and costs: {base.name}. {target.make('destroy', 'DATABASE=yes')} deletes it as well."


def _stays(target: Target, base: Stack | None, *, deleted: bool) -> str:
    lines = [f"- the bucket of what was uploaded, and its stack {BUCKET_STACK}, which all SAM applications here share"]
    if deleted:
        lines += [
            "- a snapshot of the cluster, which costs by its size: aws rds describe-db-cluster-snapshots",
            f"- the logs of cluster and rotations: /aws/rds/cluster/…, /aws/lambda/{target.database_stack}-rotate-…",
            "- the user pool, where there was one, with its users: aws cognito-idp list-user-pools --max-results 60",
            "The three secrets are gone at once: CloudFormation leaves them no time of recovery.",
        ]
    text = "\nDeleted. What stays:\n" + "\n".join(lines)
    return text if deleted else f"{text}\n{_database_left(base, target)}"
