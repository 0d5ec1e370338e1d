"""What database.yaml promises: it fits template.yaml, and its names are those of the code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from samcli.yamlhelper import yaml_parse

from db.telemetry.metrics import Tally
from devkit.app.project import Project

APPLICATION: dict[str, Any] = Project.find(Path(__file__)).template.content
PATH = Path(__file__).parents[2] / "database.yaml"
TEMPLATE: dict[str, Any] = yaml_parse(PATH.read_text())
RESOURCES: dict[str, Any] = TEMPLATE["Resources"]
SECRETS = {"OwnerSecret", "AppSecret", "ReportSecret"}
METRICS = {"".join(part.title() for part in name.split("_")) for name in Tally().as_dict()}


def of_type(kind: str) -> dict[str, Any]:
    return {name: resource["Properties"] for name, resource in RESOURCES.items() if resource["Type"] == kind}


def test_what_it_puts_out_is_what_the_application_takes() -> None:
    """So that nobody types an ARN, and nothing is left for which there is no value."""
    assert TEMPLATE["Outputs"].keys() <= APPLICATION["Parameters"].keys()


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_a_role_has_a_secret_that_knows_its_database_and_is_rotated(name: str) -> None:
    """Not at once: there is no such role before the application's first deploy."""
    shape = json.loads(RESOURCES[name]["Properties"]["GenerateSecretString"]["SecretStringTemplate"]["Fn::Sub"])
    assert shape == {"engine": "postgres", "dbname": "${DatabaseName}", "username": name.removesuffix("Secret").lower()}
    (attachment,) = (
        resource
        for resource, properties in of_type("AWS::SecretsManager::SecretTargetAttachment").items()
        if properties["SecretId"] == {"Ref": name}
    )
    (rotation,) = (
        resource
        for resource, properties in of_type("AWS::SecretsManager::RotationSchedule").items()
        if properties["SecretId"] == {"Ref": name}
    )
    assert RESOURCES[rotation]["Properties"]["RotateImmediatelyOnUpdate"] is False
    assert attachment in RESOURCES[rotation]["DependsOn"]


def test_the_roles_are_those_that_the_application_grants_to() -> None:
    """By default, where neither stack is told otherwise."""
    parameters = APPLICATION["Parameters"]
    assert (parameters["AppRole"]["Default"], parameters["ReportRole"]["Default"]) == ("app", "report")


def test_no_password_stands_in_it() -> None:
    """The master's is RDS's own, the others are made by Secrets Manager."""
    assert RESOURCES["Cluster"]["Properties"]["ManageMasterUserPassword"] is True
    assert not {"MasterUserPassword", "SecretString"} & {key for _, key in walk(RESOURCES)}


def test_what_holds_data_outlives_its_stack() -> None:
    """A cluster leaves a snapshot, users stay; but each first deploy that fails would leave a pool without any."""
    assert RESOURCES["Cluster"]["DeletionPolicy"] == RESOURCES["Cluster"]["UpdateReplacePolicy"] == "Snapshot"
    assert RESOURCES["Users"]["DeletionPolicy"] == "RetainExceptOnCreate"
    assert RESOURCES["Users"]["UpdateReplacePolicy"] == "Retain"


def test_the_dashboard_shows_metrics_that_there_are() -> None:
    """Those of `db` by the names that it emits, with the namespace and the service that the application sets."""
    text = RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    body = json.loads(re.sub(r"\$\{\w+(::\w+)?\}", "x", text))
    shown = [metric for widget in body["widgets"] for metric in widget["properties"]["metrics"]]
    ours = {name for namespace, name, *_ in shown if namespace == "x"}
    assert {"Connects", "ConnectMs", "Reuses", "DatabaseMs"} <= ours <= METRICS
    variables = APPLICATION["Globals"]["Function"]["Environment"]["Variables"]
    assert TEMPLATE["Parameters"]["MetricsNamespace"]["Default"] == variables["POWERTOOLS_METRICS_NAMESPACE"]
    assert TEMPLATE["Parameters"]["MetricsService"]["Default"] == variables["POWERTOOLS_SERVICE_NAME"]


def test_a_deploy_sends_it_as_it_is() -> None:
    """CloudFormation takes no more in a request; a larger one would need a bucket, and `make database` has none."""
    assert PATH.stat().st_size <= 51_200


def test_a_user_cannot_choose_a_tenant() -> None:
    """Neither at a sign-up of their own, nor later."""
    users, client = RESOURCES["Users"]["Properties"], RESOURCES["UsersClient"]["Properties"]
    assert users["AdminCreateUserConfig"]["AllowAdminCreateUserOnly"] is True
    assert [(a["Name"], a["Mutable"]) for a in users["Schema"]] == [("tenant_id", False)]
    assert "custom:tenant_id" not in client["WriteAttributes"]


def walk(tree: Any, at: str = "") -> list[tuple[str, str]]:
    """Every key in ``tree``, with the key that it stands under."""
    if isinstance(tree, dict):
        return [(at, key) for key in tree] + [found for key, value in tree.items() for found in walk(value, key)]
    if isinstance(tree, list):
        return [found for value in tree for found in walk(value, at)]
    return []
