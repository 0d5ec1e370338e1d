"""An application so small that moto deploys it as it stands, an account on localhost, and the real `sam`."""

from __future__ import annotations

import re
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import boto3
import botocore
import pytest
from moto.cloudformation.models import ChangeSet
from moto.cloudformation.parsing import OutputMap

from devkit import cli
from devkit.deploys.target import Target
from devkit.servers.aws import LocalAws

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SAMCONFIG = """
version = 0.1
[default.global.parameters]
stack_name = "{name}"
[default.deploy.parameters]
fail_on_empty_changeset = false
"""

# A plain template: SAM's transform is not moto's, and an artifact would need a bucket.
TEMPLATE = """
Parameters:
  VpcId: {Type: String}
  AppSecretId: {Type: String, AllowedPattern: "arn:[a-z-]+:secretsmanager:.+", Description: The app's secret.}
  MaxConnections: {Type: Number, Default: 80, MinValue: 64}
  SslMode: {Type: String, Default: "", AllowedValues: ["", disable]}
  SslRootCert: {Type: String, Default: ""}
  ReserveConcurrency: {Type: String, Default: "yes", AllowedValues: ["yes", "no"]}
Resources:
  Queue: {Type: AWS::SQS::Queue}
Outputs:
  ApiUrl: {Value: !Sub "https://${VpcId}.example.com", Description: Where it answers}
  QueueUrl: {Value: !Ref Queue, Description: Where orders may be sent}
"""

# What moto deploys of it is no database; the outputs are what counts.
DATABASE = """
Parameters:
  MinCapacity: {Type: Number, Default: 0, MinValue: 0}
  MaxCapacity: {Type: Number, Default: 2}
  DeletionProtection: {Type: String, Default: "true"}
Resources:
  Database: {Type: AWS::SQS::Queue}
Outputs:
  VpcId: {Value: vpc-1, Description: The network}
  AppSecretId: {Value: !Sub "arn:aws:secretsmanager:${Database.QueueName}", Description: The app's secret}
  WriterHost: {Value: db.example.com, Description: For people}
"""

EXAMPLE = """
[database]
MinCapacity = 0.5
[application]
"""


class Devkit(Protocol):
    """``devkit("deploy", "--env", "prod")``: the exit status, and what was printed to both streams."""

    def __call__(self, *words: str) -> tuple[int, str]: ...


@pytest.fixture
def outputs_of_change_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """moto reads a stack's outputs when it makes it, which is before a change set is executed."""
    apply = ChangeSet.apply

    def apply_with_outputs(change_set: ChangeSet) -> None:
        apply(change_set)
        stack = change_set.stack
        stack.output_map = OutputMap(stack.resource_map, change_set.template_dict, stack.stack_id)

    monkeypatch.setattr(ChangeSet, "apply", apply_with_outputs)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAws]:
    """All of AWS that moto has, where this process's boto3 looks and every program that it starts."""
    with LocalAws() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        monkeypatch.delenv("AWS_PROFILE", raising=False)
        monkeypatch.setenv("SAM_CLI_POLL_DELAY", "0.1")
        yield server


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Its folder, with a bundle of certificates and no file of the user's own."""
    files = {
        "samconfig.toml": SAMCONFIG.format(name=f"t{uuid.uuid4().hex[:8]}"),
        "template.yaml": TEMPLATE,
        "database.yaml": DATABASE,
        "deploy/example.toml": EXAMPLE,
        "layer/certs/global-bundle.pem": bundle(3),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def target(project: Path) -> Target:
    """With a file that says nothing."""
    (project / "deploy" / "dev.toml").write_text("")
    return Target.read(project)


@pytest.fixture
def cloudformation(aws: LocalAws, outputs_of_change_sets: None, target: Target) -> Iterator[Any]:
    """A client. Stacks that the test made are gone after it: moto keeps what it has for the whole process."""
    client = boto3.client("cloudformation")
    yield client
    for name in (target.stack, target.database_stack):
        client.delete_stack(StackName=name)
    client.close()


@pytest.fixture
def devkit(project: Path, capfd: pytest.CaptureFixture[str]) -> Devkit:
    def run(*words: str) -> tuple[int, str]:
        capfd.readouterr()
        status = cli.main([*words, "--root", str(project)])
        said = capfd.readouterr()
        return status, said.out + said.err

    return run


@pytest.fixture
def served() -> Iterator[Callable[[bytes], str]]:
    """``served(content)``: the URL that answers it."""
    answers: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if answers[-1] else 503)
            self.end_headers()
            self.wfile.write(answers[-1])

        def log_message(self, *_: object) -> None:
            """Nothing: it is not asked about."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()

    def url(content: bytes) -> str:
        answers.append(content)
        return f"http://127.0.0.1:{server.server_port}/global/global-bundle.pem"

    yield url
    server.shutdown()
    server.server_close()
    thread.join()


def bundle(number: int) -> str:
    """So many certificates of real authorities, out of those that boto3 brings for itself."""
    text = Path(botocore.__file__).with_name("cacert.pem").read_text()
    blocks = re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", text, re.DOTALL)
    return "".join(blocks[:number])
