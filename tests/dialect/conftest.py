"""Fixtures for tests of the dialect: a server with two-phase commit, the layer, and the stock dialect beside it."""

from __future__ import annotations

import contextlib
import gc
import logging
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from sqlalchemy import create_engine, make_url, text

import db
from db.environment import process
from db.settings import Settings
from devkit.servers.postgres import Postgres
from devkit.servers.postgres_settings import CHEAP_PASSWORDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from devkit.network.wire import Wire
    from devkit.plugin import Database


class Use(Protocol):
    """Configures the layer for the test's database, as its owner; through ``wire``, without TLS, where one is given.

    Without pings, unless asked for: what a test breaks is then met by the statement and not by the pool.
    """

    def __call__(self, *, wire: Wire | None = None, **settings: Any) -> None: ...


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server of this folder's own, since two-phase commit is off by default."""
    with Postgres(settings={"max_prepared_transactions": "8", **CHEAP_PASSWORDS}) as server:
        yield server


@pytest.fixture
def use(database: Database) -> Iterator[Use]:
    def configure(*, wire: Wire | None = None, **settings: Any) -> None:
        reached = database if wire is None else database.through(wire)
        defaults: dict[str, Any] = {"url": make_url(reached.url("owner")), "sslmode": "disable", "pool_pre_ping": False}
        db.configure(Settings(**(defaults | settings)))

    yield configure
    db.dispose()
    process.DEFAULT._runtime = None


class MakeEngine(Protocol):
    """``create_engine`` on the test's database, as its owner; the test's end disposes of the engine."""

    def __call__(self, driver: str = "postgresql+psycopg", **arguments: Any) -> Engine: ...


@pytest.fixture
def make_engine(database: Database) -> Iterator[MakeEngine]:
    with contextlib.ExitStack() as made:

        def make(driver: str = "postgresql+psycopg", **arguments: Any) -> Engine:
            engine = create_engine(make_url(database.url("owner")).set(drivername=driver), **arguments)
            made.callback(engine.dispose)
            return engine

        yield make


@pytest.fixture
def stock(make_engine: MakeEngine) -> Engine:
    """SQLAlchemy's own dialect on the test's database, as its owner."""
    return make_engine()


@pytest.fixture
def ledger(stock: Engine) -> None:
    """A table ``ledger(n, note)``."""
    with stock.begin() as conn:
        conn.execute(text("CREATE TABLE ledger (n int PRIMARY KEY, note text)"))
    stock.dispose()  # a test that ends sessions is to end the layer's only


@pytest.fixture
def quiet() -> Iterator[None]:
    """No log: for a test that loses hundreds of connections on purpose, and each of them is told of."""
    logging.disable(logging.CRITICAL)
    yield
    gc.collect()  # here, where a warning of what was open when its connection was killed is expected
    logging.disable(logging.NOTSET)


@pytest.fixture(params=["ours", "stock"])
def either(request: pytest.FixtureRequest, use: Use, stock: Engine) -> Engine:
    """The layer's engine and the stock one, in turn: what a test asserts of both is how they are to behave."""
    if request.param == "stock":
        return stock
    use()
    return db.engine()


def insert(*numbers: int) -> str:
    """A statement that inserts them into ``ledger``."""
    return f"INSERT INTO ledger (n) VALUES {', '.join(f'({n})' for n in numbers)}"


def stored(engine: Engine) -> list[int]:
    """What ``ledger`` holds, seen over a connection of its own."""
    with engine.connect() as conn:
        return list(conn.execute(text("SELECT n FROM ledger ORDER BY n")).scalars())


def queue_of(*message_ids: str) -> dict[str, Any]:
    """An event of a queue's with these messages."""
    arn = "arn:aws:sqs:eu-central-1:123456789012:orders"
    source = {"eventSource": "aws:sqs", "eventSourceARN": arn, "attributes": {}, "messageAttributes": {}}
    return {"Records": [{"messageId": name, "body": name, **source} for name in message_ids]}
