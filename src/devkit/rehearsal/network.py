"""Which subnet takes which routes.

moto writes that down where nobody who asks for routes looks; and it deletes no table of them, so that no network that
has one goes away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from moto.ec2.models import ec2_backends
from moto.ec2.models.route_tables import RouteTable

from .resources import MotoMaker, Recorded

if TYPE_CHECKING:
    from moto.ec2.models import EC2Backend

    from .resources import Definition, Maker

TABLE, ASSOCIATION = "AWS::EC2::RouteTable", "AWS::EC2::SubnetRouteTableAssociation"


def makers(account_id: str, region: str) -> dict[str, Maker]:
    """By the type's name."""
    ec2 = ec2_backends[account_id][region]
    return {TABLE: TableMaker(ec2, account_id, region), ASSOCIATION: AssociationMaker(ec2)}


class TableMaker(MotoMaker):
    """moto's route tables, which are deleted as well: a network that has one is not."""

    def __init__(self, ec2: EC2Backend, account_id: str, region: str) -> None:
        super().__init__(RouteTable, account_id, region)  # type: ignore[type-abstract] # moto leaves some open
        self._ec2 = ec2

    def delete(self, made: RouteTable, _definition: Definition) -> None:
        """As EC2 does it."""
        self._ec2.delete_route_table(made.id)


class Association(Recorded):
    """One of a subnet with a route table; its id is EC2's."""

    def __init__(self, logical_id: str, physical_id: str) -> None:
        super().__init__(logical_id)
        self.physical_resource_id = physical_id


class AssociationMaker:
    """In EC2, where `describe-route-tables` finds them."""

    def __init__(self, ec2: EC2Backend) -> None:
        self._ec2 = ec2

    def create(self, definition: Definition) -> Association:
        """From then on the subnet takes its routes."""
        said = definition.properties
        made = self._ec2.associate_route_table(said["RouteTableId"], subnet_id=said["SubnetId"])
        return Association(definition.logical_id, made)

    def update(self, made: Association, definition: Definition, before: Definition) -> Association:
        """Another one in its place."""
        self.delete(made, before)
        return self.create(definition)

    def delete(self, made: Association, _definition: Definition) -> None:
        """The subnet is left with the main table."""
        self._ec2.disassociate_route_table(made.physical_resource_id)
