"""What a function cannot have at once, as Lambda would say it after an upload, or an HTTP API at each call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from devkit.app.errors import ProjectError
from devkit.app.project import Project
from devkit.app.rules import excluded
from devkit.app.transform import transformed

TENANCY = {"TenancyConfig": {"TenantIsolationMode": "PER_TENANT"}}
SNAPSHOT = {"SnapStart": {"ApplyOn": "PublishedVersions"}}
URL, PROVISIONED = {"FunctionUrlConfig": {"AuthType": "AWS_IAM"}}, {"ProvisionedConcurrencyConfig": {"x": 1}}


def of(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"Resources": {"F": {"Type": "AWS::Serverless::Function", "Properties": properties}}, **more}


def event(kind: str, **properties: str) -> dict[str, Any]:
    return {"Events": {"E": {"Type": kind, "Properties": properties}}}


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        (TENANCY | SNAPSHOT, "F: TenancyConfig excludes SnapStart"),
        (TENANCY | URL, "F: TenancyConfig excludes FunctionUrlConfig"),
        (TENANCY | PROVISIONED, "F: TenancyConfig excludes ProvisionedConcurrencyConfig"),
        (TENANCY | event("HttpApi"), "F: the event E is an HTTP API, which cannot call a function with TenancyConfig"),
        (TENANCY | event("SQS"), "F: the event E (SQS) names no tenant to a function with TenancyConfig"),
        (SNAPSHOT | PROVISIONED, "F: SnapStart excludes ProvisionedConcurrencyConfig"),
        (SNAPSHOT | {"FileSystemConfigs": [{}]}, "F: SnapStart excludes FileSystemConfigs"),
        (SNAPSHOT | {"EphemeralStorage": {"Size": 513}}, "F: SnapStart takes an EphemeralStorage of 512 at most"),
        (SNAPSHOT | {"PackageType": "Image"}, "F: SnapStart takes no images"),
        (SNAPSHOT | {"Runtime": "python3.11"}, "F: SnapStart takes Python from 3.12 on, and not python3.11"),
    ],
)
def test_what_excludes_one_another_is_refused_by_the_functions_name(properties: dict[str, Any], said: str) -> None:
    """Each of the two alone is none of it."""
    (found,) = excluded(of(properties), {})
    assert found.startswith(said)
    assert [excluded(of({key: value}), {}) for key, value in properties.items()] == [[], []]


def test_what_is_shared_or_chosen_by_a_condition_counts() -> None:
    """And what a condition takes away, or SnapStart's own word for none, does not."""
    chosen = {"TenancyConfig": {"Fn::If": ["Isolates", TENANCY["TenancyConfig"], {"Ref": "AWS::NoValue"}]}}
    more = {
        "Parameters": {"Mode": {"Type": "String", "Default": "no"}},
        "Conditions": {"Isolates": {"Fn::Equals": [{"Ref": "Mode"}, "yes"]}},
        "Globals": {"Function": SNAPSHOT},
    }
    assert excluded(of(chosen, **more), {}) == []
    assert excluded(of(chosen, **more), {"Mode": "yes"}) == ["F: TenancyConfig excludes SnapStart"]
    assert excluded(of(TENANCY | {"SnapStart": {"ApplyOn": "None"}}), {}) == []
    assert excluded(of(TENANCY), {}, snapstart=["F"]) == ["F: TenancyConfig excludes SnapStart"]


@pytest.mark.parametrize(
    "beside",
    [
        URL,
        PROVISIONED,
        SNAPSHOT,
        event("SQS", Queue="arn:aws:sqs:us-east-1:123456789012:q"),
        event("Schedule", Schedule="rate(1 day)"),
    ],
    ids=json.dumps,
)
def test_sam_refuses_the_same_of_tenancy(beside: dict[str, Any]) -> None:
    """All but an HTTP API, in front of a function that it could never call."""
    function = TENANCY | {"CodeUri": "s3://b/k", "Handler": "h.h", "Runtime": "python3.13"}

    def refused(properties: dict[str, Any]) -> bool:
        try:
            transformed({"Transform": "AWS::Serverless-2016-10-31", **of(properties)}, {}, "us-east-1")
        except ProjectError as error:
            return "tenancy configuration" in str(error)
        return False

    assert refused(json.loads(json.dumps(function | beside)))
    assert not refused(json.loads(json.dumps(function)))


def test_the_template_asks_for_nothing_that_excludes_one_another() -> None:
    """By its defaults, and with SnapStart for every function."""
    template = Project.find(Path(__file__)).template
    assert excluded(template.content, {}, snapstart=list(template.functions())) == []
