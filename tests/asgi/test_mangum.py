"""Under Mangum, in Lambda's own process: one loop, one connection, whatever brings the event."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import BackgroundTasks, FastAPI
from mangum import Mangum
from sqlalchemy import text

import db
import db.asgi
from db import aio
from db.environment import event_loop
from db.timing.invocation import current_invocation

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.plugin import LambdaContext, MakeLambdaContext
    from tests.asgi.conftest import Use

PID = text("SELECT pg_backend_pid()")

HTTP = {"sourceIp": "192.0.2.1", "userAgent": "test", "protocol": "HTTP/1.1", "method": "GET"}
CLAIMS = {"tenant_id": "acme"}


@pytest.fixture
def context(lambda_context: MakeLambdaContext) -> LambdaContext:
    return lambda_context()


def api_v2(path: str) -> dict[str, Any]:
    authorizer = {"jwt": {"claims": CLAIMS, "scopes": None}}
    context = {"http": HTTP | {"path": path}, "authorizer": authorizer, "stage": "$default"}
    return {"version": "2.0", "rawPath": path, "rawQueryString": "", "headers": {}, "requestContext": context}


def api_v1(path: str) -> dict[str, Any]:
    context = {"identity": {"sourceIp": "192.0.2.1"}, "authorizer": {"claims": CLAIMS}}
    return {
        "resource": path,
        "path": path,
        "httpMethod": "GET",
        "headers": {},
        "multiValueHeaders": {},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "requestContext": context,
        "body": None,
        "isBase64Encoded": False,
    }


def load_balancer(path: str) -> dict[str, Any]:
    return {
        "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:…"}},
        "httpMethod": "GET",
        "path": path,
        "queryStringParameters": {},
        "headers": {"host": "example.com"},
        "body": "",
        "isBase64Encoded": False,
    }


def function_url(path: str) -> dict[str, Any]:
    event = api_v2(path)
    event["requestContext"]["authorizer"] = {"iam": {"userArn": "arn:aws:iam::111122223333:user/acme"}}
    return event


def claimed(scope: Any) -> str | None:
    """The tenant that an authorizer of either kind of API has verified."""
    authorizer = db.asgi.request_context(scope).get("authorizer", {})
    claims = authorizer.get("jwt", authorizer).get("claims", {})
    tenant: str | None = claims.get("tenant_id")
    return tenant


def application(**options: Any) -> FastAPI:
    app = FastAPI(lifespan=db.asgi.lifespan)
    app.add_middleware(db.asgi.Middleware, tenant=claimed, **options)

    @app.get("/plain")
    def plain() -> Any:
        with db.read() as conn:
            return facts() | {
                "pid": conn.scalar(PID),
                "tenant": conn.scalar(text("SELECT current_setting('app.tenant_id', true)")),
            }

    @app.get("/async")
    async def awaited() -> Any:
        async with aio.read() as conn:
            tenant = await conn.scalar(text("SELECT current_setting('app.tenant_id', true)"))
            return facts() | {"pid": await conn.scalar(PID), "tenant": tenant}

    @app.get("/fails")
    async def fails() -> None:
        async with aio.begin() as tx:
            await tx.execute(PID)
            raise ValueError

    return app


def facts() -> dict[str, Any]:
    now = current_invocation()
    return {"request_id": now.request_id, "cold": now.cold, "has_deadline": now.deadline is not None}


@pytest.mark.parametrize("lifespan", ["off", "auto", "on"])
@pytest.mark.parametrize("path", ["/plain", "/async"])
def test_three_invocations_connect_once(use: Use, context: LambdaContext, lifespan: str, path: str) -> None:
    """Though the lifespan ends with each of them, where it is on."""
    use()
    handler = db.asgi.lambda_handler(application(), lifespan=lifespan)
    answers = [json.loads(handler(api_v2(path), context)["body"]) for _ in range(3)]
    assert len({answer["pid"] for answer in answers}) == 1
    assert [answer["request_id"] for answer in answers] == [context.aws_request_id] * 3
    assert all(answer["has_deadline"] for answer in answers)
    assert db.status()["totals"]["connects"] == 1


@pytest.mark.parametrize("event", [api_v2, api_v1], ids=lambda event: event.__name__)
def test_a_problem_is_answered_as_text(use: Use, context: LambdaContext, event: Callable[[str], Any]) -> None:
    """And not in base64, which a REST API would hand on to its caller as it is."""
    use()
    app = FastAPI()
    app.add_exception_handler(ZeroDivisionError, db.asgi.problem)

    @app.get("/")
    async def fails() -> float:
        return 1 / 0

    answer = db.asgi.lambda_handler(app, lifespan="off")(event("/"), context)
    assert (json.loads(answer["body"])["status"], answer["isBase64Encoded"]) == (500, False)


@pytest.mark.parametrize(
    ("event", "tenant"),
    [(api_v2, "acme"), (api_v1, "acme"), (load_balancer, None), (function_url, None)],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_each_kind_of_event_brings_its_claims(
    use: Use, context: LambdaContext, event: Callable[[str], dict[str, Any]], tenant: str | None
) -> None:
    """Where its authorizer has some."""
    use()
    handler = db.asgi.lambda_handler(application(), lifespan="off")
    answer = json.loads(handler(event("/async"), context)["body"])
    assert (answer["tenant"] or None, answer["has_deadline"]) == (tenant, True)


def test_mangum_alone_is_an_invocation_by_the_middleware(use: Use, context: LambdaContext) -> None:
    """Request id and deadline are those of the scope; and its loop is kept, too."""
    use()
    with event_loop.at_hand():
        handler: Any = Mangum(application(), lifespan="off")
        answers = [json.loads(handler(api_v2("/async"), context)["body"]) for _ in range(2)]
    assert {answer["request_id"] for answer in answers} == {context.aws_request_id}
    assert db.status()["totals"]["connects"] == 1


def test_a_route_that_raises_is_a_500_and_the_next_one_is_served(use: Use, context: LambdaContext) -> None:
    """Over the same connection."""
    use()
    handler = db.asgi.lambda_handler(application(), lifespan="off")
    assert handler(api_v2("/fails"), context)["statusCode"] == 500
    assert handler(api_v2("/async"), context)["statusCode"] == 200
    assert db.status()["totals"]["connects"] == 1


def test_background_tasks_are_over_when_the_handler_returns(use: Use, context: LambdaContext) -> None:
    """Before Lambda freezes the process."""
    use()
    app, done = application(), []

    async def later() -> None:
        async with aio.begin() as tx:
            await tx.execute(PID)
            done.append(current_invocation().request_id)

    @app.get("/later")
    async def route(tasks: BackgroundTasks) -> None:
        tasks.add_task(later)

    assert db.asgi.lambda_handler(app, lifespan="off")(api_v2("/later"), context)["statusCode"] == 200
    assert done == [context.aws_request_id]
    assert db.status()["engines"]["aio writer"]["checked_out"] == 0


def test_an_alarm_amid_a_request_leaves_no_connection_out(use: Use, context: LambdaContext) -> None:
    """What a signal's handler raises leaves the loop at once; the request is cancelled, and seen to its end."""
    use()

    class AlarmError(Exception):
        pass

    def alarm(*_: Any) -> None:
        raise AlarmError

    app = application()

    @app.get("/slow")
    async def slow() -> None:
        async with aio.begin() as tx:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            await tx.execute(text("SELECT pg_sleep(30)"))

    handler = db.asgi.lambda_handler(app, lifespan="off")
    before = signal.signal(signal.SIGALRM, alarm)
    try:
        with pytest.raises(AlarmError):
            handler(api_v2("/slow"), context)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert db.status()["engines"]["aio writer"]["checked_out"] == 0
    assert handler(api_v2("/async"), context)["statusCode"] == 200
