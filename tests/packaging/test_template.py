"""What template.yaml promises: its numbers fit each other, and its names are those of the code.

What is asked here holds for any application in its place: the functions are told apart by what the template says of
them, not by their names.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory

from devkit.app.project import Project
from devkit.plan.planned import Asked, planned
from devkit.rehearsal.failure import Refused
from devkit.rehearsal.parameters import checked

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
# The one resource that a function stands behind, called by CloudFormation before the code that needs the schema.
(MIGRATION,) = (name for name, resource in RESOURCES.items() if resource["Type"].startswith("Custom::"))
(MIGRATE,) = PROJECT.template.called_at_deploy()
# The health check asks for no table, so it may be there before there is one.
(HEALTH,) = (name for name, properties in FUNCTIONS.items() if properties["Handler"] == "handlers.health.handler")
# Whoever wants a route that asks for no token says so here.
OPEN_PATHS = ["/health"]


def events(kind: str) -> list[tuple[str, dict[str, Any]]]:
    """Each event of ``kind`` that calls a function: the function's name, the event's properties."""
    return [
        (name, event["Properties"])
        for name, properties in FUNCTIONS.items()
        for event in properties.get("Events", {}).values()
        if event["Type"] == kind
    ]


@pytest.mark.parametrize(
    "function", [name for name in FUNCTIONS if not RESOURCES[name].get("Metadata", {}).get("HandlerInLayer")]
)
def test_a_handler_is_a_function_in_a_file(function: str) -> None:
    """A renamed module shows here, not at the first invocation."""
    module, attribute = FUNCTIONS[function]["Handler"].rsplit(".", 1)
    source = (ROOT / "src" / module.replace(".", "/")).with_suffix(".py").read_text()
    assert re.search(rf"^((async )?def {attribute}\(|{attribute} = )", source, re.MULTILINE)


@every_function
def test_a_function_logs_to_a_group_that_forgets(function: str) -> None:
    """A group that Lambda makes by itself keeps everything for ever."""
    group = RESOURCES[FUNCTIONS[function]["LoggingConfig"]["LogGroup"]["Ref"]]
    assert group["Type"] == "AWS::Logs::LogGroup"
    assert group["Properties"]["RetentionInDays"] > 0


def reserved(function: str) -> int:
    """Where the account has room for it; elsewhere it reserves none."""
    condition, environments, nothing = FUNCTIONS[function]["ReservedConcurrentExecutions"]["Fn::If"]
    assert (condition, nothing) == ("ReservesConcurrency", {"Ref": "AWS::NoValue"})
    return int(environments)


def test_the_template_says_what_its_plan_comes_to() -> None:
    """Two versions of every function, 3 for superusers and 3 for people, in the comment, the floor and the output."""
    budget = TEMPLATE["Parameters"]["MaxConnections"]
    found = planned(Asked(template=PROJECT.template.path, parameters=PROJECT.parameters))
    assert found.plan is not None
    (server,) = found.plan.sides
    assert {line.name for line in server.lines} == FUNCTIONS.keys()
    comment = re.search(r"\n  MaxConnections:\n(?:    \w.*\n)*((?:    #.*\n)+)", PROJECT.template.path.read_text())
    assert comment is not None
    sums = [int(number) for number in re.findall(r"= (\d+)", comment[1])]
    assert sums == [server.at_work, server.most, server.least]
    assert budget["MinValue"] == server.least <= budget["Default"]
    _, where_reserved, elsewhere = TEMPLATE["Outputs"]["ConnectionBudget"]["Value"]["Fn::If"]
    assert where_reserved == {"Fn::Sub": f"{server.most} of ${{MaxConnections}}"}
    assert str(server.most) not in str(elsewhere)


def test_a_batch_is_not_handed_out_again_while_it_is_worked_on() -> None:
    """AWS asks for a visibility timeout of at least six function timeouts."""
    for function, source in events("SQS"):
        queue = RESOURCES[source["Queue"]["Fn::GetAtt"][0]]["Properties"]
        assert queue["VisibilityTimeout"] >= 6 * FUNCTIONS[function]["Timeout"]


def test_a_backlog_waits_in_the_queue() -> None:
    """More pollers than environments would turn receives into throttles, and throttles into dead letters."""
    for function, source in events("SQS"):
        assert source["ScalingConfig"]["MaximumConcurrency"] <= reserved(function)
        assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_what_a_queue_gives_up_is_kept_and_told_of() -> None:
    """Every queue that calls a function has a queue of dead letters, and that one an alarm."""
    watched = {
        dimension["Value"]["Fn::GetAtt"][0]
        for resource in RESOURCES.values()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
        for dimension in resource["Properties"].get("Dimensions", [])
        if "Fn::GetAtt" in dimension["Value"]
    }
    for _, source in events("SQS"):
        queue = RESOURCES[source["Queue"]["Fn::GetAtt"][0]]["Properties"]
        assert queue["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0] in watched


def test_whoever_sends_to_a_queue_may_do_nothing_else() -> None:
    """By a policy of its own for each queue that calls a function; its ARN is among the outputs, as the queue's is."""
    may_send = {
        statement["Resource"]["Fn::GetAtt"][0]: name
        for name, resource in RESOURCES.items()
        if resource["Type"] == "AWS::IAM::ManagedPolicy"
        for statement in resource["Properties"]["PolicyDocument"]["Statement"]
        if statement["Action"] == "sqs:SendMessage"
    }
    put_out = [output["Value"] for output in TEMPLATE["Outputs"].values()]
    assert may_send.keys() == {source["Queue"]["Fn::GetAtt"][0] for _, source in events("SQS")}
    for queue, policy in may_send.items():
        assert len(RESOURCES[policy]["Properties"]["PolicyDocument"]["Statement"]) == 1
        dead = RESOURCES[queue]["Properties"]["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]
        arns = [{"Fn::GetAtt": [name, "Arn"]} for name in (queue, dead)]
        assert [one for one in [{"Ref": policy}, *arns] if one not in put_out] == []


def test_an_api_answers_before_its_gateway_gives_up() -> None:
    """An HTTP API waits 30 seconds, and a caller who gets the gateway's error learns nothing."""
    assert [name for name, _ in events("HttpApi") if FUNCTIONS[name]["Timeout"] >= 30] == []


def test_every_route_but_the_open_ones_asks_for_a_token() -> None:
    """It takes the default authorizer of an API that has one."""
    routes = [route for _, route in events("HttpApi")]
    assert [route["Path"] for route in routes if "Auth" in route] == OPEN_PATHS
    for route in routes:
        auth = RESOURCES[route["ApiId"]["Ref"]]["Properties"]["Auth"]
        assert auth["DefaultAuthorizer"] in auth["Authorizers"]


def test_a_page_may_call_each_route_with_its_token() -> None:
    """From the one origin that the deploy names; by default from none."""
    assert TEMPLATE["Parameters"]["CorsOrigin"]["Default"] == ""
    for api in {route["ApiId"]["Ref"] for _, route in events("HttpApi")}:
        methods = {route["Method"] for _, route in events("HttpApi") if route["ApiId"]["Ref"] == api}
        condition, cors, otherwise = RESOURCES[api]["Properties"]["CorsConfiguration"]["Fn::If"]
        assert (condition, otherwise) == ("HasCorsOrigin", {"Ref": "AWS::NoValue"})
        assert cors["AllowOrigins"] == [{"Ref": "CorsOrigin"}]
        assert "authorization" in cors["AllowHeaders"]
        assert methods <= set(cors["AllowMethods"])


@pytest.mark.parametrize("value", ["*", "shop.example", "https://shop.example/", "https://*.example", "null"])
def test_an_origin_that_no_browser_sends_or_that_is_everyones_is_refused_at_once(value: str) -> None:
    """By the parameter's name, before anything is made."""
    declared = {"CorsOrigin": TEMPLATE["Parameters"]["CorsOrigin"]}
    for right in ("", "https://shop.example", "http://localhost:5173"):
        assert checked(declared, {"CorsOrigin": right}) == {"CorsOrigin": right}
    with pytest.raises(Refused, match="'CorsOrigin' must match pattern"):
        checked(declared, {"CorsOrigin": value})


def test_access_logs_are_not_added_to_the_policy_of_the_account() -> None:
    """It holds a score of names, and then no API of the account gets access logs any more."""
    destinations = [
        resource["Properties"]["AccessLogSettings"]["DestinationArn"]["Fn::GetAtt"][0]
        for resource in RESOURCES.values()
        if "AccessLogSettings" in resource.get("Properties", {})
    ]
    names = {RESOURCES[name]["Properties"]["LogGroupName"]["Fn::Sub"] for name in destinations}
    assert {name.startswith("/aws/vendedlogs/${AWS::StackName}") for name in names} == {True}


def test_an_api_that_could_not_be_imported_fails_the_deploy() -> None:
    """API Gateway takes an issuer that does not answer for a warning, and leaves out the routes that need it."""
    apis = {route["ApiId"]["Ref"] for _, route in events("HttpApi")}
    assert [name for name in apis if RESOURCES[name]["Properties"].get("FailOnWarnings") is not True] == []


@pytest.mark.parametrize("value", ["", "http://issuer.example", "issuer.example", "https://", "https://a b"])
def test_an_issuer_that_cannot_be_asked_is_refused_at_once(value: str) -> None:
    """By the parameter's name, before anything is made."""
    with pytest.raises(Refused, match="'JwtIssuer' must match pattern"):
        checked({"JwtIssuer": TEMPLATE["Parameters"]["JwtIssuer"]}, {"JwtIssuer": value})


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
    assert watched == FUNCTIONS.keys() - {MIGRATE}


def test_a_new_migration_runs_at_the_next_deploy() -> None:
    """CloudFormation calls the function again when the resource's revision changes: it has to be the newest."""
    versions = ROOT / "src/handlers/migrations/versions"
    newest = ScriptDirectory(str(versions.parent), version_locations=[str(versions)]).get_current_head()
    assert RESOURCES[MIGRATION]["Properties"]["Revision"] == newest


def test_cloudformation_waits_for_as_long_as_a_migration_may_take() -> None:
    """By default; a lost answer is noticed after the time that the deploy was given, and not after an hour."""
    waits = TEMPLATE["Parameters"][RESOURCES[MIGRATION]["Properties"]["ServiceTimeout"]["Ref"]]
    assert waits["Default"] >= FUNCTIONS[MIGRATE]["Timeout"] + 60
    assert waits["Default"] <= waits["MaxValue"] == 3600


def test_the_schema_is_there_before_the_code_that_needs_it() -> None:
    """All functions that use a table wait for the migration."""
    waiting = {name for name in FUNCTIONS if RESOURCES[name].get("DependsOn") == MIGRATION}
    assert waiting == FUNCTIONS.keys() - {MIGRATE, HEALTH}


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
