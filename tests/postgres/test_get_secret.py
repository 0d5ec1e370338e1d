"""How Secrets Manager is asked: the extension, a request signed here, or boto3."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from botocore.session import Session
from moto import mock_aws

from db.credentials import get_secret
from db.credentials.get_secret import Place, Refused, Unreachable, ask_directly, ask_extension, extension_port
from db.credentials.secrets_manager import SecretsManagerSource
from db.credentials.sigv4 import Keys, Signer
from db.errors import ConfigurationError, CredentialsError
from db.timing.invocation import Invocation, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from devkit.plugin import Database, PutSecret
    from devkit.servers.aws import LocalAws

LAMBDA = {
    "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001",
    "AWS_REGION": "eu-central-1",
    "AWS_ACCESS_KEY_ID": "AKID",
    "AWS_SECRET_ACCESS_KEY": "canary-secret",
    "AWS_SESSION_TOKEN": "canary-token",
}
NOW = 1_795_000_000.0
IN_A_HANDLER = Invocation(request_id="r-1", deadline=None, cold=True)
SECRET = {"username": "app", "password": "pw"}


class Answering(ThreadingHTTPServer):
    """An HTTP server on loopback that gives ``answers`` in turn, the last one over and over, and notes the requests."""

    def __init__(self, *answers: tuple[int, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = list(answers)
        self.requests: list[tuple[str, dict[str, str]]] = []


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Answering)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        server.requests.append((self.path, dict(self.headers)))
        status, body = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - the name is http.server's

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def serve() -> Iterator[Any]:
    servers: list[tuple[Answering, threading.Thread]] = []

    def start(*answers: tuple[int, bytes]) -> Answering:
        server = Answering(*answers)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        servers.append((server, thread))
        return server

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def found(text: str = json.dumps(SECRET)) -> tuple[int, bytes]:
    return 200, json.dumps({"SecretString": text, "VersionId": "v-1"}).encode()


NOT_READY = (400, b"not ready to serve traffic, please wait")


@pytest.mark.parametrize("token", [None, "a/b+c=="])
def test_a_request_is_signed_as_botocore_signs_it(token: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the same signature, at the same second."""
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "secretsmanager.GetSecretValue"}
    body = b'{"SecretId": "s"}'
    keys = Keys(access_key_id="AKID", secret_access_key="canary", session_token=token)
    signer = Signer(keys=keys, service="secretsmanager", region="eu-west-1", now=time.time())
    theirs = AWSRequest("POST", "https://secretsmanager.eu-west-1.amazonaws.com/", headers=headers, data=body)
    auth = SigV4Auth(BotocoreCredentials("AKID", "canary", token), "secretsmanager", "eu-west-1")
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(signer.now))
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: _parsed(stamp))
    auth.add_auth(theirs)
    ours = signer.headers(host="secretsmanager.eu-west-1.amazonaws.com", path="/", headers=headers, body=body)
    assert ours["Authorization"] == theirs.headers["Authorization"]


def _parsed(stamp: str) -> Any:
    import datetime as dt

    return dt.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)


def test_keys_never_print() -> None:
    """The one that names them does."""
    assert "canary" not in repr(Keys.from_env(LAMBDA))
    assert "canary" not in repr(Place.from_env(LAMBDA))


def test_every_region_is_where_botocore_has_it() -> None:
    """Or is left to botocore."""
    loader = Session().get_component("data_loader")
    known = 0
    for partition in loader.load_data("endpoints")["partitions"]:
        for region in partition["regions"]:
            place = Place.from_env(LAMBDA | {"AWS_REGION": region})
            known += place is not None
            theirs = f"https://secretsmanager.{region}.{partition['dnsSuffix']}"
            assert place is None or place.url == theirs, region
    assert known > 20


@pytest.mark.parametrize(
    "changed",
    [
        {"AWS_LAMBDA_RUNTIME_API": ""},
        {"AWS_SECRET_ACCESS_KEY": ""},
        {"AWS_REGION": "us-iso-east-1"},
        {"AWS_PROFILE": "somebody"},
        {"AWS_USE_FIPS_ENDPOINT": "true"},
        {"HTTPS_PROXY": "http://proxy"},
        {"AWS_CA_BUNDLE": "/ca.pem"},
    ],
)
def test_what_only_botocore_understands_is_left_to_it(changed: dict[str, str]) -> None:
    """And everything outside the Lambda runtime, unit tests under moto among it."""
    assert Place.from_env(LAMBDA) is not None
    assert Place.from_env(LAMBDA | changed) is None


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({"AWS_ENDPOINT_URL": "http://all:1"}, "http://all:1"),
        ({"AWS_ENDPOINT_URL": "http://all:1", "AWS_ENDPOINT_URL_SECRETS_MANAGER": "http://one:2"}, "http://one:2"),
        (
            {"AWS_ENDPOINT_URL": "http://all:1", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
            "https://secretsmanager.eu-central-1.amazonaws.com",
        ),
    ],
)
def test_a_configured_endpoint_is_used(variables: dict[str, str], url: str) -> None:
    """By the variables that every AWS SDK reads."""
    place = Place.from_env(LAMBDA | variables)
    assert place is not None
    assert place.url == url


def test_secrets_manager_answers_a_request_signed_here(local_aws: LocalAws, secret: PutSecret) -> None:
    """With text and version; and says by its code what it refuses."""
    secret("direct/app", "an older version")
    version = local_aws.put_secret("direct/app", SECRET)
    place = Place.from_env(LAMBDA | {"AWS_ENDPOINT_URL": local_aws.endpoint, "AWS_REGION": "us-east-1"})
    assert place is not None
    answer = ask_directly(place, "direct/app", "AWSCURRENT", clock=time.time)
    assert (answer.version, json.loads(answer.text or "")) == (version, SECRET)
    with pytest.raises(Refused, match="ResourceNotFoundException"):
        ask_directly(place, "direct/nowhere", "AWSCURRENT", clock=time.time)


@pytest.mark.parametrize("first", [(503, b""), (500, b'{"__type":"InternalServiceError"}')])
def test_a_failure_of_the_service_is_asked_past_once(serve: Any, first: tuple[int, bytes]) -> None:
    """As botocore's standard mode does with two attempts."""
    server = serve(first, found())
    place = Place.from_env(LAMBDA | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"})
    assert place is not None
    assert ask_directly(place, "s", "AWSCURRENT", clock=time.time).version == "v-1"
    server.answers[:] = [(503, b"")]
    with pytest.raises(Refused) as caught:
        ask_directly(place, "s", "AWSCURRENT", clock=time.time)
    assert caught.value.transient
    assert len(server.requests) == 4


def test_an_answer_that_is_none_is_no_secret(serve: Any) -> None:
    """A proxy's page of HTML, say, or a port where nobody listens."""
    server = serve((200, b"<html>"))
    environment = LAMBDA | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}
    for variables in (environment, LAMBDA | {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}):
        place = Place.from_env(variables)
        assert place is not None
        with pytest.raises(Unreachable):
            ask_directly(place, "s", "AWSCURRENT", clock=time.time)


def test_the_extension_is_known_by_its_file_or_its_port(tmp_path: Path) -> None:
    """2773 unless told otherwise."""
    absent, there = tmp_path / "absent", tmp_path / "there"
    there.touch()
    assert extension_port({}, installed=absent) is None
    assert extension_port({}, installed=there) == 2773
    assert extension_port({"PARAMETERS_SECRETS_EXTENSION_HTTP_PORT": "2774"}, installed=absent) == 2774


def test_an_extension_that_is_not_ready_is_asked_again(serve: Any) -> None:
    """With the role's token, for the secret by its whole name."""
    server = serve(NOT_READY, NOT_READY, found())
    assert ask_extension(server.server_port, "a/b:c", token="t").version == "v-1"
    path, headers = server.requests[-1]
    assert path == "/secretsmanager/get?secretId=a%2Fb%3Ac"
    assert headers["X-Aws-Parameters-Secrets-Token"] == "t"
    assert len(server.requests) == 3


@pytest.fixture
def attached(serve: Any, secret: PutSecret, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The extension with an old password, before a Secrets Manager that has the new one."""
    server = serve(found(json.dumps({"username": "app", "password": "old"})))
    monkeypatch.setenv("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", str(server.server_port))
    secret("extension/app", SECRET)
    return server


def test_the_extension_gives_the_first_copy_and_never_the_second(attached: Any) -> None:
    """Its own may be 300 s old, so after a refusal Secrets Manager itself is asked."""
    kept = SecretsManagerSource("extension/app", ttl_s=60, clock=time.time)
    with running(IN_A_HANDLER):
        first = kept.current()
        assert (first.password, kept.refresh(first).password) == ("old", "pw")
    assert len(attached.requests) == 1


def test_the_extension_is_not_asked_during_init(attached: Any) -> None:
    """It does not answer before Init has ended, which would wait for it."""
    assert SecretsManagerSource("extension/app", ttl_s=60, clock=time.time).current().password == "pw"
    assert attached.requests == []


def test_an_extension_that_fails_is_gone_past(attached: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets Manager gives the secret, or the reason why not."""
    monkeypatch.setattr(get_secret, "_NOT_READY_FOR_S", 0.0)
    for answer in (NOT_READY, (500, b"no")):
        attached.answers[:] = [answer]
        with running(IN_A_HANDLER):
            assert SecretsManagerSource("extension/app", ttl_s=60, clock=time.time).current().password == "pw"


def test_a_cold_start_in_lambda_does_without_boto3(secret: PutSecret, database: Database, local_aws: LocalAws) -> None:
    """From the import to the first row, secret and password included."""
    place = {"host": database.host, "port": database.port, "dbname": database.name}
    secret("cold/app", {**place, "username": database.app, "password": database.app_password})
    program = (
        "import json, sys, db\n"
        "from sqlalchemy import text\n"
        "with db.read() as conn: row = conn.execute(text('SELECT 42')).scalar_one()\n"
        "print(json.dumps([row, [name for name in ('boto3', 'botocore.session', 'urllib3') if name in sys.modules]]))"
    )
    # Nothing of this machine's, which may have a proxy or certificates for botocore.
    told = {"PATH": os.environ["PATH"], "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:1", "DB_SECRET_ID": "cold/app"}
    environment = local_aws.environment() | told
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment)
    assert json.loads(done.stdout.splitlines()[-1]) == [42, []]


def test_boto3_is_asked_where_moto_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing leaves the process of a user's unit test: moto replaces botocore's transport and no other."""
    monkeypatch.delenv("AWS_LAMBDA_RUNTIME_API", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setattr("http.client.HTTPConnection.connect", _no_network)
    with mock_aws():
        import boto3

        boto3.client("secretsmanager").create_secret(Name="moto/app", SecretString=json.dumps(SECRET))
        kept = SecretsManagerSource("moto/app", ttl_s=60, clock=time.time)
        assert kept.current().password == "pw"
        with pytest.raises(CredentialsError, match="there is no such secret"):
            SecretsManagerSource("moto/nowhere", ttl_s=60, clock=time.time).current()


def _no_network(*_: object) -> None:
    raise AssertionError("a unit test under mock_aws reached for the network")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b""),
        (500, b'{"__type":"InternalFailure"}'),
        (502, b"<html>Bad Gateway</html>"),
        (503, b""),
        (504, b""),
        (429, b""),
        (400, b'{"__type":"ThrottlingException"}'),
        (400, b'{"__type":"ThrottledException"}'),
        (400, b'{"__type":"TooManyRequestsException"}'),
        (400, b'{"__type":"com.amazonaws.secretsmanager#RequestLimitExceeded"}'),
        (408, b'{"__type":"RequestTimeout"}'),
    ],
)
def test_what_boto3_tries_again_is_tried_again(status: int, body: bytes, serve: Any) -> None:
    """A proxy's page and an empty answer have no code of AWS's. One more attempt, and then it may be waited for."""
    keys = Keys(access_key_id="AKID", secret_access_key="canary-secret")
    once, always = serve((status, body), found()), serve((status, body))
    for server in (once, always):
        place = Place(url=f"http://127.0.0.1:{server.server_port}", region="eu-central-1", keys=keys)
        if server is once:
            assert ask_directly(place, "s", "AWSCURRENT", clock=time.time).version == "v-1"
        else:
            with pytest.raises(Refused) as caught:
                ask_directly(place, "s", "AWSCURRENT", clock=time.time)
            assert caught.value.transient
        assert len(server.requests) == 2


@pytest.mark.parametrize("endpoint", ["localhost:4566", "https://", "http://localhost:70000", "ftp://localhost"])
@pytest.mark.parametrize("runtime", ["127.0.0.1:9001", ""], ids=["directly", "boto3"])
def test_an_endpoint_that_cannot_be_one_is_refused(
    endpoint: str, runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name and at once, whichever way the request would have gone."""
    for name, value in {**LAMBDA, "AWS_LAMBDA_RUNTIME_API": runtime, "AWS_ENDPOINT_URL": endpoint}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", raising=False)
    with pytest.raises(ConfigurationError, match="AWS_ENDPOINT_URL is no URL"):
        SecretsManagerSource("s", ttl_s=60, clock=time.time).current()
