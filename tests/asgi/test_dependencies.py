"""Dependencies of FastAPI and Litestar: units that end before the answer, and never wait for themselves."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from fastapi import Depends, FastAPI, HTTPException
from litestar import Litestar, get
from litestar.di import NamedDependency, Provide
from sqlalchemy import Connection, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session  # noqa: TC002 - FastAPI reads the annotations
from starlette.responses import PlainTextResponse, StreamingResponse

import db
import db.asgi
from db import aio
from db.environment import event_loop
from tests.postgres.fix_once import effects

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from devkit.plugin import Database
    from tests.asgi.conftest import Ask, Use

__all__ = ["effects"]  # a fixture

pytestmark = pytest.mark.usefixtures("ledger")

INSERT = text("INSERT INTO ledger (n) VALUES (:n)")
COUNT = text("SELECT count(*) FROM ledger")
NOTE = text("INSERT INTO effects (note) VALUES (gen_random_uuid())")
TENANT = text("SELECT current_setting('app.tenant_id', true)")
DEFERRED = "ALTER TABLE ledger ADD CONSTRAINT once UNIQUE (tenant) DEFERRABLE INITIALLY DEFERRED"

Tx = Annotated[AsyncConnection, Depends(db.asgi.transaction, scope="function")]
PlainTx = Annotated[Connection, Depends(db.asgi.plain_transaction, scope="function")]
Conn = Annotated[AsyncConnection, Depends(db.asgi.reading)]
PlainConn = Annotated[Connection, Depends(db.asgi.plain_reading)]


sessions, awaited_sessions = db.asgi.dependency(db.session), db.asgi.dependency(aio.session)
plain_once = db.asgi.dependency(functools.partial(db.once, "plain"))
awaited_once = db.asgi.dependency(functools.partial(aio.once, "awaited"))
acme = db.asgi.dependency(functools.partial(db.scope, tenant="acme"))


async def of_the_user() -> AsyncIterator[AsyncConnection]:
    async with aio.begin() as tx:
        yield tx


def user(tx: Annotated[Connection, Depends(db.asgi.plain_transaction, scope="function", use_cache=False)]) -> None:
    tx.execute(INSERT, {"n": 1})


async def awaited_user(
    tx: Annotated[AsyncConnection, Depends(db.asgi.transaction, scope="function", use_cache=False)],
) -> None:
    await tx.execute(INSERT, {"n": 3})


def fastapi() -> FastAPI:
    app = FastAPI()
    app.add_middleware(db.asgi.Middleware)
    return app


def rows() -> int:
    with db.read(fresh=True) as conn:
        return int(conn.scalar(COUNT) or 0)


def unfulfillable(use: Use) -> None:
    """Have COMMIT be what fails: two rows of one tenant are looked at there."""
    use(role="owner")
    with db.begin() as tx:
        tx.execute(text(DEFERRED))
    use()


def test_a_route_commits_before_its_answer(ask: Ask) -> None:
    """Both kinds of route."""
    app = fastapi()
    seen: list[int] = []

    @app.middleware("http")
    async def look(request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        seen.append(rows())
        return response

    @app.post("/async")
    async def awaited(tx: Tx) -> None:
        await tx.execute(INSERT, {"n": 1})

    @app.post("/plain")
    def plain(tx: PlainTx) -> None:
        tx.execute(INSERT, {"n": 2})

    for path in ("/async", "/plain"):
        assert ask(app, f"POST {path}")[0].status_code == 200
    assert seen == [1, 2]


@pytest.mark.parametrize("raised", [HTTPException(409), ValueError()])
def test_a_route_that_raises_rolls_back(ask: Ask, raised: Exception) -> None:
    """Whether FastAPI has an answer for the error or not."""
    app = fastapi()

    @app.post("/async")
    async def awaited(tx: Tx) -> None:
        await tx.execute(INSERT, {"n": 1})
        raise raised

    @app.post("/plain")
    def plain(tx: PlainTx) -> None:
        tx.execute(INSERT, {"n": 2})
        raise raised

    expected = 409 if isinstance(raised, HTTPException) else 500
    assert [ask(app, f"POST {path}")[0].status_code for path in ("/async", "/plain")] == [expected, expected]
    assert rows() == 0


def test_a_failed_commit_is_no_success(ask: Ask, use: Use) -> None:
    """The client is told, by the error's own status."""
    unfulfillable(use)
    app = fastapi()
    app.add_exception_handler(Exception, db.asgi.problem)

    @app.post("/async")
    async def awaited(tx: Tx) -> None:
        await tx.execute(text("INSERT INTO ledger VALUES (1, 'a'), (2, 'a')"))

    @app.post("/plain")
    def plain(tx: PlainTx) -> None:
        tx.execute(text("INSERT INTO ledger VALUES (1, 'a'), (2, 'a')"))

    assert [ask(app, f"POST {path}")[0].status_code for path in ("/async", "/plain")] == [500, 500]
    assert rows() == 0


def test_a_transaction_that_would_commit_behind_the_answer_is_refused(ask: Ask) -> None:
    """FastAPI's default scope: it ends when the answer has been sent. A block of the user's own likewise."""
    app = fastapi()
    failures: list[BaseException] = []

    @app.middleware("http")
    async def look(request: Any, call_next: Any) -> Any:
        try:
            return await call_next(request)
        except db.ConfigurationError as error:
            failures.append(error)
            raise

    @app.post("/ours")
    async def ours(tx: Annotated[AsyncConnection, Depends(db.asgi.transaction)]) -> None:
        await tx.execute(INSERT, {"n": 1})

    @app.post("/theirs")
    async def theirs(tx: Annotated[AsyncConnection, Depends(of_the_user)]) -> None:
        await tx.execute(INSERT, {"n": 2})

    assert [ask(app, f"POST {path}")[0].status_code for path in ("/ours", "/theirs")] == [500, 500]
    assert all('scope="function"' in str(error) for error in failures)
    assert (len(failures), rows()) == (2, 0)


def test_a_middleware_that_runs_the_route_in_a_task_of_its_own_stands_around_ours(ask: Ask) -> None:
    """What ``@app.middleware("http")`` makes is one: ours sees the transactions of its own task and below."""
    app = FastAPI()
    app.add_middleware(db.asgi.Middleware)  # first, so it is the inner one

    @app.middleware("http")
    async def nothing(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    @app.post("/")
    async def route(tx: Annotated[AsyncConnection, Depends(of_the_user)]) -> None:
        await tx.execute(INSERT, {"n": 1})

    assert ask(app, "POST /")[0].status_code == 500
    assert rows() == 0


def test_what_reads_may_last_as_long_as_the_answer(ask: Ask) -> None:
    """Rows are streamed over it."""
    app = fastapi()

    @app.get("/numbers")
    async def numbers(conn: Conn) -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            for row in await conn.execute(text("SELECT generate_series(1, 3)")):
                yield f"{row[0]}\n"

        return StreamingResponse(lines())

    assert ask(app, "GET /numbers")[0].text == "1\n2\n3\n"
    assert db.status()["engines"]["aio writer"]["checked_out"] == 0


def test_the_same_dependency_twice_is_one_unit(ask: Ask, use: Use) -> None:
    """In a pool of one, with FastAPI's cache of them and without it."""
    use(pool_size=1, max_overflow=0, async_connections=1)
    app = fastapi()

    @app.post("/plain")
    def plain(_user: Annotated[None, Depends(user)], tx: PlainTx) -> int:
        tx.execute(INSERT, {"n": 2})
        return tx.scalar(COUNT) or 0

    @app.post("/async")
    async def awaited(_user: Annotated[None, Depends(awaited_user)], tx: Tx) -> int:
        await tx.execute(INSERT, {"n": 4})
        return await tx.scalar(COUNT) or 0

    assert [ask(app, f"POST {path}")[0].text for path in ("/plain", "/async")] == ["2", "4"]
    assert rows() == 4


def test_two_that_differ_are_refused_where_one_connection_is_all(ask: Ask, use: Use) -> None:
    """At once, instead of waiting for each other; and so is a block within the route."""
    use(pool_size=1, max_overflow=0, pool_timeout_s=60)
    app = fastapi()
    app.add_exception_handler(db.ConfigurationError, lambda _request, error: PlainTextResponse(str(error), 500))

    @app.get("/two")
    def two(_tx: PlainTx, _conn: PlainConn) -> None: ...

    @app.get("/within")
    def within(_tx: PlainTx) -> None:
        with db.begin():
            pass

    answers = [ask(app, f"GET {path}")[0].text for path in ("/two", "/within")]
    assert all("inside of another of its context" in answer for answer in answers)
    assert db.status()["engines"]["writer"]["checked_out"] == 0


def test_waiting_requests_leave_threads_to_those_that_have_a_connection(ask: Ask, use: Use) -> None:
    """More requests than the framework has threads, over one connection: each has its turn."""
    use(pool_size=1, max_overflow=0)
    app = fastapi()

    @app.post("/{n}")
    def plain(n: int, tx: PlainTx) -> None:
        tx.execute(INSERT, {"n": n})

    answers = ask(app, *(f"POST /{n}" for n in range(60)))
    assert {answer.status_code for answer in answers} == {200}
    assert (rows(), db.status()["totals"]["connects"]) == (60, 1)


def test_a_request_that_is_cancelled_gives_its_connection_back(use: Use) -> None:
    """While it waits for one, and while it has one."""
    use(pool_size=1, max_overflow=0)
    plain = db.asgi.dependency(db.begin)

    async def hold(taken: asyncio.Event) -> None:
        generator = plain()
        await anext(generator)
        taken.set()
        try:
            await asyncio.sleep(60)
        except BaseException as error:
            with pytest.raises(asyncio.CancelledError):
                await generator.athrow(error)
            raise

    async def scenario() -> None:
        taken = asyncio.Event()
        first = asyncio.create_task(hold(taken))
        await taken.wait()
        second = asyncio.create_task(hold(asyncio.Event()))
        await asyncio.sleep(0.1)
        for task in (second, first):
            task.cancel()
        assert await asyncio.gather(first, second, return_exceptions=True)

    event_loop.run(scenario())
    assert db.status()["engines"]["writer"]["checked_out"] == 0


def test_any_block_may_be_a_dependency(ask: Ask) -> None:
    """The ORM's sessions, above all."""
    app = fastapi()

    @app.post("/plain")
    def plain(orm: Annotated[Session, Depends(sessions, scope="function")]) -> None:
        orm.execute(INSERT, {"n": 1})

    @app.post("/async")
    async def awaited(orm: Annotated[AsyncSession, Depends(awaited_sessions, scope="function")]) -> None:
        await orm.execute(INSERT, {"n": 2})

    assert [ask(app, f"POST {path}")[0].status_code for path in ("/plain", "/async")] == [200, 200]
    assert rows() == 2


@pytest.mark.usefixtures("effects")
def test_what_is_no_connection_may_be_one_too(ask: Ask) -> None:
    """``once`` of either kind, which skips what was done; and a tenant, for all that comes behind it."""
    app = fastapi()

    @app.post("/plain")
    def plain(tx: Annotated[Connection, Depends(plain_once, scope="function")]) -> None:
        tx.execute(NOTE)

    @app.post("/async")
    async def awaited(tx: Annotated[AsyncConnection, Depends(awaited_once, scope="function")]) -> None:
        await tx.execute(NOTE)

    @app.get("/tenant")
    def tenant(_: Annotated[None, Depends(acme)], conn: PlainConn) -> Any:
        return conn.scalar(TENANT)

    app.add_exception_handler(db.AlreadyDoneError, lambda *_: PlainTextResponse("done", 409))
    for path in ("/plain", "/async"):
        assert [ask(app, f"POST {path}")[0].status_code for _ in range(2)] == [200, 409]
    assert ask(app, "GET /tenant")[0].json() == "acme"


def test_a_second_database_is_a_dependency_beside_the_default_one(ask: Ask, use: Use, database: Database) -> None:
    """It has connections of its own, so a unit on one may be inside of a unit on the other."""
    use(pool_size=1, max_overflow=0)
    app = fastapi()
    audit = db.Database(db.Settings(url=make_url(database.url())), name="audit")
    audited = Annotated[AsyncConnection, Depends(db.asgi.dependency(audit.aio.begin), scope="function")]

    async def both(tx: PlainTx, audit_tx: Any) -> None:
        await audit_tx.execute(INSERT, {"n": 1})
        await asyncio.to_thread(tx.execute, INSERT, {"n": 2})

    both.__annotations__["audit_tx"] = audited  # a local name, which FastAPI could not look up
    app.post("/")(both)
    assert ask(app, "POST /")[0].status_code == 200
    assert rows() == 2
    audit.dispose()  # else whenever it is collected


@pytest.mark.parametrize("file", ["", "/notes.db"])
def test_sqlite_serves_the_tests_of_plain_routes(ask: Ask, tmp_path: Path, file: str) -> None:
    """In memory and in a file, though the block, the route and the end of it are in different threads."""
    db.configure(db.Settings(url=make_url(f"sqlite:///{tmp_path}{file}" if file else "sqlite://")))
    app = fastapi()

    @app.post("/")
    def plain(tx: PlainTx) -> int:
        tx.execute(text("CREATE TABLE IF NOT EXISTS notes (n int)"))
        tx.execute(text("INSERT INTO notes VALUES (1)"))
        return tx.scalar(text("SELECT count(*) FROM notes")) or 0

    assert sorted(answer.text for answer in ask(app, *["POST /"] * 4)) == ["1", "2", "3", "4"]


@pytest.mark.filterwarnings("ignore:.*was never entered:RuntimeWarning")
def test_a_block_that_is_made_already_is_no_dependency() -> None:
    """It would serve one request."""
    for block in (db.begin(), aio.begin()):
        with pytest.raises(TypeError, match="uncalled"):
            db.asgi.dependency(block)  # type: ignore[call-overload]


def test_litestar_commits_before_its_answer(ask: Ask) -> None:
    """What its route raises, it throws into the dependency."""

    @get("/async", dependencies={"tx": Provide(db.asgi.transaction)})
    async def awaited(tx: NamedDependency[AsyncConnection]) -> None:
        await tx.execute(INSERT, {"n": 1})

    @get("/plain", dependencies={"tx": Provide(db.asgi.plain_transaction)}, sync_to_thread=True)
    def plain(tx: NamedDependency[Connection]) -> None:
        tx.execute(INSERT, {"n": 2})

    @get("/raises", dependencies={"tx": Provide(db.asgi.transaction)})
    async def raises(tx: NamedDependency[AsyncConnection]) -> None:
        await tx.execute(INSERT, {"n": 3})
        raise ValueError

    app = Litestar([awaited, plain, raises], middleware=[db.asgi.Middleware], openapi_config=None)
    assert [ask(app, f"GET {path}")[0].status_code for path in ("/async", "/plain", "/raises")] == [200, 200, 500]
    assert rows() == 2


def test_litestar_refuses_two_that_differ_where_one_connection_is_all(ask: Ask, use: Use) -> None:
    """Though they are entered at once, and neither of their tasks sees what the other has opened."""
    use(pool_size=1, max_overflow=0, pool_timeout_s=60)

    @get("/", dependencies={"a": Provide(db.asgi.plain_transaction), "b": Provide(db.asgi.plain_reading)})
    async def two(a: NamedDependency[Connection], b: NamedDependency[Connection]) -> None: ...

    app = Litestar([two], middleware=[db.asgi.Middleware], openapi_config=None, debug=True)
    assert "inside of another of its context" in ask(app, "GET /")[0].text
    assert db.status()["engines"]["writer"]["checked_out"] == 0
