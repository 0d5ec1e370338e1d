"""From a clone to a URL and back: the real `sam` against moto."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.deploys.target import Target

    from .conftest import Devkit

pytestmark = pytest.mark.slow  # five programs of a second and more


def test_four_commands_lead_to_a_url_and_two_back(
    project: Path, target: Target, cloudformation: Any, devkit: Devkit
) -> None:
    """Nobody is asked anything, and nobody types what the database's stack knows."""
    (project / target.file).unlink()  # as in a clone
    status, said = devkit("account")
    assert (status, (project / target.file).read_text()) == (0, (project / "deploy/example.toml").read_text())
    assert "Next: make database, make deploy" in said

    status, said = devkit("database")
    assert status == 0, said
    assert stack(cloudformation, target.database_stack)["MinCapacity"] == "0.5"
    assert "about 15 minutes" in said

    status, said = devkit("deploy")
    assert status == 0, said
    (base,) = cloudformation.describe_stacks(StackName=target.database_stack)["Stacks"]
    outputs = {one["OutputKey"]: one["OutputValue"] for one in base["Outputs"]}
    given = stack(cloudformation, target.stack)
    assert (given["VpcId"], given["AppSecretId"]) == ("vpc-1", outputs["AppSecretId"])
    assert given["SslRootCert"] == "/opt/certs/global-bundle.pem"
    assert said.splitlines()[-1].split()[:2] == ["ApiUrl", "https://vpc-1.example.com"]

    assert devkit("deploy")[0] == 0  # nothing has changed

    status, said = devkit("destroy", "--database", "--yes")
    assert status == 2
    assert "DeletionProtection = false under [database] in deploy/dev.toml, then make database" in said
    (project / target.file).write_text("[database]\nDeletionProtection = false\n")
    assert devkit("database")[0] == 0
    status, said = devkit("destroy", "--yes")
    assert (status, names(cloudformation) & {target.stack, target.database_stack}) == (0, {target.database_stack})
    assert f"The database stays, and costs: {target.database_stack}. make destroy DATABASE=yes" in said
    status, said = devkit("destroy", "--database", "--yes")
    assert (status, names(cloudformation) & {target.stack, target.database_stack}) == (0, set())
    assert "a snapshot of the cluster" in said


def stack(cloudformation: Any, name: str) -> dict[str, str]:
    """The values of its parameters."""
    (found,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
    return {one["ParameterKey"]: one["ParameterValue"] for one in found["Parameters"]}


def names(cloudformation: Any) -> set[str]:
    return {one["StackName"] for one in cloudformation.describe_stacks()["Stacks"]}
