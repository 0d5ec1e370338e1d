"""Whether the functions' subnets have a way to what they call: Secrets Manager, and S3 for the migration's answer.

It reads routes and endpoints, no security group and no endpoint's policy: what is found wrong is wrong, and what is
found right may still be shut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .asking import asking

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .target import Target

PARAMETER = "SubnetIds"
ANYWHERE = "0.0.0.0/0"
# A public way in and out, which a function has no address for.
INTERNET_GATEWAY = "igw-"


def problems(ec2: Any, values: Mapping[str, str], target: Target) -> list[str]:
    """In a line each, what has no way out. Empty where the ``values`` name no subnets. Raises ProjectError."""
    wanted = [name for one in values.get(PARAMETER, "").split(",") if (name := one.strip())]
    if not wanted:
        return []
    with asking("ec2:DescribeSubnets", target):
        subnets = ec2.describe_subnets(SubnetIds=wanted)["Subnets"]
    network = sorted({one["VpcId"] for one in subnets})
    if len(network) != 1:
        return [f"{PARAMETER}: they are of several networks, {', '.join(network)}"]
    if values.get("VpcId", network[0]) != network[0]:
        return [f"{PARAMETER}: they are of the network {network[0]}, and VpcId is {values['VpcId']}"]
    inside = [{"Name": "vpc-id", "Values": network}]
    with asking("ec2:DescribeRouteTables", target):
        tables = ec2.describe_route_tables(Filters=inside)["RouteTables"]
    with asking("ec2:DescribeVpcEndpoints", target):
        endpoints = ec2.describe_vpc_endpoints(Filters=inside)["VpcEndpoints"]
    return list(_problems(wanted, tables, endpoints, own_secrets_url=bool(values.get("SecretsEndpoint"))))


def _problems(subnets: list[str], tables: list[Any], endpoints: list[Any], *, own_secrets_url: bool) -> Iterator[str]:
    doors = [one for one in endpoints if one["ServiceName"].endswith(".secretsmanager")]
    for subnet in subnets:
        table = route_table(subnet, tables)
        if table is None or leads_out(table):
            continue
        name = table["RouteTableId"]
        to_s3 = [one for one in endpoints if one["ServiceName"].endswith(".s3")]
        if not any(name in one.get("RouteTableIds", []) or one["VpcEndpointType"] == "Interface" for one in to_s3):
            yield (
                f"{PARAMETER}: {subnet} has no way to S3, where the migration puts its answer: a gateway endpoint"
                f" for S3 in the route table {name}, or a NAT gateway"
            )
        if not doors and not own_secrets_url:
            yield (
                f"{PARAMETER}: {subnet} has no way to Secrets Manager: an interface endpoint in its network, or a NAT"
                " gateway"
            )


def route_table(subnet: str, tables: list[Any]) -> Any:
    """The one that ``subnet`` names, else its network's main one."""
    links = [(table, link) for table in tables for link in table.get("Associations", [])]
    named = [table for table, link in links if link.get("SubnetId") == subnet]
    main = [table for table, link in links if link.get("Main")]
    return next(iter([*named, *main]), None)


def leads_out(table: Any) -> bool:
    """Whether it has a way to everywhere, but for one that takes a public address."""
    return any(
        route.get("DestinationCidrBlock") == ANYWHERE and not route.get("GatewayId", "").startswith(INTERNET_GATEWAY)
        for route in table["Routes"]
    )
