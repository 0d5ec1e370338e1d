"""What a session keeps, in a transaction of its own and in one that is given: each line of the page's table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import exc, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import db
from db import aio
from db.environment import event_loop

from .conftest import Use
from .fix_once import effects  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

QUEUE = {
    "Records": [
        {
            "messageId": f"m{n}",
            "body": "b",
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:eu-central-1:1:q",
            "attributes": {},
            "messageAttributes": {},
        }
        for n in range(3)
    ]
}


class Base(DeclarativeBase):
    pass


class Effect(Base):
    __tablename__ = "effects"
    note: Mapped[str] = mapped_column(primary_key=True)


class OwnSession(Session):
    pass


class OwnAsyncSession(AsyncSession):
    sync_session_class = OwnSession


pytestmark = pytest.mark.usefixtures("effects")


def notes() -> list[str]:
    with db.session(read_only=True) as session:
        return sorted(session.scalars(select(Effect.note)))


def added(tx: Connection, note: str) -> str:
    with db.session(tx=tx) as session:
        session.add(effect := Effect(note=note))
    return effect.note  # readable after the block


def flushed(tx: Connection, note: str) -> str:
    with db.session(tx=tx) as session:
        session.add(Effect(note=note))
        session.flush()
    return note


def committed(tx: Connection, note: str) -> str:
    with db.session(tx=tx) as session:
        session.add(Effect(note=note))
        session.commit()
    return note


WAYS = [added, flushed, committed]


@pytest.mark.parametrize("way", WAYS)
def test_it_keeps_what_it_was_given(way: Callable[[Connection, str], str]) -> None:
    """In ``run``, ``once``, a savepoint, and for each record of a batch."""
    assert db.run(way, "run") == "run"
    assert db.once("k").run(way, "once") == "once"
    with db.begin() as tx, tx.begin_nested():
        way(tx, "nested")

    def handle(tx: Connection, record: Any) -> None:
        way(tx, record.message_id)

    assert db.batch(QUEUE, handle) == {"batchItemFailures": []}
    assert notes() == ["m0", "m1", "m2", "nested", "once", "run"]


@pytest.mark.parametrize("way", WAYS)
def test_it_is_undone_with_the_record(way: Callable[[Connection, str], str]) -> None:
    """And with no other."""

    def handle(tx: Connection, record: Any) -> None:
        way(tx, record.message_id)
        if record.message_id == "m1":
            raise LookupError

    assert db.batch(QUEUE, handle) == {"batchItemFailures": [{"itemIdentifier": "m1"}]}
    assert notes() == ["m0", "m2"]


def test_its_rollback_undoes_the_record_alone() -> None:
    """The record cannot stand then, and its neighbours do."""

    def handle(tx: Connection, record: Any) -> None:
        with db.session(tx=tx) as session:
            session.add(Effect(note=record.message_id))
            session.flush()
            if record.message_id == "m1":
                session.rollback()

    db.batch(QUEUE, handle)
    assert notes() == ["m0", "m2"]


def test_a_rollback_undoes_what_commit_has_flushed_once_the_session_goes_on() -> None:
    """Right after commit() it has nothing to undo, as the session has nothing in hand."""
    with db.session() as session:
        session.add(Effect(note="kept"))
        session.commit()
        session.rollback()
    assert notes() == ["kept"]
    with db.session() as session:
        session.add(Effect(note="undone"))
        session.commit()
        session.add(Effect(note="undone, too"))
        session.flush()
        session.rollback()
    assert notes() == ["kept"]


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_the_twins_rollback_does_the_same(use: Use, driver: str) -> None:
    """Over both drivers."""
    use(async_driver=driver)

    async def scenario() -> None:
        for note, goes_on in (("kept", False), ("undone", True)):
            async with aio.session() as session:
                session.add(Effect(note=note))
                await session.commit()
                if goes_on:
                    session.add(Effect(note="undone, too"))
                    await session.flush()
                await session.rollback()

    event_loop.run(scenario())
    assert notes() == ["kept"]
    db.dispose()
    event_loop.close()


def test_one_of_its_own_commits() -> None:
    """At the end of its block."""
    with db.session(class_=OwnSession) as session:
        assert isinstance(session, OwnSession)
        session.add(Effect(note="own"))
    assert notes() == ["own"]


def test_a_read_only_session_writes_nothing() -> None:
    """And says so, rather than drop what it was given."""
    with pytest.raises(exc.InvalidRequestError, match="read-only"), db.session(read_only=True) as session:
        session.add(Effect(note="x"))
    with pytest.raises(exc.InternalError), db.session(read_only=True) as session:
        session.add(Effect(note="x"))
        session.flush()
    assert notes() == []


def test_what_cannot_go_together_is_refused() -> None:
    """A transaction that is given has its tenant and its level."""
    with db.begin() as tx:
        for more in ({"tenant": "acme"}, {"isolation": "SERIALIZABLE"}, {"read_only": True}):
            with pytest.raises(TypeError, match="leave them out"), db.session(tx=tx, **more):
                raise AssertionError("never runs")
    with pytest.raises(TypeError, match="no isolation level"), db.session(read_only=True, isolation="SERIALIZABLE"):
        raise AssertionError("never runs")


def test_the_twin_for_async_def_keeps_the_same(use: Use) -> None:
    """In its own classes."""
    use(async_connections=1)

    async def add(tx: AsyncConnection, note: str) -> None:
        async with aio.session(tx=tx, class_=OwnAsyncSession) as session:
            assert isinstance(session, OwnAsyncSession)
            assert isinstance(session.sync_session, OwnSession)
            session.add(Effect(note=note))

    async def add_record(tx: AsyncConnection, record: Any) -> None:
        await add(tx, record.message_id)

    async def scenario() -> list[str]:
        await aio.run(add, "run")
        await aio.batch(QUEUE, add_record)
        async with aio.session() as session:
            session.add(Effect(note="own"))
        async with aio.session(read_only=True) as session:
            return sorted(await session.scalars(select(Effect.note)))

    assert event_loop.run(scenario()) == ["m0", "m1", "m2", "own", "run"]
    db.dispose()
    event_loop.close()
