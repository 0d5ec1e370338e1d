"""A rehearsed database: the cluster of a template is a server, and the secrets lead to it."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from devkit.extras import require

require("aws")

from moto.cloudformation.exceptions import ValidationError  # noqa: E402 - after the check
from moto.ec2.models import ec2_backends  # noqa: E402 - likewise
from moto.secretsmanager.models import secretsmanager_backends  # noqa: E402 - likewise

from devkit.rehearsal import database, network  # noqa: E402 - likewise
from devkit.rehearsal.backend import Backend  # noqa: E402 - likewise
from devkit.rehearsal.database import ClusterMaker, Secrets  # noqa: E402 - likewise
from devkit.rehearsal.resources import Makers  # noqa: E402 - likewise

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCOUNT, REGION = "123456789012", "us-east-1"
CLUSTER = {
    "Type": "AWS::RDS::DBCluster",
    "Properties": {
        "MasterUsername": "master",
        "ManageMasterUserPassword": True,
        "DatabaseName": "orders",
        "DeletionProtection": {"Ref": "Protection"},
    },
}
TEMPLATE: dict[str, Any] = {
    "Parameters": {"Protection": {"Type": "String", "Default": "true"}},
    "Resources": {
        "Cluster": CLUSTER,
        "App": {
            "Type": "AWS::SecretsManager::Secret",
            "Properties": {"GenerateSecretString": {"SecretStringTemplate": '{"username": "app"}'}},
        },
        "AppOfCluster": {
            "Type": "AWS::SecretsManager::SecretTargetAttachment",
            "Properties": {"SecretId": {"Ref": "App"}, "TargetId": {"Ref": "Cluster"}},
        },
    },
    "Outputs": {
        "Host": {"Value": {"Fn::GetAtt": ["Cluster", "Endpoint.Address"]}},
        "Master": {"Value": {"Fn::GetAtt": ["Cluster", "MasterUserSecret.SecretArn"]}},
        "App": {"Value": {"Ref": "App"}},
    },
}
SECRETS = secretsmanager_backends[ACCOUNT][REGION]


@pytest.fixture
def clusters() -> Iterator[ClusterMaker]:
    made = ClusterMaker(Secrets(SECRETS))
    yield made
    made.close()


def deploy(backend: Backend, name: str, template: dict[str, Any], **parameters: str) -> dict[str, str]:
    """The outputs."""
    verb = "UPDATE" if any(one.name == name for one in backend.stacks.values()) else "CREATE"
    backend.create_change_set(name, (change := f"c{uuid.uuid4().hex}"), json.dumps(template), parameters, "", verb)
    backend.execute_change_set(change)
    backend.wait()
    return {one["OutputKey"]: str(one["OutputValue"]) for one in backend.get_stack(name).outputs or ()}


def held(arn: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(SECRETS.get_secret_value(arn, "", "")["SecretString"])
    return value


def test_a_cluster_answers_its_master_until_it_is_deleted(clusters: ClusterMaker) -> None:
    """No superuser, with a secret that RDS keeps; the stack goes with its secrets once nothing protects the cluster."""
    backend = Backend(REGION, ACCOUNT)
    backend.makers = Makers(database.makers(Secrets(SECRETS), clusters), ACCOUNT, REGION)
    outputs = deploy(backend, "base", TEMPLATE)
    master, app = held(outputs["Master"]), held(outputs["App"])
    (cluster,) = clusters.running.values()
    assert (app["username"], app["host"], app["port"]) == ("app", outputs["Host"], cluster.server.port)
    place: dict[str, Any] = {"host": app["host"], "port": app["port"], "dbname": "orders"}
    with psycopg.connect(**place, user=master["username"], password=master["password"]) as conn:
        conn.execute("CREATE ROLE app LOGIN")
        conn.execute("GRANT rds_iam TO app")
        assert conn.execute("SHOW is_superuser").fetchone() == ("off",)

    backend.delete_stack("base")
    assert (backend.get_stack("base").status, len(clusters.running)) == ("DELETE_FAILED", 1)
    cluster.protected = False  # as `aws rds modify-db-cluster` does it
    backend.delete_stack("base")
    assert clusters.running == {}
    assert {outputs["Master"], outputs["App"]} & {one.arn for one in SECRETS.secrets.values()} == set()


def test_a_subnet_takes_the_routes_that_a_template_gives_it() -> None:
    """`make deploy` reads there whether functions have a way to S3."""
    ec2 = ec2_backends[ACCOUNT][REGION]
    backend = Backend(REGION, ACCOUNT)
    backend.makers = Makers(network.makers(ACCOUNT, REGION), ACCOUNT, REGION)
    resources = {
        "Vpc": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.20.0.0/16"}},
        "Subnet": {"Type": "AWS::EC2::Subnet", "Properties": {"VpcId": {"Ref": "Vpc"}, "CidrBlock": "10.20.0.0/24"}},
        "Routes": {"Type": "AWS::EC2::RouteTable", "Properties": {"VpcId": {"Ref": "Vpc"}}},
        "Link": {
            "Type": network.ASSOCIATION,
            "Properties": {"SubnetId": {"Ref": "Subnet"}, "RouteTableId": {"Ref": "Routes"}},
        },
    }
    outputs = {name: {"Value": {"Ref": name}} for name in ("Subnet", "Routes")}
    made = deploy(backend, "net", {"Resources": resources, "Outputs": outputs})
    links = {"association.subnet-id": [made["Subnet"]]}
    assert [one.id for one in ec2.describe_route_tables(filters=links)] == [made["Routes"]]
    backend.delete_stack("net")
    assert ec2.describe_route_tables(filters=links) == []
    with pytest.raises(ValidationError, match="does not exist"):
        backend.get_stack("net")
