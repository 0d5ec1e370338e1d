"""PgBouncer accepts a login by itself and refuses the first statement: a connect that failed, for every driver."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import exc, make_url, text

import db
from db import aio
from db.environment import event_loop, process
from db.settings import Settings
from tests.doors import make_prologue

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from devkit.plugin import Database, MakeLambdaContext, MakePgBouncer, MakeRdsProxy
    from devkit.servers.pgbouncer import PgBouncer
    from tests.aio.conftest import Lines

pytestmark = pytest.mark.slow

PID = text("SELECT pg_backend_pid()")


async def _begin() -> int:
    async with aio.begin() as tx:
        return int((await tx.execute(PID)).scalar_one())


async def _read() -> int:
    async with aio.read() as conn:
        return int((await conn.execute(PID)).scalar_one())


class Face:
    """How the layer is used: sync, or async through one of the drivers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.settings: dict[str, Any] = {"async_driver": "asyncpg"} if name == "asyncpg" else {}

    def begin(self) -> int:
        if self.name == "sync":
            with db.begin() as tx:
                return int(tx.execute(PID).scalar_one())
        return self._run(_begin())

    def read(self) -> int:
        if self.name == "sync":
            with db.read() as conn:
                return int(conn.execute(PID).scalar_one())
        return self._run(_read())

    def _run(self, coroutine: Coroutine[Any, Any, int]) -> int:
        return event_loop.run(coroutine)


@pytest.fixture(params=["sync", "psycopg", "asyncpg"])
def face(request: pytest.FixtureRequest) -> Face:
    return Face(request.param)


@pytest.fixture
def pooler(pgbouncer: MakePgBouncer) -> PgBouncer:
    """It has one server connection, and lets a client wait for it for a second."""
    return pgbouncer(default_pool_size=1, settings={"query_wait_timeout": "1"})


@pytest.fixture
def behind(pooler: PgBouncer, database: Database, face: Face) -> Callable[..., None]:
    def configure(**settings: Any) -> None:
        url = make_url(database.url()).set(port=pooler.port)
        db.configure(Settings(url=url, proxy="pgbouncer", sslmode="disable", **face.settings, **settings))

    return configure


@pytest.fixture
def held(pooler: PgBouncer, database: Database) -> Iterator[psycopg.Connection[Any]]:
    """Another client has the one connection."""
    with psycopg.connect(
        host=pooler.host, port=pooler.port, dbname=database.name, user=database.app, password=database.app_password
    ) as other:
        other.execute("SELECT 1")
        yield other


def invoked(body: Callable[[], Any], context: Any) -> Any:
    return db.invocation(lambda _event, _context: body())({}, context)


def crowded() -> bool:
    return process.current()._crowding.crowded


@pytest.mark.parametrize("work", ["begin", "read"])
def test_a_first_statement_that_is_refused_is_waited_for(
    work: str,
    face: Face,
    behind: Callable[..., None],
    *,
    held: Any,
    lines: Lines,
    lambda_context: MakeLambdaContext,
) -> None:
    """The caller notices nothing but the time, and the log says what was waited for."""
    behind()
    leaves = threading.Timer(2.5, held.close)
    leaves.start()
    assert invoked(getattr(face, work), lambda_context(remaining_s=20)) > 0
    leaves.join()
    assert lines.of("connect waits")[0]["verdict"] == "wait until the database has a connection to give"
    assert lines.of("replay")
    assert crowded()


def test_a_kept_connection_is_refused_like_a_fresh_one(
    face: Face, behind: Callable[..., None], pooler: PgBouncer, database: Database, lambda_context: MakeLambdaContext
) -> None:
    """The environment is warm, and the others came meanwhile."""
    behind(pool_pre_ping=False)
    face.begin()
    with psycopg.connect(
        host=pooler.host, port=pooler.port, dbname=database.name, user=database.app, password=database.app_password
    ) as other:
        other.execute("SELECT 1")
        leaves = threading.Timer(2.5, other.close)
        leaves.start()
        assert invoked(face.begin, lambda_context(remaining_s=20)) > 0
        leaves.join()


def test_a_pool_that_stays_full_ends_in_capacity_error(
    face: Face, behind: Callable[..., None], held: Any, lambda_context: MakeLambdaContext
) -> None:
    """With the attempts and PgBouncer's words, time left to answer, and the environment keeps nothing for a while."""
    behind()
    context = lambda_context(remaining_s=4)
    with pytest.raises(db.CapacityError, match=r"in \d+ attempts in \d\.\d s: .*query_wait_timeout") as caught:
        invoked(face.begin, context)
    assert db.verdict(caught.value) is db.Verdict.WAIT_FOR_CAPACITY
    assert context.get_remaining_time_in_millis() > 50
    assert crowded()


@pytest.mark.parametrize("work", ["begin", "read"])
def test_a_queue_that_is_longer_than_the_invocation_ends_with_it(
    work: str, face: Face, pgbouncer: MakePgBouncer, database: Database, lambda_context: MakeLambdaContext
) -> None:
    """PgBouncer would have the first statement wait for two minutes, and has refused nothing."""
    pooler = pgbouncer(default_pool_size=1)
    url = make_url(database.url()).set(port=pooler.port)
    db.configure(Settings(url=url, proxy="pgbouncer", sslmode="disable", deadline_reserve_s=1, **face.settings))
    context = lambda_context(remaining_s=2)
    with psycopg.connect(
        host=pooler.host, port=pooler.port, dbname=database.name, user=database.app, password=database.app_password
    ) as other:
        other.execute("SELECT 1")
        with pytest.raises(db.DeadlineError):
            invoked(getattr(face, work), context)
    assert context.get_remaining_time_in_millis() > 0


def test_rds_proxys_words_are_waited_out_as_well(
    rds_proxy: MakeRdsProxy, database: Database, face: Face, lines: Lines, lambda_context: MakeLambdaContext
) -> None:
    """It too has a login accepted before there is a connection to lend."""
    make_prologue(database.url("owner"), used_by=database.app)
    proxy = rds_proxy()
    url = make_url(database.url()).set(port=proxy.port)
    db.configure(Settings(url=url, proxy="rds-proxy", sslmode="disable", **face.settings))
    proxy.refuse_with("Timed-out waiting to acquire database connection.", at="statement")
    room = threading.Timer(0.6, proxy.refuse_with, [None])
    room.start()
    assert invoked(face.begin, lambda_context(remaining_s=20)) > 0
    room.join()
    assert lines.of("replay")
    proxy.refuse_with("Rate of connection to proxy exceeded 100.")
    db.dispose()
    with pytest.raises(db.CapacityError, match="Rate of connection"):
        invoked(face.begin, lambda_context(remaining_s=1.5))


def test_a_statement_beyond_query_timeout_is_not_sent_again(
    pgbouncer: MakePgBouncer, database: Database, face: Face, lines: Lines
) -> None:
    """PgBouncer ends it with the same code, and it would be too long again."""
    pooler = pgbouncer(settings={"query_timeout": "1"})
    url = make_url(database.url()).set(port=pooler.port)
    db.configure(Settings(url=url, proxy="pgbouncer", sslmode="disable", **face.settings))
    if face.name == "sync":
        with pytest.raises(exc.DBAPIError, match="query timeout") as caught, db.begin() as tx:
            tx.execute(text("SELECT pg_sleep(5)"))
    else:

        async def too_long() -> None:
            async with aio.begin() as tx:
                await tx.execute(text("SELECT pg_sleep(5)"))

        with pytest.raises(exc.DBAPIError, match="query timeout") as caught:
            event_loop.run(too_long())
    assert db.verdict(caught.value) is db.Verdict.GIVE_UP
    assert lines.of("replay") == []


def test_a_login_that_pgbouncer_refuses_decides_by_text(face: Face, pooler: PgBouncer, database: Database) -> None:
    """By SCRAM it says "SASL authentication failed", which for asyncpg has the code that it gives to everything."""
    url = make_url(database.url()).set(port=pooler.port, password="mistyped")
    db.configure(Settings(url=url, proxy="pgbouncer", sslmode="disable", **face.settings))
    with pytest.raises(exc.DBAPIError, match="SASL authentication failed") as caught:
        face.begin()
    assert db.verdict(caught.value) is db.Verdict.REFETCH_CREDENTIALS
