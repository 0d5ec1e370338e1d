"""Secrets read, and tokens signed, without a network."""

import contextvars
import datetime as dt
import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import boto3
import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError
from moto import mock_aws

from db.credentials import get_secret, secrets_manager
from db.credentials.dsql_iam import DsqlSource
from db.credentials.rds_iam import RdsIamSource
from db.credentials.secret_shapes import parse_secret
from db.credentials.secrets_manager import SecretsManagerSource
from db.credentials.source import Credentials, no_debug_lines
from db.errors import CredentialsError
from db.settings import Settings
from db.timing.invocation import Invocation, running

CANARY = "s3cr3t-canary"
FULL = {
    "engine": "postgres",
    "host": "db.example.com",
    "port": 5433,
    "username": "app",
    "password": CANARY,
    "dbname": "orders",
}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Credentials that are no one's, and Secrets Manager in this process."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", raising=False)
    with mock_aws():
        yield


def put(value: object) -> str:
    client, text = boto3.client("secretsmanager"), value if isinstance(value, str) else json.dumps(value)
    names = [secret["Name"] for secret in client.list_secrets()["SecretList"]]
    if "orders/app" in names:
        return client.put_secret_value(SecretId="orders/app", SecretString=text)["VersionId"]
    return client.create_secret(Name="orders/app", SecretString=text)["VersionId"]


def stage(value: object) -> None:
    """A version that a rotation is about to make current."""
    boto3.client("secretsmanager").put_secret_value(
        SecretId="orders/app", SecretString=json.dumps(value), VersionStages=["AWSPENDING"]
    )


def source(clock: Clock, ttl_s: float = 60) -> SecretsManagerSource:
    return SecretsManagerSource("orders/app", ttl_s=ttl_s, clock=clock)


def test_the_rotation_templates_shape_is_read(clock: Clock) -> None:
    """User, password, place, and the version that they are of."""
    version = put(FULL)
    assert source(clock).current() == Credentials(
        username="app",
        password=CANARY,
        host="db.example.com",
        port=5433,
        database="orders",
        version=version,
        fetched_at=1000.0,
    )


def test_the_shape_that_rds_manages_is_read(clock: Clock) -> None:
    """Only username and password; the settings have to name the place."""
    put({"username": "master", "password": CANARY})
    found = source(clock).current()
    assert (found.username, found.host, found.port, found.database) == ("master", None, None, None)


def test_a_user_that_is_named_elsewhere_completes_the_secret(clock: Clock) -> None:
    """DB_USER stands in for the key."""
    put({"password": CANARY})
    named = SecretsManagerSource("orders/app", ttl_s=60, clock=clock, username="app")
    assert named.current().username == "app"


def test_a_secret_is_kept_for_its_ttl_by_wall_clock(clock: Clock) -> None:
    """A freeze counts, since the clock on the wall does not stop for it."""
    first, kept = put(FULL), source(clock, ttl_s=60)
    assert kept.current().version == first
    second = put(FULL | {"password": "new"})
    clock.now += 59
    assert kept.current().version == first
    clock.now += 1
    assert kept.current().version == second


def test_a_clock_that_was_ahead_keeps_no_copy_for_hours(clock: Clock) -> None:
    """Set right, it is no longer known how old the copy is."""
    put(FULL)
    kept = source(clock, ttl_s=60)
    first = kept.current()
    clock.now -= 3 * 3600
    assert kept.current() is not first


def test_a_refresh_goes_past_the_cache(clock: Clock) -> None:
    """The server refused the password, so the copy is worth nothing."""
    put(FULL)
    kept = source(clock)
    old = kept.current()
    second = put(FULL | {"password": "new"})
    assert kept.refresh(old).version == second
    assert kept.current().version == second


def test_the_old_copy_serves_while_secrets_manager_is_out_of_reach(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password that worked an hour ago most likely works."""
    put(FULL)
    kept = source(clock)
    old = kept.current()
    clock.now += 3600

    def out_of_reach(**_: object) -> None:
        raise ConnectTimeoutError(endpoint_url="https://secretsmanager")

    monkeypatch.setattr(kept._client, "get_secret_value", out_of_reach)
    assert kept.current() == old
    with pytest.raises(CredentialsError, match="interface endpoint") as caught:
        kept.refresh(old)
    assert caught.value.transient


@pytest.mark.parametrize("code", ["AccessDeniedException", "ThrottlingException", "ResourceNotFoundException"])
def test_the_old_copy_serves_while_a_newer_one_is_refused(
    code: str, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A policy that somebody broke must not end what works; it is said, and asked for again a minute later."""
    put(FULL)
    kept = source(clock)
    old = kept.current()
    clock.now += 3600
    asked: list[float] = []

    def refuse(**_: object) -> None:
        asked.append(clock.now)
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, "GetSecretValue")

    monkeypatch.setattr(kept._client, "get_secret_value", refuse)
    for _ in range(3):
        assert kept.current() is old
    clock.now += 61
    assert kept.current() is old
    assert len(asked) == 2
    warned = [r for r in caplog.records if r.getMessage() == "an old copy of the secret serves"]
    assert len(warned) == 2
    with pytest.raises(CredentialsError, match=code):
        kept.refresh(old)


def test_what_a_rotation_has_staged_can_be_asked_for(clock: Clock) -> None:
    """AWSPENDING, while there is one."""
    put(FULL)
    kept = source(clock)
    assert kept.staged() is None
    stage(FULL | {"password": "staged"})
    assert kept.refresh(kept.current()).password == CANARY
    staged = kept.staged()
    assert staged is not None
    assert staged.password == "staged"


def test_what_is_forgotten_is_asked_for_again(clock: Clock) -> None:
    """Before a snapshot, above all."""
    put(FULL)
    kept = source(clock)
    kept.current()
    second = put(FULL | {"password": "new"})
    kept.forget()
    assert kept.current().version == second


def test_a_missing_secret_is_named(clock: Clock) -> None:
    """With what to do about it."""
    with pytest.raises(CredentialsError, match="'orders/app': there is no such secret") as caught:
        source(clock).current()
    assert not caught.value.transient


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not a JSON object"),
        (f"password={CANARY}", "not a JSON object"),
        (f'["{CANARY}"]', "not a JSON object"),
        (json.dumps({"password": CANARY}), "key 'username'"),
        (json.dumps({"username": CANARY, "password": ""}), "key 'password'"),
        (json.dumps({"username": "u", "password": [CANARY]}), "key 'password'"),
        (json.dumps(FULL | {"port": CANARY}), "key 'port'"),
        (json.dumps(FULL | {"engine": "mysql"}), "key 'engine'"),
        (json.dumps(FULL | {"host": 123}), "key 'host'"),
        (json.dumps(FULL | {"dbname": ["orders"]}), "key 'dbname'"),
        (json.dumps(FULL | {"port": 0}), "key 'port'"),
        (json.dumps(FULL | {"port": True}), "key 'port'"),
        (json.dumps(FULL | {"port": 5432.5}), "key 'port'"),
        (json.dumps({"username": "u", "passwort": CANARY}), "key 'password' is missing, empty, or not a string: is it"),
        (json.dumps({"username": "u", "pass": CANARY, "pwd": "other"}), "keys 'pass' and 'pwd' both stand for"),
        (f"postgresql://u:{CANARY}@h/d", "it looks like a URL"),
        (json.dumps({"DATABASE_URL": f"postgresql://u:{CANARY}@h/d"}), "'DATABASE_URL' belongs into keys of its own"),
    ],
)
def test_a_malformed_secret_is_told_by_name_and_key(text: str, complaint: str) -> None:
    """The value shows neither in the message nor in what is chained to it."""
    with pytest.raises(CredentialsError) as caught:
        parse_secret("orders/app", text, version=None, fetched_at=0.0)
    assert "'orders/app'" in str(caught.value)
    assert complaint in str(caught.value)
    assert CANARY not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "keys",
    [
        {"user": "app", "database": "orders", "hostname": "db.example.com"},
        {"userName": "app", "dbName": "orders", "Host": " db.example.com "},
        {"USERNAME": "app", "DB_NAME": "orders", "endpoint": "db.example.com"},
        {"db-user": "app", "database name": "orders", "dbHost": "db.example.com"},
        {"username": "app", "user": "other", "dbname": "orders", "database": "other", "host": "db.example.com"},
        {"user": "app", "db_user": "app", "username": "", "dbname": None, "db": "orders", "server": "db.example.com"},
    ],
)
def test_keys_of_one_meaning_are_taken(keys: dict[str, Any]) -> None:
    """Secrets that were not made by RDS spell them in many ways; where RDS's own key is there, it is that one."""
    found = parse_secret("s", json.dumps(keys | {"Password": CANARY}), version=None, fetched_at=0.0)
    assert (found.username, found.password) == ("app", CANARY)
    assert (found.host, found.database) == ("db.example.com", "orders")


@pytest.mark.parametrize("port", [5433, "5433", 5433.0, "5433.0", " 5433 "])
def test_a_port_is_a_number_however_it_is_written(port: object) -> None:
    """Terraform makes it a text, and some exports a float."""
    assert parse_secret("s", json.dumps(FULL | {"port": port}), version=None, fetched_at=0.0).port == 5433


@pytest.mark.parametrize("engine", ["postgres", "PostgreSQL", "aurora-postgresql", "POSTGRES", "", None])
def test_the_engine_is_postgresql_however_it_is_written(engine: object) -> None:
    """As the console, CloudFormation and people call it."""
    assert parse_secret("s", json.dumps(FULL | {"engine": engine}), version=None, fetched_at=0.0).username == "app"


@pytest.mark.parametrize("text", [json.dumps(json.dumps(FULL)), "\ufeff" + json.dumps(FULL)])
def test_an_object_that_was_encoded_twice_or_marked_is_read(text: str) -> None:
    """As ``jsonencode`` of a text, and an editor on Windows, leave it."""
    assert parse_secret("s", text, version=None, fetched_at=0.0).password == CANARY


@pytest.mark.parametrize("stored", [json.dumps(FULL).encode(), b"\xff\xfe"])
def test_a_secret_that_was_stored_as_bytes_is_read(clock: Clock, stored: bytes) -> None:
    """As ``--secret-binary`` does it; bytes that are no text are no JSON object either."""
    boto3.client("secretsmanager").create_secret(Name="orders/app", SecretBinary=stored)
    if stored.startswith(b"{"):
        assert source(clock).current().password == CANARY
    else:
        with pytest.raises(CredentialsError, match="not a JSON object"):
            source(clock).current()


def test_credentials_print_without_the_password(clock: Clock) -> None:
    """Neither repr nor str nor a format of them."""
    put(FULL)
    found = source(clock).current()
    assert CANARY not in f"{found!r} {found!s} {found}"


IAM = Settings(auth="iam", host="db.example.com", name="orders", user="app")


@pytest.mark.parametrize("session_token", [None, "t/o+k=n"])
def test_a_token_is_what_boto3_would_sign(session_token: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signed without the service client, to the same signature in the same second."""
    if session_token is None:
        monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    else:
        monkeypatch.setenv("AWS_SESSION_TOKEN", session_token)
    client, tokens = boto3.client("rds"), RdsIamSource(IAM, "db.example.com", clock=time.time)
    for _ in range(3):  # a second may pass between the two, though not thrice
        theirs = client.generate_db_auth_token("db.example.com", 5432, "app")
        ours = tokens.refresh(tokens.current()).password
        if parse_qs(ours)["X-Amz-Date"] == parse_qs(theirs)["X-Amz-Date"]:
            break
    assert ours.partition("?")[0] == theirs.partition("?")[0]
    assert parse_qs(ours) == parse_qs(theirs)


def test_no_debug_line_holds_the_secret_or_the_token(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """botocore logs bodies and signatures at DEBUG, which a function's log level may well be."""
    caplog.set_level(logging.DEBUG)
    put(FULL)
    caplog.clear()
    source(clock).current()
    token = RdsIamSource(IAM, "db.example.com", clock=clock).current().password
    (signature,) = parse_qs(token)["X-Amz-Signature"]
    logging.getLogger("botocore").debug("afterwards")
    assert CANARY not in caplog.text
    assert signature not in caplog.text
    assert "afterwards" in caplog.text


def test_debug_lines_of_everybody_else_are_written(caplog: pytest.LogCaptureFixture) -> None:
    """A request may hang for long: the function's own lines, and another thread's of botocore's, are none of it."""
    caplog.set_level(logging.DEBUG)

    def elsewhere() -> None:
        logging.getLogger("botocore.parsers").debug("another thread's")

    with no_debug_lines():
        logging.getLogger("botocore.parsers").debug("ours")
        logging.getLogger("function").debug("the function's")
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join(5)
    assert [record.message for record in caplog.records] == ["the function's", "another thread's"]


class Gate:
    """Answers a request for a secret when it is opened, and counts those that came."""

    def __init__(self) -> None:
        self.asked, self.opened, self.came = 0, threading.Event(), threading.Event()

    def __call__(self, *_: object, **__: object) -> get_secret.Answer:
        self.asked += 1
        self.came.set()
        assert self.opened.wait(5)
        return get_secret.Answer(json.dumps(FULL), "1")


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate = Gate()
    monkeypatch.setattr(secrets_manager, "ask_boto3", gate)
    return gate


def in_threads(count: int, work: Callable[[], object]) -> list[threading.Thread]:
    threads = [threading.Thread(target=contextvars.copy_context().run, args=(work,)) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_one_asks_at_a_cold_start_however_many_want_it(clock: Clock, gate: Gate) -> None:
    """The others wait for what it gets."""
    kept = source(clock)
    got: list[Credentials] = []
    threads = in_threads(8, lambda: got.append(kept.current()))
    assert gate.came.wait(5)
    gate.opened.set()
    for thread in threads:
        thread.join(5)
    assert len(got) == 8
    assert gate.asked == 1


def test_who_is_left_over_from_another_invocation_is_not_waited_for(clock: Clock, gate: Gate) -> None:
    """Its request may never be answered, and holds nothing up."""
    kept = source(clock)
    with running(Invocation(request_id="1", deadline=None, cold=True)):
        first = in_threads(1, kept.current)
        assert gate.came.wait(5)
    gate.came.clear()
    with running(Invocation(request_id="2", deadline=None, cold=False)):
        second = in_threads(1, kept.current)
        assert gate.came.wait(5)
    gate.opened.set()
    for thread in first + second:
        thread.join(5)
    assert gate.asked == 2


def test_what_the_one_is_refused_all_are(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has an error of its own to raise."""
    entered = threading.Event()

    def refuse(*_: object, **__: object) -> get_secret.Answer:
        assert entered.wait(5)
        raise get_secret.Refused("AccessDeniedException")

    monkeypatch.setattr(secrets_manager, "ask_boto3", refuse)
    kept, errors = source(clock), list[BaseException]()

    def want() -> None:
        with pytest.raises(CredentialsError, match="lacks secretsmanager:GetSecretValue") as caught:
            kept.current()
        errors.append(caught.value)

    threads = in_threads(3, want)
    entered.set()
    for thread in threads:
        thread.join(5)
    assert len({id(error) for error in errors}) == 3


def test_a_token_is_used_for_fourteen_minutes(clock: Clock) -> None:
    """It lives for fifteen; signing one for each connect would throttle nothing but cost CPU."""
    tokens = RdsIamSource(IAM, "db.example.com", clock=clock)
    first = tokens.current()
    clock.now += 14 * 60 - 1
    assert tokens.current() is first
    clock.now += 1
    assert tokens.current() is not first


def test_a_token_does_not_outlive_the_keys_that_signed_it(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other keys in the environment, or an expiry that has come, make a new one."""
    tokens = RdsIamSource(IAM, "db.example.com", clock=clock)
    first = tokens.current()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "rotated")
    second = tokens.current()
    assert "rotated" in second.password
    assert "rotated" not in first.password
    assert tokens.current() is second
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "1970-01-01T00:17:00+00:00")  # 20 s ahead: within the margin
    assert tokens.current() is not second


def test_keys_that_only_botocore_finds_sign_as_well(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A profile here; the role of a container after a snapshot."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    keys = tmp_path / "credentials"
    keys.write_text("[default]\naws_access_key_id = filed\naws_secret_access_key = filed\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(keys))
    tokens = RdsIamSource(IAM, "db.example.com", clock=clock)
    token = tokens.current()
    assert "X-Amz-Credential=filed" in token.password
    assert tokens.current() is token


CLUSTER = "abc0defghijk1lmnopqrstuvw2.dsql.us-east-2.on.aws"


@pytest.mark.parametrize("token", ["", "session+token/="])
@pytest.mark.parametrize("user", ["app", "admin"])
def test_a_token_for_dsql_is_what_boto3_makes(
    user: str, token: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a cluster in another region than the function's; the administrator's right is another one."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    client = boto3.client("dsql", region_name="us-east-2")
    sign = client.generate_db_connect_admin_auth_token if user == "admin" else client.generate_db_connect_auth_token
    theirs = _parts(sign(CLUSTER))
    signed_at = dt.datetime.strptime(theirs[1]["X-Amz-Date"][0], "%Y%m%dT%H%M%S%z")
    clock.now = signed_at.timestamp()
    made = DsqlSource(Settings(auth="dsql", host=CLUSTER, user=user), CLUSTER, clock=clock).current()
    assert _parts(made.password) == theirs
    assert (made.username, made.host, made.port, made.database) == (user, CLUSTER, 5432, "postgres")


def _parts(token: str) -> tuple[str, dict[str, list[str]]]:
    """boto3 gives the query in another order than the one that is signed."""
    place, _, query = token.partition("?")
    return place, parse_qs(query, strict_parsing=True)


def test_a_process_without_a_region_cannot_sign(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says what is missing."""
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(CredentialsError, match="no AWS region"):
        RdsIamSource(IAM, "db.example.com", clock=clock).current()


@pytest.mark.parametrize("of", [source, lambda clock: RdsIamSource(IAM, "db.example.com", clock=clock)])
def test_boto3_that_is_missing_is_named_with_who_brings_it(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, of: Callable[[Clock], Any]
) -> None:
    """On a laptop it comes with an extra, and a bare ModuleNotFoundError would not say with which."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for module in ("boto3", "botocore.session"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        CredentialsError, match=r"take boto3.*Lambda's runtime brings it.*serverless-data-access\[aws\]"
    ):
        of(clock).current()
