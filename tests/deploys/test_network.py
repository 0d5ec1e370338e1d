"""Whether the functions' subnets lead anywhere, in networks of moto's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest

from devkit.app.errors import ProjectError
from devkit.deploys import application, network
from devkit.deploys.asking import Account

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.deploys.target import Target
    from devkit.servers.aws import LocalAws


class Network:
    """One with a private subnet, whose route table is its own."""

    def __init__(self, ec2: Any) -> None:
        self.ec2 = ec2
        self.id = ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
        self.subnet = ec2.create_subnet(VpcId=self.id, CidrBlock="10.20.0.0/24")["Subnet"]["SubnetId"]
        self.table = ec2.create_route_table(VpcId=self.id)["RouteTable"]["RouteTableId"]
        ec2.associate_route_table(RouteTableId=self.table, SubnetId=self.subnet)

    def endpoint(self, service: str, kind: str, **more: Any) -> None:
        name = f"com.amazonaws.us-east-1.{service}"
        self.ec2.create_vpc_endpoint(VpcId=self.id, ServiceName=name, VpcEndpointType=kind, **more)

    def problems(self, target: Target, **more: str) -> list[str]:
        return network.problems(self.ec2, {"VpcId": self.id, "SubnetIds": self.subnet, **more}, target)


@pytest.fixture
def private(aws: LocalAws) -> Iterator[Network]:
    ec2 = boto3.client("ec2")
    yield Network(ec2)
    ec2.close()


def test_a_subnet_without_endpoints_has_no_way_out(private: Network, target: Target) -> None:
    """A line for each service, with what would lead there."""
    to_s3, to_secrets = private.problems(target)
    assert to_s3.startswith(f"SubnetIds: {private.subnet} has no way to S3, where the migration puts its answer")
    assert f"in the route table {private.table}" in to_s3
    assert "has no way to Secrets Manager" in to_secrets


def test_the_endpoints_of_database_yaml_are_enough(private: Network, target: Target) -> None:
    """A gateway in the subnet's route table, an interface in the network; no NAT gateway."""
    private.endpoint("s3", "Gateway", RouteTableIds=[private.table])
    private.endpoint("secretsmanager", "Interface", SubnetIds=[private.subnet])
    assert private.problems(target) == []


def test_an_endpoint_in_another_route_table_leads_nowhere(private: Network, target: Target) -> None:
    """The usual slip: the network has one, and this subnet does not know of it."""
    other = private.ec2.create_route_table(VpcId=private.id)["RouteTable"]["RouteTableId"]
    private.endpoint("s3", "Gateway", RouteTableIds=[other])
    (problem,) = private.problems(target, SecretsEndpoint="https://vpce-1.example.com")
    assert "has no way to S3" in problem


def test_an_internet_gateway_is_no_way_out_and_a_nat_gateway_is(private: Network, target: Target) -> None:
    """A function in a network has no public address."""
    gateway = private.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    private.ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=private.id)
    everywhere = {"RouteTableId": private.table, "DestinationCidrBlock": "0.0.0.0/0"}
    private.ec2.create_route(**everywhere, GatewayId=gateway)
    assert len(private.problems(target)) == 2
    private.ec2.delete_route(**everywhere)
    address = private.ec2.allocate_address(Domain="vpc")["AllocationId"]
    nat = private.ec2.create_nat_gateway(SubnetId=private.subnet, AllocationId=address)["NatGateway"]["NatGatewayId"]
    private.ec2.create_route(**everywhere, NatGatewayId=nat)
    assert private.problems(target) == []


def test_subnets_of_another_network_are_named(private: Network, target: Target) -> None:
    """CloudFormation would say so after the upload."""
    (problem,) = private.problems(target, VpcId="vpc-other")
    assert problem == f"SubnetIds: they are of the network {private.id}, and VpcId is vpc-other"
    elsewhere = Network(private.ec2)
    (problem,) = private.problems(target, SubnetIds=f"{private.subnet},{elsewhere.subnet}")
    assert "they are of several networks" in problem


def test_a_subnet_that_is_not_there_is_a_sentence(private: Network, target: Target) -> None:
    """With the action that was refused. A deploy says it and goes on: it may not see all of a shared network."""
    with pytest.raises(ProjectError, match=r"^ec2:DescribeSubnets: InvalidSubnetID\.NotFound: "):
        private.problems(target, SubnetIds="subnet-00000000")
    (said,) = application.dead_ends(Account(target), {"SubnetIds": "subnet-00000000"}, target)
    assert "ec2:DescribeSubnets" in said
