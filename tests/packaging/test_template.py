"""What template.yaml promises: its numbers fit each other, and its names are those of the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory

from devkit.app.project import Project

PROJECT = Project.find(Path(__file__))
ROOT = PROJECT.root
TEMPLATE = PROJECT.template.content
RESOURCES: dict[str, Any] = TEMPLATE["Resources"]
FUNCTIONS = {
    name: resource["Properties"]
    for name, resource in RESOURCES.items()
    if resource["Type"] == "AWS::Serverless::Function"
}
every_function = pytest.mark.parametrize("function", FUNCTIONS)


@every_function
def test_a_handler_is_a_function_in_a_file(function: str) -> None:
    """A renamed module shows here, not at the first invocation."""
    module, attribute = FUNCTIONS[function]["Handler"].rsplit(".", 1)
    source = (ROOT / "src" / module.replace(".", "/")).with_suffix(".py").read_text()
    assert re.search(rf"^def {attribute}\(", source, re.MULTILINE)


@every_function
def test_a_function_logs_to_a_group_that_forgets(function: str) -> None:
    """A group that Lambda makes by itself keeps everything for ever."""
    group = RESOURCES[FUNCTIONS[function]["LoggingConfig"]["LogGroup"]["Ref"]]
    assert group["Type"] == "AWS::Logs::LogGroup"
    assert group["Properties"]["RetentionInDays"] > 0


@every_function
def test_a_function_may_read_the_secret_that_it_is_told_of_and_no_other(function: str) -> None:
    """The one policy of a function allows one action on the secret in its DB_SECRET_ID."""
    properties = FUNCTIONS[function]
    (policy,) = properties["Policies"]
    (statement,) = RESOURCES[policy["Ref"]]["Properties"]["PolicyDocument"]["Statement"]
    assert statement["Action"] == "secretsmanager:GetSecretValue"
    assert statement["Resource"] == properties["Environment"]["Variables"]["DB_SECRET_ID"]


def test_the_database_has_room_for_two_versions_of_every_function() -> None:
    """Reserved concurrency x 1 connection, twice during a deploy, 3 for superusers and 3 for people."""
    held = 2 * sum(properties["ReservedConcurrentExecutions"] for properties in FUNCTIONS.values())
    budget = TEMPLATE["Parameters"]["MaxConnections"]
    assert budget["MinValue"] == held + 3 + 3
    assert budget["Default"] >= budget["MinValue"]
    assert TEMPLATE["Outputs"]["ConnectionBudget"]["Value"] == {"Fn::Sub": f"{held} of ${{MaxConnections}}"}


def test_a_batch_is_not_handed_out_again_while_it_is_worked_on() -> None:
    """AWS asks for a visibility timeout of at least six function timeouts."""
    timeout_s = FUNCTIONS["OrdersIntakeFunction"]["Timeout"]
    assert RESOURCES["OrdersQueue"]["Properties"]["VisibilityTimeout"] >= 6 * timeout_s


def test_a_backlog_waits_in_the_queue() -> None:
    """More pollers than environments would turn receives into throttles, and throttles into dead letters."""
    intake = FUNCTIONS["OrdersIntakeFunction"]
    source = intake["Events"]["Queue"]["Properties"]
    assert source["ScalingConfig"]["MaximumConcurrency"] <= intake["ReservedConcurrentExecutions"]
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_the_api_answers_before_its_gateway_gives_up() -> None:
    """An HTTP API waits 30 seconds, and a caller who gets the gateway's error learns nothing."""
    behind_the_api = [
        properties["Timeout"]
        for properties in FUNCTIONS.values()
        if any(event["Type"] == "HttpApi" for event in properties.get("Events", {}).values())
    ]
    assert len(behind_the_api) == 2
    assert max(behind_the_api) < 30


def test_only_health_is_open() -> None:
    """Every other route takes the API's default authorizer."""
    routes = [
        event["Properties"]
        for properties in FUNCTIONS.values()
        for event in properties.get("Events", {}).values()
        if event["Type"] == "HttpApi"
    ]
    assert [route["Path"] for route in routes if "Auth" in route] == ["/health"]
    assert RESOURCES["OrdersApi"]["Properties"]["Auth"]["DefaultAuthorizer"] == "Tokens"


def test_the_alarm_before_a_timeout_knows_the_timeouts() -> None:
    """Its expression divides each function's milliseconds by that function's own timeout."""
    expression, *metrics = RESOURCES["NearTimeoutAlarm"]["Properties"]["Metrics"]
    timeouts_ms = dict(re.findall(r"FILL\((\w+), 0\) / (\d+)", expression["Expression"]))
    watched = {
        metric["Id"]: FUNCTIONS[metric["MetricStat"]["Metric"]["Dimensions"][0]["Value"]["Ref"]] for metric in metrics
    }
    assert {name: int(value) for name, value in timeouts_ms.items()} == {
        name: properties["Timeout"] * 1000 for name, properties in watched.items()
    }


@pytest.mark.parametrize("alarm", ["ErrorsAlarm", "ThrottlesAlarm", "NearTimeoutAlarm"])
def test_an_alarm_watches_every_function_but_the_migration(alarm: str) -> None:
    """The migration's failure is the deploy's."""
    _, *metrics = RESOURCES[alarm]["Properties"]["Metrics"]
    watched = {metric["MetricStat"]["Metric"]["Dimensions"][0]["Value"]["Ref"] for metric in metrics}
    assert watched == FUNCTIONS.keys() - {"MigrateFunction"}


def test_a_new_migration_runs_at_the_next_deploy() -> None:
    """CloudFormation calls the function again when the resource's revision changes: it has to be the newest."""
    versions = ROOT / "src/handlers/migrations/versions"
    newest = ScriptDirectory(str(versions.parent), version_locations=[str(versions)]).get_current_head()
    assert RESOURCES["Migration"]["Properties"]["Revision"] == newest


def test_the_schema_is_there_before_the_code_that_needs_it() -> None:
    """All functions that read orders wait for the migration."""
    waiting = {name for name in FUNCTIONS if RESOURCES[name].get("DependsOn") == "Migration"}
    assert waiting == FUNCTIONS.keys() - {"MigrateFunction", "HealthFunction"}


def test_the_layers_are_one_but_for_the_processor() -> None:
    """What differs between the two is their condition, and where they say for which processor they are."""
    arm, x86 = (
        {
            key: value
            for key, value in RESOURCES[f"DependenciesLayer{name}"]["Properties"].items()
            if key != "Description"
        }
        for name in ("Arm64", "X86")
    )
    assert (arm.pop("CompatibleArchitectures"), x86.pop("CompatibleArchitectures")) == (["arm64"], ["x86_64"])
    assert arm == x86
