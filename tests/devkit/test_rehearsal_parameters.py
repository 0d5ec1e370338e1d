"""What a rehearsed CloudFormation refuses before it begins, and in which order it goes to work."""

from __future__ import annotations

from typing import Any

import pytest

from devkit.app.errors import ProjectError
from devkit.app.transform import transformed
from devkit.rehearsal.failure import Refused
from devkit.rehearsal.order import in_order
from devkit.rehearsal.parameters import checked, obeyed


def test_defaults_are_filled_in_and_everything_is_text() -> None:
    """So that a second change set with the same values is the same."""
    declared = {
        "Size": {"Type": "Number", "Default": 3},
        "On": {"Type": "String", "Default": True},
        "Subnets": {"Type": "List<AWS::EC2::Subnet::Id>"},
    }
    assert checked(declared, {"Subnets": ["subnet-1", "subnet-2"]}) == {
        "Size": "3",
        "On": "true",
        "Subnets": "subnet-1,subnet-2",
    }


@pytest.mark.parametrize(
    ("said", "value", "reason"),
    [
        ({"AllowedPattern": "arn:.+"}, "prod/app", "must match pattern arn:.+"),
        ({"AllowedPattern": "[a-z]+"}, "abc1", "must match pattern"),
        ({"AllowedValues": [True, "maybe"]}, "false", "must be one of AllowedValues: true, maybe"),
        ({"Type": "AWS::EC2::VPC::Id"}, "", "parameter name P does not exist"),
        ({"Type": "List<AWS::EC2::Subnet::Id>"}, "", "parameter name P does not exist"),
        ({"Type": "Number", "MinValue": 64}, "63", "must be a number not less than 64"),
        ({"Type": "Number", "MaxValue": 64}, "65", "must be a number not greater than 64"),
        ({"Type": "Number"}, "many", "must be a number"),
        ({"MinLength": 3}, "ab", "must contain at least 3 characters"),
        ({"MaxLength": 3}, "abcd", "must contain at most 3 characters"),
    ],
)
def test_a_value_that_its_declaration_rules_out_is_refused(said: dict[str, Any], value: str, reason: str) -> None:
    """By the parameter's name, before anything is made."""
    with pytest.raises(Refused, match=r"P\b") as refused:
        checked({"P": {"Type": "String", **said}}, {"P": value})
    assert reason in str(refused.value)


def test_all_that_is_missing_is_named() -> None:
    """Not one at a time."""
    with pytest.raises(Refused, match=r"^Parameters: \[A, B\] must have values$"):
        checked({"A": {"Type": "String"}, "B": {"Type": "Number"}, "C": {"Type": "String", "Default": ""}}, {})


def test_a_rule_compares_one_parameter_with_another() -> None:
    """Where its condition holds, and says what it is about."""
    template = {
        "Parameters": {name: {"Type": "String"} for name in ("Proxy", "Writer")},
        "Rules": {
            "WriterIsNamed": {
                "RuleCondition": {"Fn::Not": [{"Fn::Equals": [{"Ref": "Proxy"}, "none"]}]},
                "Assertions": [
                    {
                        "Assert": {"Fn::Not": [{"Fn::Equals": [{"Ref": "Writer"}, ""]}]},
                        "AssertDescription": "name the writer",
                    }
                ],
            }
        },
    }
    obeyed(template, {"Proxy": "none", "Writer": ""})
    obeyed(template, {"Proxy": "rds-proxy", "Writer": "db.example.com"})
    with pytest.raises(Refused, match="name the writer"):
        obeyed(template, {"Proxy": "rds-proxy", "Writer": ""})


def test_what_is_mentioned_comes_first() -> None:
    """By a reference, an attribute, in a text, or by DependsOn; the rest is as the template has it."""
    resources = {
        "Last": {"DependsOn": ["Migration"], "Properties": {"A": {"Fn::If": ["On", {"Ref": "Layer"}, ""]}}},
        "Migration": {"Properties": {"ServiceToken": {"Fn::GetAtt": ["Function", "Arn"]}}},
        "Function": {"Properties": {"Name": {"Fn::Sub": ["${AWS::StackName}-${Role.Id}-${!No}", {"X": {"Ref": "P"}}]}}},
        "Role": {"Properties": {}},
        "Layer": {"Properties": {}},
    }
    assert in_order(resources) == ["Role", "Function", "Migration", "Layer", "Last"]


def test_a_circle_is_refused() -> None:
    """As CloudFormation refuses it."""
    with pytest.raises(Refused, match=r"Circular dependency between resources: \[A, B\]"):
        in_order({"A": {"DependsOn": "B"}, "B": {"Properties": {"X": {"Ref": "A"}}}, "C": {}})


def test_a_serverless_function_becomes_a_function_and_a_role() -> None:
    """By the program that CloudFormation runs too; the policies that AWS manages are found by their names."""
    function = {
        "Type": "AWS::Serverless::Function",
        "Properties": {
            "Runtime": "python3.13",
            "Handler": "a.b",
            "CodeUri": "s3://bucket/key",
            "Policies": ["AmazonS3ReadOnlyAccess"],
        },
    }
    done = transformed({"Transform": "AWS::Serverless-2016-10-31", "Resources": {"F": function}}, {}, "us-east-1")
    assert {name: one["Type"] for name, one in done["Resources"].items()} == {
        "F": "AWS::Lambda::Function",
        "FRole": "AWS::IAM::Role",
    }
    assert done["Resources"]["FRole"]["Properties"]["ManagedPolicyArns"] == [
        "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole",
        "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess",
    ]


def test_a_resource_that_the_transform_cannot_read_is_refused() -> None:
    """With what it says of it."""
    template = {
        "Transform": ["AWS::Serverless-2016-10-31"],
        "Resources": {"F": {"Type": "AWS::Serverless::Function", "Properties": {"Runtime": "python3.13"}}},
    }
    with pytest.raises(ProjectError, match=r"Resource with id \[F\] is invalid"):
        transformed(template, {}, "us-east-1")
