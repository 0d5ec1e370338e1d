"""The routes of an application over HTTP, in the real Lambda runtime."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from devkit.app.errors import ProjectError
from devkit.app.project import Project
from devkit.app.serve import Front, ReloadedFunction

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEMPLATE = """
Resources:
  Api: { Type: AWS::Serverless::HttpApi, Properties: { Auth: { DefaultAuthorizer: Tokens } } }
  Say:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: app.handler
      CodeUri: src/
      Timeout: 3
      Events:
        Say: { Type: HttpApi, Properties: { ApiId: !Ref Api, Method: ANY, Path: "/say/{word}" } }
        Open: { Type: HttpApi, Properties: { ApiId: !Ref Api, Method: GET, Path: /open, Auth: { Authorizer: NONE } } }
"""
HANDLER = """
import os

def handler(event, context):
    word = event.get("pathParameters", {}).get("word")
    if word == "nothing":
        raise ValueError("nothing to say")
    claims = event.get("requestContext", {}).get("authorizer", {}).get("jwt", {}).get("claims")
    return {"says": "hello", "word": word, "claims": claims, "pid": os.getpid(), "event": event.get("detail")}
"""


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: Any


def ask(url: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
    request = urllib.request.Request(  # noqa: S310 - this machine's
        url, body, {name.replace("_", "-"): v for name, v in headers.items()}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - likewise
            return Answer(response.status, dict(response.headers), json.load(response))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, dict(error.headers), json.load(error))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("application")
    (root / "template.yaml").write_text(TEMPLATE)
    (root / "src").mkdir()
    (root / "src" / "app.py").write_text(HANDLER)
    return root


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    project = Project.at(folder)
    with contextlib.ExitStack() as running:
        functions = {
            name: running.enter_context(ReloadedFunction(function, function.environment))
            for name, function in project.functions().items()
        }
        front = running.enter_context(Front(project, functions, port=0))
        thread = threading.Thread(target=front.serve_forever, args=(0.05,))
        thread.start()
        yield front.url
        front.shutdown()
        thread.join()


def test_a_function_is_told_who_calls(url: str) -> None:
    """By a header, as no authorizer is here."""
    answer = ask(f"{url}/say/it", x_claims="tenant_id=acme")
    assert (answer.status, answer.body["word"], answer.body["claims"]) == (200, "it", {"tenant_id": "acme"})


def test_nobody_is_told_apart_from_somebody(url: str) -> None:
    """A route with an authorizer asks for claims, one without gives none."""
    assert ask(f"{url}/say/it").status == 401
    assert ask(f"{url}/say/it", x_claims="acme").status == 400
    assert ask(f"{url}/open", x_claims="tenant_id=acme").body["claims"] is None
    assert ask(f"{url}/elsewhere").status == 404


def test_a_failure_is_the_gateways(url: str) -> None:
    """The caller does not see what the function raised."""
    answer = ask(f"{url}/say/nothing", x_claims="tenant_id=acme")
    assert (answer.status, answer.body) == (500, {"message": "Internal Server Error"})


def test_a_function_takes_any_event(url: str) -> None:
    """At the address of Lambda's own API."""
    invoke = f"{url}/2015-03-31/functions/{{}}/invocations".format
    answer = ask(invoke("Say"), "POST", json.dumps({"detail": 17}).encode())
    assert (answer.status, answer.body["event"]) == (200, 17)
    failed = ask(invoke("Say"), "POST", json.dumps({"pathParameters": {"word": "nothing"}}).encode())
    assert (failed.headers["x-amz-function-error"], failed.body["errorType"]) == ("Unhandled", "ValueError")
    assert ask(invoke("Nobody"), "POST", b"{}").status == 404
    assert ask(invoke("Say"), "POST", b"{").status == 400


def test_changed_code_is_what_answers_next(url: str, folder: Path) -> None:
    """In a new process; without a change it stays the same one."""
    before = [ask(f"{url}/open").body for _ in range(2)]
    (folder / "src" / "app.py").write_text(HANDLER.replace("hello", "good morning"))
    after = ask(f"{url}/open").body
    assert [one["says"] for one in (*before, after)] == ["hello", "hello", "good morning"]
    assert before[0]["pid"] == before[1]["pid"] != after["pid"]


def test_a_port_that_is_taken_is_a_sentence(url: str, folder: Path) -> None:
    """As of a second server, with the option that names another port."""
    port = int(url.rpartition(":")[2])
    with pytest.raises(ProjectError, match=rf"127\.0\.0\.1:{port}: Address already in use; --port"):
        Front(Project.at(folder), {}, port=port)


def test_a_number_that_is_no_port_is_a_sentence(folder: Path) -> None:
    """With what a port is."""
    with pytest.raises(ProjectError, match=r"127\.0\.0\.1:99999: .*0-65535.*; --port"):
        Front(Project.at(folder), {}, port=99999)


@pytest.mark.slow
@pytest.mark.usefixtures("ctrl_c")  # what is started where SIGINT is ignored ignores it as well
def test_the_example_is_served() -> None:
    """Migrated first, with the database behind it, until it is interrupted."""
    command = [sys.executable, "-m", "devkit", "serve", "--root", str(Project.find().root), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as serving:
        try:
            assert serving.stdout is not None
            said = serving.stdout.readline()
            (where,) = re.findall(r"http://\S+", said)
            order = {
                "customer": "c-1",
                "currency": "EUR",
                "lines": [{"sku": "A", "quantity": 1, "unit_price_minor": 5}],
            }
            made = ask(f"{where}/orders", "POST", json.dumps(order).encode(), x_claims="tenant_id=acme")
            assert made.status == 201
            assert ask(f"{where}/orders/{made.body['id']}", x_claims="tenant_id=acme").status == 200
            assert ask(f"{where}/orders/{made.body['id']}", x_claims="tenant_id=globex").status == 404
            assert ask(f"{where}/health").status == 200
            serving.send_signal(signal.SIGINT)
            assert serving.wait(30) == 0
        finally:
            serving.terminate()
