"""Behind the Lambda Web Adapter: a server in Lambda, whose headers say what Mangum's scope does."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import BackgroundTasks, FastAPI

import db
import db.asgi
from db import aio
from db.asgi.caller import invocation_of, request_context
from db.environment import event_loop, handler_decorator
from db.timing.invocation import current_invocation
from tests.asgi.test_middleware import ONE

if TYPE_CHECKING:
    from tests.asgi.conftest import Use

CLAIMS = {"authorizer": {"jwt": {"claims": {"tenant_id": "acme"}, "scopes": None}}}


@pytest.fixture
def in_lambda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001")


def scope_with(**headers: object) -> dict[str, Any]:
    """The scope that uvicorn makes of a request with these headers, as JSON where they are not bytes."""
    pairs = [
        (name.replace("_", "-").encode(), value if isinstance(value, bytes) else json.dumps(value).encode())
        for name, value in headers.items()
    ]
    return {"type": "http", "method": "GET", "path": "/", "query_string": b"", "root_path": "", "headers": pairs}


def told(**more: object) -> dict[str, Any]:
    # As the adapter 1.0 serializes lambda_http's Context.
    at_ms = int((time.time() + 20) * 1000)
    context = {"request_id": "8476a536", "deadline": at_ms, "invoked_function_arn": "arn:aws:lambda", "env_config": {}}
    return scope_with(x_amzn_lambda_context=context | more, x_amzn_request_context=CLAIMS)


@pytest.mark.usefixtures("in_lambda")
def test_its_headers_say_request_id_deadline_and_claims() -> None:
    """As Lambda's own context and event do."""
    now = time.time()
    invocation = invocation_of(told(), request_timeout_s=1, cold=True, now=now)
    assert invocation.request_id == "8476a536"
    assert invocation.deadline is not None
    assert 15 < invocation.deadline.left_s(now) <= 20
    assert request_context(told()) == CLAIMS


def test_outside_of_lambda_a_client_may_send_them_in_vain() -> None:
    """Anybody could name a tenant that way."""
    invocation = invocation_of(told(), request_timeout_s=None, cold=True, now=0)
    assert (invocation.request_id == "8476a536", invocation.deadline, request_context(told())) == (False, None, {})


@pytest.mark.usefixtures("in_lambda")
def test_in_mangums_scope_they_are_a_clients() -> None:
    """It hands on what was sent."""
    scope = told() | {"aws.context": None, "aws.event": {"requestContext": {"authorizer": {}}}}
    assert invocation_of(scope, request_timeout_s=None, cold=True, now=0).request_id is None
    assert request_context(scope) == {"authorizer": {}}


@pytest.mark.usefixtures("in_lambda")
@pytest.mark.parametrize(
    "scope",
    [
        scope_with(),  # the adapter's readiness check
        scope_with(x_amzn_lambda_context=b"{", x_amzn_request_context=b"\xff"),
        scope_with(x_amzn_lambda_context=[], x_amzn_request_context="acme"),
        scope_with(x_amzn_lambda_context={"request_id": 1, "deadline": "soon"}),
        {**told(), "headers": told()["headers"] * 2},
    ],
)
def test_what_is_no_such_header_is_none(scope: dict[str, Any]) -> None:
    """The request is served as any."""
    invocation = invocation_of(scope, request_timeout_s=None, cold=True, now=0)
    assert (len(invocation.request_id or ""), invocation.deadline, request_context(scope)) == (36, None, {})


@pytest.mark.usefixtures("in_lambda")
def test_the_first_event_is_cold_whatever_the_adapter_asks_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its readiness check is no invocation."""
    monkeypatch.setattr(handler_decorator, "_cold", True)
    seen: list[bool] = []

    async def app(*_: object) -> None:
        seen.append(current_invocation().cold)

    for scope in (scope_with(), scope_with(), told(), told()):
        event_loop.run(db.asgi.Middleware(app)(scope, None, None))
    assert seen == [False, False, True, False]


@pytest.mark.usefixtures("in_lambda")
def test_the_answer_is_complete_when_the_work_behind_it_is_done(use: Use, capsys: pytest.CaptureFixture[str]) -> None:
    """Lambda freezes the process then: no transaction is open, and the metrics are out."""
    use()
    app = FastAPI()
    app.add_middleware(db.asgi.Middleware)
    seen: list[Any] = []

    async def later() -> None:
        async with aio.begin() as tx:
            await tx.execute(ONE)
            seen.append(("work", current_invocation().request_id))

    @app.get("/")
    async def route(tasks: BackgroundTasks) -> str:
        tasks.add_task(later)
        return "done"

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            out = db.status()["engines"]["aio writer"]["checked_out"]
            seen.append((message["body"], out, '"Statements":[1.0]' in capsys.readouterr().out))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    event_loop.run(app(told(), receive, send))
    assert seen == [("work", "8476a536"), (b'"done"', 0, True)]


@pytest.mark.usefixtures("in_lambda")
def test_an_error_behind_the_answer_keeps_none_of_it_back(use: Use) -> None:
    """A background task fails: the client has its answer, trailers and all, and the server the error."""
    use()
    sent: list[str] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        for kind in ("start", "body", "trailers"):
            await send({"type": f"http.response.{kind}"})
        raise ValueError

    async def send(message: Any) -> None:
        sent.append(message["type"].removeprefix("http.response."))

    with pytest.raises(ValueError):  # noqa: PT011 - it has no words
        event_loop.run(db.asgi.Middleware(app)(told(), None, send))
    assert sent == ["start", "body", "trailers"]
