"""Under uvicorn: concurrent requests on one loop, clients that go, and the process's end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import threading
import time
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import pytest
import uvicorn
from fastapi import Depends, FastAPI
from sqlalchemy import Connection, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import StreamingResponse

import db
import db.asgi
from db import aio
from db.timing.invocation import current_invocation
from db.transactions.open_units import open_units

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres
    from tests.asgi.conftest import Use

ONE = text("SELECT 1")
PlainConn = Annotated[Connection, Depends(db.asgi.plain_reading)]
Conn = Annotated[AsyncConnection, Depends(db.asgi.reading)]
LAST = "Connection: close\r\n"
WAIT_S = 20.0


@contextlib.contextmanager
def served(app: Any) -> Iterator[httpx.Client]:
    """A client of ``app`` under uvicorn, on a port of the machine's choice. Its end is that of the server's process."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
        thread.start()
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=WAIT_S) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


def application() -> FastAPI:
    app = FastAPI(lifespan=db.asgi.lifespan)
    app.add_middleware(db.asgi.Middleware)

    @app.get("/plain")
    def plain(conn: PlainConn) -> Any:
        return conn.scalar(ONE)

    @app.get("/async")
    async def awaited() -> Any:
        async with aio.read() as conn:
            return await conn.scalar(ONE)

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def rows() -> AsyncIterator[str]:
            async with aio.begin() as tx:
                for n in range(100_000):
                    await tx.execute(ONE)
                    yield f"{n}\n"

        return StreamingResponse(rows())

    return app


def test_the_servers_end_closes_every_connection(use: Use, database: Database, postgres: Postgres) -> None:
    """Those of db.aio on the loop that they belong to, while that still runs."""
    use()
    with served(application()) as client:
        for _ in range(2):
            assert [client.get(path).json() for path in ("/plain", "/async")] == [1, 1]
        assert db.status()["totals"]["connects"] == 2
    numbers = db.status()["totals"]
    assert (numbers["connects"], numbers["closes"]) == (2, 2)
    assert postgres.all_left(database.name, user=database.app)


def test_the_servers_end_closes_those_of_every_database(use: Use, database: Database, postgres: Postgres) -> None:
    """As it would those of an application that has two."""
    use()
    audit = db.Database(db.Settings(url=make_url(database.url()), sslmode="disable"), name="audit")
    with served(application()) as client, audit.read() as conn:
        assert (client.get("/plain").json(), conn.scalar(ONE)) == (1, 1)
    assert postgres.all_left(database.name, user=database.app)


def test_a_client_that_goes_amid_a_stream_leaves_no_transaction_open(use: Use) -> None:
    """What the generator held is rolled back, and the connection serves the next one."""
    use(async_connections=1)
    with served(application()) as client:
        with client.stream("GET", "/stream") as response:
            assert next(response.iter_lines()) == "0"
        client.close()
        until = time.monotonic() + WAIT_S
        while db.status()["engines"]["aio writer"]["checked_out"] and time.monotonic() < until:
            time.sleep(0.01)
        assert db.status()["engines"]["aio writer"]["checked_out"] == 0


def test_a_pipelined_request_has_nothing_of_the_one_before_it(use: Use) -> None:
    """uvicorn begins it in that one's context: with its tenant, its request id and its units."""
    use()
    app = FastAPI()
    app.add_middleware(db.asgi.Middleware, tenant=lambda scope: scope["path"].strip("/") or None)

    @app.get("/{path:path}")
    async def route(conn: Conn) -> Any:
        tenant = await conn.scalar(text("SELECT current_setting('app.tenant_id', true)"))
        return [tenant or None, current_invocation().request_id, len(open_units())]

    requests = "".join(f"GET /{path} HTTP/1.1\r\nHost: app\r\n{more}\r\n" for path, more in (("acme", ""), ("", LAST)))
    with served(app) as client, socket.create_connection((client.base_url.host, client.base_url.port or 0)) as line:
        line.settimeout(WAIT_S)
        line.sendall(requests.encode())
        answers = b"".join(iter(lambda: line.recv(65536), b"")).decode()
    first, second = (json.loads(body) for body in re.findall(r"^\[.*?\]", answers, re.MULTILINE))
    assert (first[0], second[0]) == ("acme", None)
    assert first[1] != second[1]
    assert (first[2], second[2]) == (1, 1)


@pytest.mark.parametrize("path", ["/plain", "/async"])
def test_requests_that_come_at_once_share_what_there_is(use: Use, path: str) -> None:
    """Over one connection each has its turn."""
    use(pool_size=1, max_overflow=0, async_connections=1)
    with served(application()) as client:
        answers: list[Any] = []
        threads = [threading.Thread(target=lambda: answers.append(client.get(path).json())) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (answers, db.status()["totals"]["connects"]) == ([1] * 8, 1)
