"""What `make deploy` makes of ``[versions]``: functions behind an alias, for SnapStart and gradual deploys."""

from __future__ import annotations

import contextlib
import functools
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from samtranslator.model.preferences import deployment_preference_collection as of_sam

from devkit.app.errors import ProjectError
from devkit.app.template import Template
from devkit.app.transform import transformed
from devkit.deploys import application, commands, versions
from devkit.deploys.target import Target
from devkit.deploys.versions import Versions, behind_an_alias
from devkit.rehearsal.failure import Refused
from devkit.rehearsal.order import in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).parents[2]
OURS = Template(ROOT / "template.yaml")
(MIGRATE,) = OURS.called_at_deploy()
SERVING = OURS.functions().keys() - {MIGRATE}
VALUES = {name: str(said.get("Default", "x")) for name, said in OURS.parameters.items()}
SNAPSTART = Versions(snapstart=True)
GRADUAL = Versions(gradual="Canary10Percent5Minutes", alarms=("ErrorsAlarm", "NearTimeoutAlarm"))
ALIAS, VERSION = "AWS::Lambda::Alias", "AWS::Lambda::Version"


@pytest.fixture
def built(tmp_path: Path) -> Callable[[], Template]:
    """``built()``: a template as `sam build` leaves it, with its artifacts, read anew."""
    files = {
        "template.yaml": """
            Transform: AWS::Serverless-2016-10-31
            Parameters: {Host: {Type: String}}
            Resources:
              Layer: {Type: AWS::Serverless::LayerVersion, Properties: {ContentUri: Layer}}
              Queue: {Type: AWS::SQS::Queue}
              Api: {Type: AWS::Serverless::Function, Properties: {CodeUri: Api}}
              Report: {Type: AWS::Serverless::Function, Properties: {CodeUri: Report}}
              Own: {Type: AWS::Serverless::Function, Properties: {CodeUri: Api, AutoPublishAlias: mine}}
              Migrate: {Type: AWS::Serverless::Function, Properties: {CodeUri: Api}}
              Migration: {Type: Custom::Migration, Properties: {ServiceToken: !GetAtt Migrate.Arn}}
            """,
        "Layer/python/driver.py": "",
        "Api/handler.py": "",
        "Report/handler.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return lambda: Template(tmp_path / "template.yaml")


def digests(template: Template, host: str = "a") -> dict[str, str]:
    made = behind_an_alias(template, SNAPSTART, {"Host": host})["Resources"]
    found = {name: resource.get("Properties", {}).get("AutoPublishCodeSha256") for name, resource in made.items()}
    return {name: digest for name, digest in found.items() if digest}


def test_whatever_a_function_is_made_of_publishes_a_version(built: Callable[[], Template]) -> None:
    """Its code and no other's, the layers, a parameter, the template; and where nothing changes, nothing does."""
    before = digests(built())
    assert before.keys() == {"Api", "Report"}
    assert digests(built()) == before
    (built().path.parent / "Api/handler.py").write_text("pass")
    after = digests(built())
    assert {name for name in before if before[name] != after[name]} == {"Api"}
    assert digests(built(), host="b").items().isdisjoint(after.items())
    (built().path.parent / "Layer/python/driver.py").write_text("pass")
    assert digests(built()).items().isdisjoint(after.items())


def of_type(resources: Mapping[str, Any], kind: str) -> dict[str, Any]:
    return {name: resource["Properties"] for name, resource in resources.items() if resource["Type"] == kind}


@functools.cache
def of_cloudformation(asked: Versions) -> dict[str, Any]:
    """The resources that SAM makes of template.yaml."""
    content = behind_an_alias(packaged(), asked, VALUES) if asked else packaged().content
    resources: dict[str, Any] = transformed(json.loads(json.dumps(content)), VALUES, "us-east-1")["Resources"]
    return resources


def packaged() -> Template:
    """As `sam deploy` uploads it: no folder is named any more."""
    template = Template(OURS.path)
    text = re.sub(r'"(CodeUri|ContentUri)": "[^"]*"', r'"\1": "s3://bucket/key"', json.dumps(OURS.content))
    vars(template)["content"] = json.loads(text)
    return template


def test_by_default_there_is_neither_a_version_nor_an_alias() -> None:
    """Nor anything of CodeDeploy's, which would be a permission more, and could fail."""
    kinds = {resource["Type"] for resource in of_cloudformation(Versions()).values()}
    assert {kind for kind in kinds if kind in {ALIAS, VERSION} or "CodeDeploy" in kind} == set()


def test_all_that_calls_a_function_calls_its_alias() -> None:
    """API, queue and schedule, and each may; but CloudFormation, which calls the migration's newest code."""
    resources = of_cloudformation(SNAPSTART)
    aliases = {name: said["FunctionName"]["Ref"] for name, said in of_type(resources, ALIAS).items()}
    assert sorted(aliases.values()) == sorted(SERVING)
    permissions = of_type(resources, "AWS::Lambda::Permission").values()
    assert {said["FunctionName"]["Ref"] for said in permissions} <= aliases.keys()
    (mapping,) = of_type(resources, "AWS::Lambda::EventSourceMapping").values()
    (rule,) = of_type(resources, "AWS::Events::Rule").values()
    assert mapping["FunctionName"]["Ref"] in aliases
    assert rule["Targets"][0]["Arn"]["Ref"] in aliases
    (api,) = of_type(resources, "AWS::ApiGatewayV2::Api").values()
    called = set(re.findall(r"functions/\$\{(\w+)(?:\.Arn)?\}/invocations", json.dumps(api["Body"])))
    assert called
    assert called <= aliases.keys()
    (migration,) = of_type(resources, "Custom::Migration").values()
    assert migration["ServiceToken"] == {"Fn::GetAtt": [MIGRATE, "Arn"]}


def test_a_version_is_gone_with_the_release_after_it() -> None:
    """One that was kept would be paid for with SnapStart, and stand in the way after an update was rolled back."""
    resources = of_cloudformation(SNAPSTART)
    kept = {
        one["Properties"]["FunctionName"]["Ref"]: one["DeletionPolicy"]
        for one in resources.values()
        if one["Type"] == VERSION
    }
    assert kept == dict.fromkeys(SERVING, "Delete")
    snapshots = {
        name: said["SnapStart"]
        for name, said in of_type(resources, "AWS::Lambda::Function").items()
        if "SnapStart" in said
    }
    assert snapshots == {name: {"ApplyOn": "PublishedVersions"} for name in SERVING}


def test_a_gradual_deploy_stops_and_goes_back_for_the_alarms_that_the_file_names() -> None:
    """Each alias is shifted by a group of its own, and the deploy fails with it."""
    resources = of_cloudformation(GRADUAL)
    groups = of_type(resources, "AWS::CodeDeploy::DeploymentGroup")
    assert len(groups) == len(SERVING)
    for group in groups.values():
        alarms = [{"Name": {"Ref": name}} for name in GRADUAL.alarms]
        assert group["AlarmConfiguration"] == {"Enabled": True, "Alarms": alarms}
        assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"]
        assert group["DeploymentConfigName"]["Fn::Sub"][1] == {"ConfigName": GRADUAL.gradual}
    shifted = {
        one["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]["DeploymentGroupName"]["Ref"]
        for one in resources.values()
        if one["Type"] == ALIAS
    }
    assert shifted == groups.keys()
    assert all("SnapStart" not in said for said in of_type(resources, "AWS::Lambda::Function").values())


@pytest.mark.parametrize("alarm", [name for name, one in OURS.resources.items() if one["Type"] == versions.ALARM])
def test_an_alarm_that_would_wait_for_what_waits_for_it_is_refused(project: Path, alarm: str) -> None:
    """CloudFormation refuses a circle, and names everything that is in it."""
    given = {"GradualDeploy": GRADUAL.gradual, "Alarms": alarm}
    target = replace(Target.read(project), versions=given)
    circle = alarm == "ApiFailuresAlarm"
    refusal = f"{target.file}: versions.Alarms: {alarm} looks at OrdersApi, which leads to the alias"
    assert [one.startswith(refusal) for one in versions.problems(target, OURS)] == [True] * circle
    with pytest.raises(Refused, match="Circular") if circle else contextlib.nullcontext():
        in_order(of_cloudformation(Versions.of(given)))


def test_sam_alone_publishes_nothing_for_a_parameter_or_a_layer() -> None:
    """If this fails, SAM has learned it: the template itself can then have the alias, and parameters for the rest."""
    content = packaged().content
    content["Resources"]["HealthFunction"]["Properties"] |= {
        "AutoPublishAlias": "live",
        "AutoPublishAliasAllProperties": True,
    }

    def version(**changed: str) -> set[str]:
        resources = transformed(json.loads(json.dumps(content)), VALUES | changed, "us-east-1")["Resources"]
        return set(of_type(resources, VERSION))

    before = version()
    assert version(DatabaseHost="other.example.com") == before
    layer = content["Resources"]["DependenciesLayerArm64"]["Properties"]
    layer |= {"ContentUri": "s3://bucket/other", "PublishLambdaVersion": True}
    assert version() == before


def test_the_ways_to_shift_are_those_of_codedeploy() -> None:
    """All but the one that is none."""
    assert {*versions.GRADUAL, "AllAtOnce"} == set(of_sam.CODEDEPLOY_PREDEFINED_CONFIGURATIONS_LIST)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('SnapShot = "x"', "versions.SnapShot is no key; the keys are SnapStart, GradualDeploy, Alarms"),
        ('SnapStart = "yes"', "versions.SnapStart: 'yes' is none of None, PublishedVersions"),
        (
            'GradualDeploy = "AllAtOnce"\nAlarms = ["ErrorsAlarm"]',
            "versions.GradualDeploy: 'AllAtOnce' is none of Canary10",
        ),
        ('GradualDeploy = "Linear10PercentEvery1Minute"', "versions.Alarms names none of the template's alarms"),
        ('Alarms = ["Errors"]', "versions.Alarms: the template has no alarm Errors; it has ErrorsAlarm"),
        (f"Alarms = {['ErrorsAlarm'] * 11}", "versions.Alarms names 11 alarms, and CodeDeploy takes 10"),
    ],
)
def test_what_is_wrong_with_the_lines_is_said_before_the_build(project: Path, lines: str, said: str) -> None:
    """With the file, the key, and what would be right."""
    (project / "deploy/dev.toml").write_text(f"[versions]\n{lines}\n")
    (project / "template.yaml").write_text(
        "Resources: {ErrorsAlarm: {Type: AWS::CloudWatch::Alarm}, Queue: {Type: AWS::SQS::Queue}}"
    )
    with pytest.raises(ProjectError, match=re.escape(f"deploy/dev.toml: {said}")):
        application.checked(Template(project / "template.yaml"), Target.read(project), None)


@pytest.mark.parametrize("lines", ["", '[versions]\nSnapStart = "None"\n'])
def test_without_a_line_the_build_is_deployed_as_it_is(
    project: Path, built: Callable[[], Template], monkeypatch: pytest.MonkeyPatch, lines: str
) -> None:
    """Byte for byte."""
    before, deployed = deployed_by(project, built, monkeypatch, lines)
    assert deployed == before


def test_the_build_is_as_it_was_after_the_deploy(
    project: Path, built: Callable[[], Template], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after one that failed: `sam deploy` by hand, with another value, would publish no version for it."""
    before, deployed = deployed_by(project, built, monkeypatch, '[versions]\nSnapStart = "PublishedVersions"\n')
    assert json.loads(deployed)["Resources"]["Api"]["Properties"]["AutoPublishAlias"] == "live"
    assert (project / ".aws-sam/build/template.yaml").read_text() == before


def deployed_by(
    project: Path, built: Callable[[], Template], monkeypatch: pytest.MonkeyPatch, lines: str
) -> tuple[str, str]:
    """The template that the build made, and the one that `sam deploy` finds, which fails."""
    (project / "deploy/dev.toml").write_text(lines)
    path = project / ".aws-sam/build/template.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(before := built().path.read_text())
    found: list[str] = []

    def fail(*_: object) -> int:
        found.append(path.read_text())
        return 1

    monkeypatch.setattr(commands, "sam", fail)
    assert application.deploy(Target.read(project), {"Host": "a"}) == 1
    return before, found[0]


def test_what_a_function_says_of_itself_stays(built: Callable[[], Template]) -> None:
    """The template is more particular than the file: a function may be left out, or be shifted differently."""
    path = built().path
    own = "{CodeUri: Api, SnapStart: {ApplyOn: None}, DeploymentPreference: {Type: AllAtOnce}}"
    path.write_text(path.read_text().replace("{CodeUri: Api}", own, 1))
    asked = replace(GRADUAL, snapstart=True)
    made = behind_an_alias(Template(path), asked, {})["Resources"]
    api, report = made["Api"]["Properties"], made["Report"]["Properties"]
    assert (api["SnapStart"], api["DeploymentPreference"]) == ({"ApplyOn": "None"}, {"Type": "AllAtOnce"})
    assert report["SnapStart"] == {"ApplyOn": "PublishedVersions"}
    assert (api["AutoPublishAlias"], versions.snapped(Template(path))) == ("live", ["Report"])


def test_a_file_is_an_artifact_as_a_folder_is(built: Callable[[], Template]) -> None:
    """SAM leaves what it does not build where it is: a zip that changes has to publish a version as well."""
    path = built().path
    (path.parent / "a.zip").write_bytes(b"1")
    path.write_text(path.read_text().replace("{CodeUri: Report}", "{CodeUri: a.zip}"))
    before = digests(Template(path))
    (path.parent / "a.zip").write_bytes(b"2")
    after = digests(Template(path))
    assert {name for name in before if before[name] != after[name]} == {"Report"}


def test_an_image_is_refused_by_the_function_s_name(project: Path) -> None:
    """A digest without the image would deploy, and publish nothing of what has changed."""
    target = replace(Target.read(project), versions={"GradualDeploy": GRADUAL.gradual, "Alarms": "A"})
    (project / "template.yaml").write_text(
        "Resources:\n  A: {Type: AWS::CloudWatch::Alarm}\n"
        "  F: {Type: AWS::Serverless::Function, Properties: {PackageType: Image, ImageUri: f:latest}}\n"
    )
    (said,) = versions.problems(target, Template(project / "template.yaml"))
    assert said.startswith("deploy/dev.toml: versions: F is an image")


def test_a_build_that_cannot_be_written_beside_is_a_sentence(project: Path) -> None:
    """And stays as it is."""
    path = project / ".aws-sam/build/template.yaml"
    (path.parent / "template.yaml.draft").mkdir(parents=True)
    path.write_text(text := "Resources: {A: {Type: AWS::SQS::Queue}}")
    target = replace(Target.read(project), versions={"SnapStart": "PublishedVersions"})
    with pytest.raises(ProjectError, match="Is a directory"), versions.published(target, {}):
        pytest.fail("nothing is to be deployed")
    assert path.read_text() == text


def test_an_interrupt_leaves_the_build_as_it_was(project: Path, built: Callable[[], Template]) -> None:
    """With nothing beside it."""
    path = project / ".aws-sam/build/template.yaml"
    path.parent.mkdir(parents=True)
    path.write_bytes(before := built().path.read_bytes() + b"# \r\n")
    target = replace(Target.read(project), versions={"SnapStart": "PublishedVersions"})
    with pytest.raises(KeyboardInterrupt), versions.published(target, {}):
        raise KeyboardInterrupt
    assert (path.read_bytes(), [one.name for one in path.parent.iterdir()]) == (before, ["template.yaml"])


def test_two_deploys_do_not_share_a_build(tmp_path: Path) -> None:
    """The second would upload what the first is putting together; once that has ended, it may."""
    with (
        commands.alone(tmp_path),
        pytest.raises(ProjectError, match="another deploy is at work"),
        commands.alone(tmp_path),
    ):
        pytest.fail("there are two")
    with commands.alone(tmp_path):
        assert (tmp_path / ".aws-sam").is_dir()


def test_snapstart_is_refused_where_a_function_cannot_have_it(project: Path) -> None:
    """By the function's name, before the build."""
    (project / "deploy/dev.toml").write_text('[versions]\nSnapStart = "PublishedVersions"\n')
    function = "F: {Type: AWS::Serverless::Function, Properties: {EphemeralStorage: {Size: 1024}}}"
    (project / "template.yaml").write_text(f"Resources:\n  {function}\n")
    with pytest.raises(ProjectError, match=r"^F: SnapStart takes an EphemeralStorage of 512 at most, and not of 1024$"):
        application.checked(Template(project / "template.yaml"), Target.read(project), None)
