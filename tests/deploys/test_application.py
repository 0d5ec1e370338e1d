"""What `make deploy` passes on, and what it refuses before it builds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from devkit.app.errors import ProjectError
from devkit.app.template import Template
from devkit.deploys import application, certificates, commands
from devkit.deploys.stacks import Stack
from devkit.deploys.target import Target

if TYPE_CHECKING:
    from devkit.servers.aws import LocalAws

    from .conftest import Devkit

ROOT = Path(__file__).parents[2]
BASE = Stack(
    "orders-database", "CREATE_COMPLETE", {"VpcId": "vpc-1", "AppSecretId": "arn:aws:secretsmanager:x"}, {}, {}
)


@pytest.fixture
def template(project: Path) -> Template:
    return Template(project / "template.yaml")


def target_with(project: Path, application: str) -> Target:
    (project / "deploy/dev.toml").write_text(f"[application]\n{application}\n")
    return Target.read(project)


def test_a_database_of_one_s_own_needs_no_stack(project: Path, template: Template) -> None:
    """The file alone says where it is."""
    own = target_with(project, 'VpcId = "vpc-2"\nAppSecretId = "arn:aws:secretsmanager:y"\nSslMode = "disable"')
    values = application.checked(template, own, None)
    assert (values["VpcId"], values["AppSecretId"]) == ("vpc-2", "arn:aws:secretsmanager:y")


def test_what_is_missing_is_named_with_both_places_that_it_may_come_from(project: Path, template: Template) -> None:
    """In one line, with all of it."""
    with pytest.raises(ProjectError) as caught:
        application.checked(template, target_with(project, 'SslMode = "disable"'), None)
    said = str(caught.value)
    assert said.startswith("no value for VpcId, AppSecretId: there is no stack ")
    assert said.endswith("make database, or write them under [application] in deploy/dev.toml")


def test_a_secret_of_the_wrong_shape_is_named(project: Path, template: Template) -> None:
    """The parameter, and what was written."""
    own = target_with(project, 'AppSecretId = "app"\nSslMode = "disable"')
    with pytest.raises(ProjectError, match=r"^deploy/dev.toml: application.AppSecretId: 'app' is not of the form arn:"):
        application.checked(template, own, BASE)


def test_certificates_that_are_not_there_end_it_before_the_build(
    aws: LocalAws, project: Path, template: Template, devkit: Devkit
) -> None:
    """Ten minutes later the migration would say the same."""
    own = target_with(project, 'VpcId = "vpc-2"\nAppSecretId = "arn:aws:secretsmanager:y"')
    (project / "layer/certs/global-bundle.pem").unlink()
    assert devkit("deploy") == (2, "SslRootCert is empty, and SslMode is to verify: make certs\n")
    with pytest.raises(ProjectError, match=r"^SslRootCert: layer/certs/mine.pem is not there: make certs$"):
        application.checked(template, own, None, {"SslRootCert": "/opt/certs/mine.pem"})


def test_authorities_that_no_proxy_shows_end_it_before_the_build(project: Path) -> None:
    """A bundle that was put there by hand is RDS's own, and an RDS Proxy's certificate is none of RDS's."""
    with (project / "template.yaml").open("r+") as file:
        text = file.read().replace("Resources:", '  Proxy: {Type: String, Default: "none"}\nResources:')
        file.seek(0)
        file.write(text)
    template, derived = Template(project / "template.yaml"), {"SslRootCert": "/opt/certs/global-bundle.pem"}
    application.checked(template, target_with(project, ""), BASE, derived)
    behind = target_with(project, 'Proxy = "rds-proxy"')
    with pytest.raises(ProjectError, match=r"global-bundle.pem has none of Amazon's public authorities.*: make certs "):
        application.checked(template, behind, BASE, derived)
    with (project / "layer/certs/global-bundle.pem").open("ab") as file:
        file.writelines(certificates.amazons())
    application.checked(template, behind, BASE, derived)


def test_a_rule_of_the_template_is_held_before_the_build(project: Path) -> None:
    """CloudFormation would say the same, after an upload."""
    shutil.copy2(ROOT / "template.yaml", project)
    outputs = {name: f"arn:aws:secretsmanager:{name}" for name in ("OwnerSecretId", "AppSecretId", "ReportSecretId")}
    outputs |= {"VpcId": "vpc-1", "SubnetIds": "subnet-1"}
    base = Stack("orders-database", "CREATE_COMPLETE", outputs, {}, {})
    tokens = 'JwtIssuer = "https://issuer"\nJwtAudience = "orders"\nSslMode = "disable"\n'
    template = Template(project / "template.yaml")
    assert application.checked(template, target_with(project, tokens), base)["Proxy"] == "none"
    with pytest.raises(ProjectError, match=r"^Behind a proxy, WriterHost has to be the server's own address"):
        application.checked(template, target_with(project, f'{tokens}Proxy = "pgbouncer"'), base)


def test_a_reservation_that_was_decided_once_stays(aws: LocalAws, project: Path, template: Template) -> None:
    """Its own share makes the account look smaller; and what the file says is nobody else's to decide."""
    vars(template)["content"] = {
        **template.content,
        "Resources": {"F": {"Type": "AWS::Serverless::Function", "Properties": {"ReservedConcurrentExecutions": 20}}},
    }
    silent, before = target_with(project, ""), Stack("orders", "CREATE_COMPLETE", {}, {"ReserveConcurrency": "no"}, {})
    unused: Any = None
    assert application.reservation(unused, template, before, silent) == {"ReserveConcurrency": "no"}
    assert application.reservation(unused, template, None, target_with(project, 'ReserveConcurrency = "yes"')) == {}


def test_connections_that_do_not_fit_end_it_before_the_build() -> None:
    """With the file's values, and against what database.yaml makes where that is what the functions go to.

    58, 3 for people and 3 for superusers are 64, and the 2 ACU of database.yaml take 189.
    """
    template, here = Template(ROOT / "template.yaml"), Target(ROOT, "dev", "orders", "orders-database", exists=True)
    fits, too_few = {"MaxConnections": "64"}, {"MaxConnections": "63"}
    assert application.connections(template, fits, here, with_database=True) is None
    with pytest.raises(ProjectError, match=r"do not fit: The database takes 63 .* Or: raise MaxConnections to 64\.$"):
        application.connections(template, too_few, here, with_database=False)


def test_connections_that_nobody_can_add_up_are_told_of_and_not_refused(project: Path) -> None:
    """What the account alone bounds may be too many, and need not; what is said nowhere may fit."""
    ours = Template(ROOT / "template.yaml")
    here = Target(ROOT, "dev", "orders", "orders-database", exists=True)
    told = application.connections(ours, {"ReserveConcurrency": "no"}, here, with_database=False)
    assert told is not None
    assert told.startswith("the connections are bounded by the account alone")
    function = {"Type": "AWS::Lambda::Function", "Properties": {"Environment": {"Variables": {"PGHOST": "db"}}}}
    (project / "template.yaml").write_text(json.dumps({"Resources": {"F": function}}))
    told = application.connections(Template(project / "template.yaml"), {}, here, with_database=False)
    assert told is not None
    assert told.startswith("nobody knows whether the connections fit: nothing here says how many connections")


def test_the_outputs_of_database_yaml_leave_nothing_to_type() -> None:
    """With the example's file as it is: each parameter of template.yaml has a value."""
    outputs = Template(ROOT / "database.yaml").content["Outputs"]
    arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:x"
    base = Stack("x", "CREATE_COMPLETE", {name: arn if name.endswith("SecretId") else "x" for name in outputs}, {}, {})
    declared = Template(ROOT / "template.yaml").parameters
    from devkit.deploys import parameters

    assert parameters.missing(declared, parameters.settled(declared, base.outputs)) == []


def test_what_was_built_for_another_python_is_not_deployed(project: Path) -> None:
    """What is taken as it is, and is not as the deploy would have it, is refused by name once `sam build` has ended."""
    properties = {"Handler": "a.b", "Runtime": "python3.12", "CodeUri": "code"}
    function = {"Type": "AWS::Serverless::Function", "Properties": properties, "Metadata": {"SkipBuild": True}}
    content = {"Transform": "AWS::Serverless-2016-10-31", "Resources": {"F": function}}
    (project / "template.yaml").write_text(json.dumps(content))
    (project / "code/__pycache__").mkdir(parents=True)
    (project / "code/__pycache__/a.cpython-312.pyc").touch()
    with pytest.raises(ProjectError, match=r"^F: the Runtime is python3\.14, and what was built is of Python 3\.12"):
        commands.build(Template(project / "template.yaml", runtime="python3.14"))
    assert list(project.glob(".template*")) == []
