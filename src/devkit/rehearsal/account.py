"""An AWS account on this machine: moto's server with what is ours in it, a network, a database and its secrets."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from moto.cloudformation.models import cloudformation_backends
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends
from moto.secretsmanager.models import secretsmanager_backends

from devkit.app import pyproject
from devkit.app.cloudformation import Callbacks
from devkit.app.errors import ProjectError
from devkit.app.project import SECRET_VARIABLE
from devkit.app.sam_cli import processor
from devkit.app.stack import AWS_VARIABLE, Stack
from devkit.servers.aws import REGION

from . import custom_resource, database, functions, network
from .backend import Backend
from .custom_resource import CustomResourceMaker
from .database import ClusterMaker, Secrets
from .functions import FunctionMaker, LambdaService
from .resources import Makers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from devkit.app.project import Project

    from .functions import UploadedFunction
    from .resources import Maker

ACCOUNT = DEFAULT_ACCOUNT_ID


class Account:
    """For the length of a ``with`` block. ``cloudformation`` has the stacks, ``functions`` runs what is in them.

    ``clusters`` has the databases that a stack has made, beside the one that is there from the beginning.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as building:
            self.stack = building.enter_context(Stack(self.project))
            folder = Path(building.enter_context(tempfile.TemporaryDirectory(prefix="rehearsal-")))
            self.functions = LambdaService(folder, self.variables)
            building.callback(self.functions.close)
            self.custom_resources = CustomResourceMaker(self.functions.invoke_arn, building.enter_context(Callbacks()))
            secrets = Secrets(secretsmanager_backends[ACCOUNT][REGION])
            self.clusters = ClusterMaker(secrets)
            building.callback(self.clusters.close)
            self.cloudformation = Backend(REGION, ACCOUNT)
            own: dict[str, Maker] = {
                functions.KIND: FunctionMaker(self.functions, ACCOUNT, REGION),
                **dict.fromkeys(custom_resource.KINDS, self.custom_resources),
                **network.makers(ACCOUNT, REGION),
                **database.makers(secrets, self.clusters),
            }
            self.cloudformation.makers = Makers(own, ACCOUNT, REGION)
            of_moto = cloudformation_backends[ACCOUNT]
            of_moto[REGION] = self.cloudformation
            building.callback(of_moto.pop, REGION)
            building.callback(self.cloudformation.wait)
            self._exit = building.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    @property
    def endpoint(self) -> str:
        """Of all services. By this name, moto takes a template's URL for one of its own bucket."""
        return self.stack.aws.endpoint.replace("127.0.0.1", "localhost")

    def parameters(self) -> dict[str, str]:
        """A value for each of the template's parameters that needs one. Raises ProjectError where none is known."""
        declared = self.project.template.parameters
        arns = self._secrets()
        known = {name: arns.get(value, value) for name, value in self.stack.parameters().items()}
        values = {**self._network(), **processor(self.project.template), **known, **self.project.parameters}
        values = {name: value for name, value in values.items() if value or "Default" not in declared[name]}
        if missing := [name for name, said in declared.items() if "Default" not in said and name not in values]:
            raise ProjectError(
                f"{pyproject.FILE}: {pyproject.TABLE}.parameters: {', '.join(missing)} have no default,"
                " and a rehearsal needs a value for each"
            )
        return values

    def variables(self, function: UploadedFunction) -> Mapping[str, str]:
        """What ``function`` finds: what it was deployed with, and where that does not lead here, what does."""
        deployed = function.environment_vars
        found = {**self.stack.environment(), **deployed}
        found[AWS_VARIABLE] = deployed.get(AWS_VARIABLE) or self.stack.aws.endpoint
        ours = self._secrets()
        known = self.project.functions().get(function.logical_resource_id)
        if known and self.project.role(known) and deployed.get(SECRET_VARIABLE) not in {*ours, *ours.values()}:
            found |= self.stack.led_here(known)
        return {name: str(value) for name, value in {**found, **self.project.variables}.items()}

    def _secrets(self) -> dict[str, str]:
        """The ARN of each secret, by its name."""
        backend = secretsmanager_backends[ACCOUNT][REGION]
        return {secret.name: secret.arn for secret in backend.secrets.values()}

    def _network(self) -> dict[str, str]:
        """Ids of what each account has: parameters that ask for a network by their type, or their name."""
        ec2 = ec2_backends[ACCOUNT][REGION]
        vpc = ec2.get_default_vpc()
        default = vpc and ec2.get_default_security_group(vpc.id)
        if vpc is None or default is None:
            raise RuntimeError("moto has no default VPC")
        subnets = [subnet.id for subnet in ec2.describe_subnets() if subnet.vpc_id == vpc.id][:2]
        group = default.id
        by_type = {
            "AWS::EC2::VPC::Id": vpc.id,
            "AWS::EC2::Subnet::Id": subnets[0],
            "List<AWS::EC2::Subnet::Id>": ",".join(subnets),
            "AWS::EC2::SecurityGroup::Id": group,
            "List<AWS::EC2::SecurityGroup::Id>": group,
        }
        return {
            name: group if name.endswith("SecurityGroupId") else by_type[said["Type"]]
            for name, said in self.project.template.parameters.items()
            if said["Type"] in by_type or name.endswith("SecurityGroupId")
        }
