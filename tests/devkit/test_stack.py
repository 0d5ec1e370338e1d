"""How an application's functions are led to the local database and secrets, and away from their real ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from devkit.app.project import Project
from devkit.app.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST = "host.docker.internal"


def function(**variables: Any) -> dict[str, Any]:
    return {
        "Type": "AWS::Serverless::Function",
        "Properties": {
            "Handler": "app.handler",
            "Runtime": "python3.13",
            "CodeUri": ".",
            "Environment": {"Variables": variables},
        },
    }


TEMPLATE = {
    "Parameters": {name: {"Type": "String", "Default": ""} for name in ("NotesSecret", "Ssl", "Endpoint", "Stage")},
    "Resources": {
        "ByParameter": function(
            DB_SECRET_ID={"Ref": "NotesSecret"},
            DB_SSLMODE={"Ref": "Ssl"},
            AWS_ENDPOINT_URL_SECRETS_MANAGER={"Ref": "Endpoint"},
            STAGE={"Ref": "Stage"},
        ),
        "Written": function(DB_SECRET_ID="prod/notes", DB_HOST="notes.example", DB_NAME={"Fn::GetAtt": ["Db", "Name"]}),
        "Without": function(DB_HOST="notes.example", QUEUE={"Fn::GetAtt": ["Queue", "QueueUrl"]}),
    },
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """As containers find it: not on loopback."""
    folder: Path = tmp_path_factory.mktemp("notes")
    (folder / "template.json").write_text(json.dumps(TEMPLATE))
    (folder / "pyproject.toml").write_text('[tool.devkit]\nvariables = { STAGE = "local" }')
    with Stack(Project.at(folder), database_host=HOST) as running:
        yield running


def test_a_variable_that_hands_a_parameter_on_is_reached_by_it(stack: Stack) -> None:
    """So that what the template does with its parameters is what runs."""
    parameters = stack.parameters()
    assert parameters["NotesSecret"].endswith("/notes")
    assert (parameters["Ssl"], parameters["Endpoint"], parameters["Stage"]) == ("disable", stack.aws.endpoint, "local")
    handed_on = stack.functions()["ByParameter"].environment
    assert {**handed_on, **stack.led_here(stack.functions()["ByParameter"])} == handed_on


def test_what_is_written_out_is_replaced(stack: Stack) -> None:
    """The secret says all of it; a real address would be asked."""
    written = stack.functions()["Written"]
    variables = stack.variables(written)
    assert variables["DB_SECRET_ID"] == stack.parameters()["NotesSecret"]
    assert (variables["DB_HOST"], variables["DB_NAME"], variables["DB_SSLMODE"]) == ("", "", "disable")
    assert stack.unknown(written) == []


def test_a_function_that_does_not_enter_is_left_alone(stack: Stack) -> None:
    """But for what the table says of all; what only a deployed stack knows is named."""
    without = stack.functions()["Without"]
    variables = stack.variables(without)
    assert (variables["DB_HOST"], variables["STAGE"], variables["QUEUE"]) == ("notes.example", "local", "")
    assert "DB_SECRET_ID" not in variables
    assert stack.unknown(without) == ["QUEUE"]


def test_a_secret_leads_to_the_wire_as_its_role(stack: Stack) -> None:
    """At the address that the functions see."""
    variables = stack.environment()
    client = boto3.client(
        "secretsmanager",
        endpoint_url=stack.aws.endpoint,
        region_name=variables["AWS_REGION"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
    )
    told = json.loads(client.get_secret_value(SecretId=stack.parameters()["NotesSecret"])["SecretString"])
    assert (told["host"], told["port"], told["dbname"], told["username"]) == (HOST, stack.wire.port, "app", "notes")
