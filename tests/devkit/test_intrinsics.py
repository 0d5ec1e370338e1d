"""CloudFormation's functions, as far as a template knows what comes out."""

from __future__ import annotations

from typing import Any

import pytest

from devkit.app.intrinsics import Intrinsics, UnknownValueError, reference

TEMPLATE: dict[str, Any] = {
    "Parameters": {"Stage": {"Default": "test"}, "Name": {"Type": "String"}, "Size": {"Default": 5}},
    "Conditions": {
        "IsTest": {"Fn::Equals": [{"Ref": "Stage"}, "test"]},
        "IsLive": {"Fn::Not": [{"Condition": "IsTest"}]},
        "Both": {"Fn::And": [{"Condition": "IsTest"}, {"Condition": "IsLive"}]},
        "Either": {"Fn::Or": [{"Condition": "IsTest"}, {"Condition": "IsLive"}]},
    },
    "Mappings": {
        "Hosts": {"test": {"db": "localhost"}, "live": {"db": "far", "port": 5432}},
        "Accounts": {123456789012: {"name": "local"}},
    },
    "Resources": {"Queue": {"Type": "AWS::SQS::Queue"}},
}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        (5, "5"),
        (False, "false"),
        ({"Ref": "Stage"}, "test"),
        ({"Ref": "Name"}, "given"),
        ({"Ref": "Size"}, "5"),
        ({"Ref": "Queue"}, "Queue"),
        ({"Ref": "AWS::Region"}, "us-east-1"),
        ({"Fn::GetAtt": ["Secret", "Arn"]}, "arn"),
        ({"Fn::Sub": "${Stage}-${Queue}-${!Stage}-${Secret.Arn}"}, "test-Queue-${Stage}-arn"),
        ({"Fn::Sub": ["${a}/${Stage}", {"a": {"Ref": "Name"}}]}, "given/test"),
        ({"Fn::Join": ["-", ["a", {"Ref": "Stage"}]]}, "a-test"),
        ({"Fn::Select": [1, {"Fn::Split": [",", "a,b"]}]}, "b"),
        ({"Fn::FindInMap": ["Hosts", {"Ref": "Stage"}, "db"]}, "localhost"),
        ({"Fn::FindInMap": ["Hosts", "live", "port"]}, "5432"),
        ({"Fn::FindInMap": ["Accounts", {"Ref": "AWS::AccountId"}, "name"]}, "local"),
        ({"Fn::FindInMap": ["Hosts", "nowhere", "db", {"DefaultValue": {"Ref": "Stage"}}]}, "test"),
        ({"Fn::If": ["IsLive", "yes", {"Fn::If": ["Both", "both", "no"]}]}, "no"),
        ({"Fn::If": ["Either", {"Ref": "Stage"}, "x"]}, "test"),
        ({"Fn::If": ["IsLive", "x", {"Ref": "AWS::NoValue"}]}, ""),
    ],
)
def test_a_value_is_what_a_deploy_would_make_of_it(value: Any, text: str) -> None:
    """Given values stand before the parameters' defaults."""
    assert Intrinsics(TEMPLATE, {"Name": "given", "Secret.Arn": "arn"}).text(value) == text


@pytest.mark.parametrize(
    "value",
    [
        {"Fn::GetAtt": ["Queue", "Arn"]},
        {"Fn::GetAtt": "Queue.Arn"},
        {"Fn::ImportValue": "x"},
        {"Fn::Sub": "${Queue.Arn}"},
        {"Ref": "Nobody"},
        {"Fn::FindInMap": ["Hosts", "nowhere", "db"]},
        {"Fn::FindInMap": ["Hosts", {"Fn::ImportValue": "x"}, "db", {"DefaultValue": "a"}]},
        {"Fn::If": ["Nobody", "a", "b"]},
        {"Fn::Join": [",", {"Fn::GetAZs": ""}]},
        ["a", "b"],
    ],
)
def test_what_only_a_deployed_stack_knows_is_not_guessed(value: Any) -> None:
    """A made-up value would look like a real one."""
    intrinsics = Intrinsics(TEMPLATE, {})
    assert intrinsics.text_or_none(value) is None
    with pytest.raises(UnknownValueError):
        intrinsics.text(value)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ({"Ref": "AppSecret"}, "AppSecret"),
        ({"Fn::GetAtt": ["Cluster", "MasterUserSecret.SecretArn"]}, "Cluster.MasterUserSecret.SecretArn"),
        ({"Fn::GetAtt": "Secret.Id"}, "Secret.Id"),
        ({"Fn::Sub": "${Stage}/app"}, "${Stage}/app"),
        ("prod/app", "prod/app"),
    ],
)
def test_a_reference_has_a_name(value: Any, name: str) -> None:
    """By which ``[tool.devkit]`` can speak of it."""
    assert reference(value) == name


def test_a_template_may_have_none_of_its_sections() -> None:
    """Or empty ones, which YAML reads as nothing."""
    assert Intrinsics({"Resources": {}, "Parameters": None}, {}).text("a") == "a"
