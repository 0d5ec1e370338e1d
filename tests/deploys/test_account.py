"""What the table says of an account: moto's, and where moto has no answer, one of botocore's Stubber."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.stub import Stubber
from moto.cloudformation.models import cloudformation_backends

from devkit.app.errors import ProjectError
from devkit.app.template import Template
from devkit.deploys import account
from devkit.deploys.account import LATER, MISSING, OK, UNKNOWN, Finding
from devkit.deploys.asking import Account
from devkit.deploys.stacks import Stack
from devkit.deploys.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.servers.aws import LocalAws

    from .conftest import Devkit

ROOT = Path(__file__).parents[2]
RESERVING = Template(ROOT / "template.yaml")


class OfLambda(Account):
    """An account whose Lambda is the given client."""

    def __init__(self, target: Target, client: Any) -> None:
        super().__init__(target)
        self._lambda = client

    def client(self, service: str) -> Any:
        return self._lambda if service == "lambda" else super().client(service)


@pytest.fixture
def concurrency(aws: LocalAws, target: Target) -> Iterator[Any]:
    """``concurrency(10)``: the row of an account with that limit, none of it reserved."""
    client = boto3.client("lambda")

    def row(limit: int, template: Template = RESERVING, top: Stack | None = None, said: Target = target) -> Finding:
        with Stubber(client) as stub:
            limits = {"ConcurrentExecutions": limit, "UnreservedConcurrentExecutions": limit}
            stub.add_response("get_account_settings", {"AccountLimit": limits})
            return account.room(OfLambda(said, client), template, top, said)

    yield row
    client.close()


def rows(target: Target) -> dict[str, Finding]:
    return {one.thing: one for one in account.findings(target)}


def test_an_empty_account_lacks_what_the_next_commands_make(aws: LocalAws, target: Target) -> None:
    """And nothing that somebody has to do first."""
    found = rows(target)
    assert {thing for thing, row in found.items() if row.state == MISSING} == set()
    assert {row.remedy for row in found.values() if row.state == LATER} == {"make database", "make deploy"}
    assert found["credentials"].seen.startswith("123456789012, arn:aws:")
    assert found["region"].seen == "us-east-1"
    assert (found["sam"].state, found["uv"].state) == (OK, OK)
    assert found["certificates"].seen == "layer/certs/global-bundle.pem, 3 of them"


def test_without_credentials_nothing_more_is_asked(
    aws: LocalAws, target: Target, monkeypatch: pytest.MonkeyPatch, devkit: Devkit
) -> None:
    """The row says how they are given, and a deploy cannot begin."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    found = rows(target)
    assert list(found) == ["sam", "uv", "region", "credentials"]
    assert (found["credentials"].state, found["credentials"].seen) == (MISSING, "no credentials")
    assert "aws configure sso" in found["credentials"].remedy
    status, said = devkit("account")
    assert status == 1
    assert said.splitlines()[-1] == "A deploy cannot begin: see what is missing above."


def test_without_a_region_it_says_where_one_is_set(
    aws: LocalAws, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not botocore's exception."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    found = rows(replace(target, region=None))
    row = found["region"]
    assert (row.state, row.remedy) == (MISSING, "AWS_REGION=eu-central-1, or region in deploy/dev.toml")
    assert (found["credentials"].state, found["credentials"].remedy) == (UNKNOWN, "")


def test_credentials_of_another_account_are_refused(aws: LocalAws, project: Path, devkit: Devkit) -> None:
    """Where the file says which account it is for; no other verb begins either."""
    (project / "deploy/prod.toml").write_text('account = "210987654321"\n')
    assert rows(Target.read(project, "prod"))["credentials"].state == MISSING
    for verb in ("database", "deploy", "destroy"):
        status, said = devkit(verb, "--env", "prod")
        assert status == 2
        assert "these credentials are of the account 123456789012, and deploy/prod.toml says 210987654321" in said


def test_a_profile_that_is_not_there_is_a_sentence(aws: LocalAws, project: Path, devkit: Devkit) -> None:
    """With the file and the key."""
    (project / "deploy/dev.toml").write_text('profile = "nobody"\n')
    status, said = devkit("deploy")
    where = "AWS_PROFILE, or profile in deploy/dev.toml, names another one"
    assert (status, said) == (2, f"The config profile (nobody) could not be found: {where}\n")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AWS_ENDPOINT_URL", "nowhere", "Invalid endpoint: nowhere"),
        ("AWS_REGION", "eu central", "Provided region_name 'eu central' doesn't match a supported format."),
        ("AWS_CONFIG_FILE", "{root}/broken", "Unable to parse config file"),
    ],
)
@pytest.mark.usefixtures("aws")
def test_a_shell_that_boto3_cannot_make_sense_of_is_a_sentence(
    target: Target, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    """In the words of boto3, which name what is wrong, and not as its traceback."""
    (target.root / "broken").write_text("[default\n")
    monkeypatch.setenv(name, value.format(root=target.root))
    with pytest.raises(ProjectError, match=re.escape(said)):
        Account(Target.read(target.root)).identity()


def test_the_shell_names_the_region_as_it_does_for_the_aws_command_line(
    aws: LocalAws, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """boto3 and SAM look at AWS_DEFAULT_REGION alone, and so would deploy to another region, or to none."""
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    target = Target.read(project)
    assert (rows(target)["region"].seen, target.where()) == ("eu-west-3", ["--region", "eu-west-3"])
    (project / "deploy/dev.toml").write_text('region = "eu-central-1"\n')
    assert Target.read(project).where() == ["--region", "eu-central-1"]


def test_credentials_that_have_expired_are_told_apart_from_none(
    aws: LocalAws, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row says what AWS answered, and that others are needed."""
    message = "The security token included in the request is expired"
    sts = boto3.client("sts")
    with Stubber(sts) as stub:
        stub.add_client_error("get_caller_identity", "ExpiredToken", message)
        monkeypatch.setattr(Account, "client", lambda *_: sts)
        row = account.credentials(Account(target))
    assert (row.state, row.remedy) == (MISSING, account.RENEW)
    assert row.seen == f"sts:GetCallerIdentity: ExpiredToken: {message}"


def test_an_account_has_room_or_is_told_whom_to_ask(concurrency: Any) -> None:
    """Where the template has no way to do without a reservation."""
    assert concurrency(1000).state == OK
    without = Template(ROOT / "template.yaml")
    vars(without)["content"] = {**RESERVING.content, "Parameters": {}}
    row = concurrency(10, without)
    assert row.state == MISSING
    assert "--quota-code L-B99A9384" in row.remedy


def test_a_new_account_does_without_a_reservation_where_the_template_can(
    concurrency: Any, aws: LocalAws, target: Target
) -> None:
    """`make deploy` says so by itself; a file that says yes is taken at its word, and is wrong."""
    able = Template(ROOT / "template.yaml")
    vars(able)["content"] = {**RESERVING.content, "Parameters": {"ReserveConcurrency": {"Type": "String"}}}
    row = concurrency(10, able)
    assert row.state == OK
    assert row.seen.endswith("so make deploy says ReserveConcurrency=no")
    (target.root / target.file).write_text('[application]\nReserveConcurrency = "yes"\n')
    assert concurrency(10, able, said=Target.read(target.root)).state == MISSING


def test_a_stack_that_is_there_has_its_reservation_already(concurrency: Any) -> None:
    """Its own share is missing from what the account calls unreserved."""
    assert concurrency(100, top=Stack("orders", "UPDATE_COMPLETE", {}, {}, {})).state == OK
    assert concurrency(10, top=Stack("orders", "CREATE_COMPLETE", {}, {}, {})).state == OK


def test_who_may_not_ask_for_the_limit_is_told_what_must_hold(aws: LocalAws, target: Target) -> None:
    """It is in nobody's way: a deploy needs no such permission."""
    row = account.room(Account(target), RESERVING, None, target)
    assert row.state == UNKNOWN
    assert "lambda:GetAccountSettings" in row.seen


def test_without_certificates_the_next_command_is_named(aws: LocalAws, target: Target) -> None:
    """A file that is none counts as none."""
    bundle = target.root / "layer/certs/global-bundle.pem"
    bundle.write_text("<html>")
    assert rows(target)["certificates"] == Finding("certificates", LATER, "none in layer/certs", "make certs")
    bundle.unlink()
    assert rows(target)["certificates"].state == LATER


def test_a_stack_that_can_only_be_deleted_is_in_the_way(cloudformation: Any, target: Target, devkit: Devkit) -> None:
    """In the table, and before `make deploy` builds anything."""
    cloudformation.create_stack(StackName=target.stack, TemplateBody="Resources: {Q: {Type: AWS::SQS::Queue}}")
    backend = cloudformation_backends["123456789012"]["us-east-1"]
    (stack,) = (one for one in backend.stacks.values() if one.name == target.stack)
    stack.status = "ROLLBACK_FAILED"
    row = rows(target)["application"]
    assert row.state == MISSING
    assert row.remedy == "make destroy, and then this again"
    assert devkit("deploy") == (
        2,
        f"{target.stack} is ROLLBACK_FAILED, which can only be deleted: make destroy, and then this again\n",
    )
    stack.status = "ROLLBACK_COMPLETE"
    row = rows(target)["application"]
    assert (row.state, row.remedy) == (LATER, "make deploy")
    assert row.seen == f"{target.stack} is ROLLBACK_COMPLETE, which the next command deletes before it begins"


def test_values_that_would_be_refused_stand_in_the_table(aws: LocalAws, target: Target) -> None:
    """Of both templates, also before there is any stack."""
    (target.root / target.file).write_text(
        "[database]\nMinCapacity = -1\n[application]\nMaxConnections = 5\n[versions]\nA = 1\n"
    )
    found = rows(Target.read(target.root))
    assert "deploy/dev.toml: versions.A is no key" in found["values"].seen
    assert found["database's values"].seen == "deploy/dev.toml: database.MinCapacity: -1 is below 0"
    assert "deploy/dev.toml: application.MaxConnections: 5 is below 64" in found["values"].seen


def test_a_few_values_of_one_s_own_do_without_no_database(aws: LocalAws, target: Target) -> None:
    """The next command makes it; nothing is missing for that."""
    (target.root / target.file).write_text("[application]\nMaxConnections = 100\n")
    found = rows(Target.read(target.root))
    assert ("values" in found, found["database"].remedy) == (False, "make database")


def test_a_database_of_one_s_own_is_none_that_the_next_command_makes(aws: LocalAws, target: Target) -> None:
    """The file names all that a stack would have put out."""
    own = '[application]\nVpcId = "vpc-2"\nAppSecretId = "arn:aws:secretsmanager:y"\n'
    (target.root / target.file).write_text(own)
    found = rows(Target.read(target.root))
    assert found["database"] == Finding("database", OK, "deploy/dev.toml names one of your own")
    assert {row.remedy for row in found.values() if row.state == LATER} == {"make deploy"}
