"""The middleware: what a request is bound to, how long its work may take, and what is settled behind it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI
from sqlalchemy import text

import db
import db.asgi
from db import aio
from db.environment import event_loop, process
from db.timing.invocation import current_invocation

if TYPE_CHECKING:
    from tests.asgi.conftest import Ask, Lines, Use

TENANT = text("SELECT current_setting('app.tenant_id', true)")
ONE = text("SELECT 1")


def fastapi(**options: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(db.asgi.Middleware, **options)
    return app


def bound() -> tuple[str | None, float | None]:
    now = current_invocation()
    return now.request_id, now.deadline.left_s(time.time()) if now.deadline else None


def test_requests_that_run_at_once_are_bound_each_to_its_own(ask: Ask) -> None:
    """In coroutines, in the framework's threads and in tasks; a thread of nobody's is bound to none."""
    app = fastapi(tenant=lambda scope: scope["path"].removeprefix("/"))
    entered = 0

    @app.get("/{name}")
    async def route(name: str) -> list[Any]:
        nonlocal entered
        entered += 1
        while entered < 3:  # all of them are under way
            await asyncio.sleep(0)
        async with aio.read() as conn:
            tenant = await conn.scalar(TENANT)
        in_task = await asyncio.create_task(aio.run(lambda tx: tx.scalar(TENANT)))
        in_thread = await asyncio.to_thread(lambda: (bound()[0], tenant_now()))
        unbound: list[Any] = []
        thread = threading.Thread(target=lambda: unbound.append(bound()))
        thread.start()
        thread.join()
        return [tenant, in_task, *in_thread, bound()[0], *unbound]

    answers = [answer.json() for answer in ask(app, "GET /a", "GET /b", "GET /c")]
    assert [answer[:2] + answer[3:4] for answer in answers] == [[name] * 3 for name in "abc"]
    assert all(answer[2] == answer[4] for answer in answers)
    assert len({answer[4] for answer in answers}) == 3
    assert [answer[5] for answer in answers] == [[None, None]] * 3


def tenant_now() -> Any:
    with db.read() as conn:
        return conn.scalar(TENANT)


def test_a_plain_route_has_scope_and_deadline(ask: Ask) -> None:
    """The framework's thread has a copy of the context."""
    app = fastapi(tenant=lambda _: "acme", request_timeout_s=20)

    @app.get("/")
    def route() -> list[Any]:
        return [tenant_now(), *bound()]

    tenant, request_id, left_s = ask(app, "GET /")[0].json()
    assert (tenant, bool(request_id), 15 < left_s <= 20) == ("acme", True, True)


def test_a_statement_ends_with_the_requests_time(ask: Ask) -> None:
    """The client is told so, and to come again."""
    app = fastapi(request_timeout_s=1.5)
    app.add_exception_handler(Exception, db.asgi.problem)

    @app.get("/")
    async def route() -> None:
        async with aio.begin() as tx:
            await tx.execute(text("SELECT pg_sleep(60)"))

    answer = ask(app, "GET /")[0]
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("order-17/retry:2", True), ("", False), ("a" * 129, False), ("x'; DROP", False), ("a\tb", False)],
)
def test_a_clients_request_id_is_kept_where_it_is_usable(ask: Ask, sent: str, kept: bool) -> None:
    """It goes into log lines and SQL comments."""
    app = fastapi()

    @app.get("/")
    async def route() -> str | None:
        return current_invocation().request_id

    told = ask(app, "GET /", headers={"x-request-id": sent})[0].json()
    assert (told == sent) is kept
    assert told


def test_an_unusable_tenant_is_the_callers_fault(ask: Ask) -> None:
    """None is no tenant, and what a header says is asked by nobody."""
    app = fastapi(tenant=lambda scope: " " if scope["path"] == "/blank" else None)

    @app.get("/none")
    async def route() -> Any:
        async with aio.read() as conn:
            return await conn.scalar(TENANT)

    blank, none = (ask(app, f"GET {path}", headers={"x-tenant": "acme"})[0] for path in ("/blank", "/none"))
    assert (blank.status_code, blank.headers["content-type"]) == (403, "application/problem+json")
    assert none.json() in {"", None}


class Awaited:
    """An object whose call is a coroutine function."""

    async def __call__(self, scope: Any) -> str:
        return str(scope["path"])


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"tenant": "acme"}, TypeError, "plain function of the scope"),
        ({"tenant": Awaited()}, TypeError, "plain function of the scope"),
        ({"request_timeout_s": 0}, ValueError, "above 0"),
        ({"request_timeout_s": float("inf")}, ValueError, "or None"),
    ],
)
def test_arguments_of_no_use_are_refused(options: dict[str, Any], error: type[Exception], said: str) -> None:
    """When the application is made."""
    with pytest.raises(error, match=said):
        db.asgi.Middleware(FastAPI(), **options)


def test_what_is_no_request_goes_through_untouched(ask: Ask) -> None:
    """A WebSocket lasts for as long as both sides like, and no deadline bounds it."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["type"], send, current_invocation().request_id))

    async def send(_message: Any) -> None: ...

    for kind in ("websocket", "lifespan"):
        event_loop.run(db.asgi.Middleware(app)({"type": kind}, None, send))
    assert seen == [("websocket", send, None), ("lifespan", send, None)]


def test_what_begins_in_a_requests_context_has_none_of_its_units(use: Use) -> None:
    """A server may begin a WebSocket there, as it does a request."""
    given: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with contextlib.asynccontextmanager(db.asgi.reading)() as conn:
            given.append(conn)
            if scope["type"] == "http":
                await served({"type": "websocket"}, receive, send)

    use()
    served = db.asgi.Middleware(app)
    event_loop.run(served({"type": "http"}, None, None))
    assert len(set(map(id, given))) == 2


def told_by_metrics(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines() if '"CloudWatchMetrics"' in line]


def test_each_statement_is_told_once_by_requests_that_run_at_once(
    ask: Ask, capsys: pytest.CaptureFixture[str], lines: Lines
) -> None:
    """Their reports add up, and what another one has checked out is no leak."""
    app = fastapi()

    @app.get("/{n}")
    async def route(n: int) -> None:
        async with aio.read() as conn:
            await conn.execute(text(f"SELECT pg_sleep({n / 50})"))

    ask(app, *(f"GET /{n}" for n in range(4)))
    told = told_by_metrics(capsys.readouterr().out)
    assert (len(told), sum(one["Statements"][0] for one in told)) == (4, 4)
    assert lines.of("leak") == []


def test_a_connection_that_a_request_left_is_warned_of(ask: Ask, lines: Lines) -> None:
    """Once nobody else is served."""
    app = fastapi()
    kept: list[Any] = []

    @app.get("/")
    def route() -> None:
        kept.append(db.engine().connect())

    ask(app, "GET /")
    assert [line["checked_out"] for line in lines.of("leak")] == [1]
    kept.pop().close()


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_a_crowded_database_has_its_connections_back_after_each_request(ask: Ask, use: Use, driver: str) -> None:
    """Those of db.aio, too, which are closed on their loop."""
    use(async_driver=driver)
    app = fastapi()

    @app.get("/")
    async def route() -> None:
        async with aio.read() as conn:
            await conn.execute(ONE)
        with db.read() as plain:
            plain.execute(ONE)
        process.current()._crowding.refused()

    assert ask(app, "GET /")[0].status_code == 200
    assert (db.status()["totals"]["connects"], db.status()["totals"]["closes"]) == (2, 2)


def test_background_tasks_belong_to_their_request(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    """They have its tenant and deadline, and its metrics have what they did."""
    app = fastapi(tenant=lambda _: "acme", request_timeout_s=30)
    seen: list[Any] = []

    async def later() -> None:
        async with aio.begin() as tx:
            seen.append((await tx.scalar(TENANT), bound()[1] is not None))

    @app.get("/")
    async def route(tasks: BackgroundTasks) -> None:
        tasks.add_task(later)

    assert ask(app, "GET /")[0].status_code == 200
    assert seen == [("acme", True)]
    assert [one["Statements"] for one in told_by_metrics(capsys.readouterr().out)] == [[1.0]]


def test_an_invocation_that_is_bound_stays(ask: Ask) -> None:
    """That of @db.invocation around the server's call; the tenant is added."""
    app = fastapi(tenant=lambda _: "acme")

    @app.get("/")
    async def route() -> list[Any]:
        return [bound()[0], tenant_now()]

    @db.invocation
    async def handler(_event: Any, _context: Any) -> Any:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
            return (await client.get("/", headers={"x-request-id": "client's"})).json()

    class Context:
        aws_request_id = "lambda's"

    assert handler({}, Context()) == ["lambda's", "acme"]
