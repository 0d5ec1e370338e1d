"""Secrets Manager on localhost, asked by boto3 as the product asks it."""

from __future__ import annotations

import json
import socket
import uuid
from typing import TYPE_CHECKING

import boto3
import pytest

from devkit.servers.aws import LocalAws

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mypy_boto3_secretsmanager import SecretsManagerClient


@pytest.fixture
def name() -> str:
    return f"test/{uuid.uuid4()}"


@pytest.fixture
def client(local_aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> Iterator[SecretsManagerClient]:
    for variable, value in local_aws.environment().items():
        monkeypatch.setenv(variable, value)
    client = boto3.client("secretsmanager")
    yield client
    client.close()


def test_boto3_needs_nothing_but_the_environment(local_aws: LocalAws, client: SecretsManagerClient, name: str) -> None:
    """Endpoint, region and credentials come from the variables, as in Lambda."""
    version = local_aws.put_secret(name, {"username": "app", "password": "s3cret"})
    answer = client.get_secret_value(SecretId=name)
    assert json.loads(answer["SecretString"]) == {"username": "app", "password": "s3cret"}
    assert answer["VersionId"] == version


def test_a_second_put_is_a_rotation(local_aws: LocalAws, client: SecretsManagerClient, name: str) -> None:
    """The new value is current under a new version id, the old one is previous."""
    first = local_aws.put_secret(name, {"password": "old"})
    second = local_aws.put_secret(name, {"password": "new"})
    assert client.get_secret_value(SecretId=name)["VersionId"] == second != first
    previous = client.get_secret_value(SecretId=name, VersionStage="AWSPREVIOUS")
    assert previous["VersionId"] == first
    assert json.loads(previous["SecretString"]) == {"password": "old"}


def test_a_string_is_stored_as_it_is(local_aws: LocalAws, client: SecretsManagerClient, name: str) -> None:
    """So that a secret can be broken on purpose."""
    local_aws.put_secret(name, "{not json")
    assert client.get_secret_value(SecretId=name)["SecretString"] == "{not json"


def test_a_deleted_secret_is_gone_at_once(local_aws: LocalAws, client: SecretsManagerClient, name: str) -> None:
    """There is no recovery window, so the name can be used again; deleting twice is no error."""
    local_aws.put_secret(name, "value")
    local_aws.delete_secret(name)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_secret_value(SecretId=name)
    local_aws.delete_secret(name)
    local_aws.put_secret(name, "again")


def test_it_counts_what_it_is_asked(local_aws: LocalAws, client: SecretsManagerClient, name: str) -> None:
    """Every operation, also one that fails, in the order of arrival."""
    asked_before, fetched_before = len(local_aws.calls), local_aws.count("GetSecretValue")
    local_aws.put_secret(name, "value")
    client.get_secret_value(SecretId=name)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_secret_value(SecretId=f"{name}-missing")
    assert local_aws.calls[asked_before:] == ["CreateSecret", "GetSecretValue", "GetSecretValue"]
    assert local_aws.count("GetSecretValue") - fetched_before == 2


def test_the_shell_has_no_say(
    local_aws: LocalAws, client: SecretsManagerClient, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a profile with an endpoint of its own nor an HTTP proxy takes a secret elsewhere."""
    configuration = tmp_path / "config"
    configuration.write_text("[profile work]\nendpoint_url = http://127.0.0.1:9\n")
    with monkeypatch.context() as shell:
        shell.setenv("AWS_CONFIG_FILE", str(configuration))
        shell.setenv("AWS_PROFILE", "work")
        shell.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        version = local_aws.put_secret(name, "value")
    assert client.get_secret_value(SecretId=name)["VersionId"] == version


def test_a_refusal_is_an_error_with_the_reason(local_aws: LocalAws, client: SecretsManagerClient, name: str) -> None:
    """Here: a secret with a replica in another region cannot be deleted."""
    local_aws.put_secret(name, "value")
    client.replicate_secret_to_regions(SecretId=name, AddReplicaRegions=[{"Region": "eu-west-1"}])
    with pytest.raises(RuntimeError, match=f"could not delete the secret '{name}': HTTP 400, .*replica regions"):
        local_aws.delete_secret(name)


def test_it_is_quiet(
    local_aws: LocalAws, client: SecretsManagerClient, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """No access log between the lines of the tests."""
    local_aws.put_secret(name, "value")
    client.get_secret_value(SecretId=name)
    assert capfd.readouterr() == ("", "")


def test_the_end_of_the_block_closes_the_port() -> None:
    """The endpoint is gone and says so; stopping again is no error."""
    with LocalAws() as server:
        port = int(server.endpoint.rpartition(":")[2])
        socket.create_connection(("127.0.0.1", port)).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    with pytest.raises(RuntimeError, match="with block"):
        server.environment()
    server.stop()
