"""A server that has paused, as Aurora does at 0 ACU: a connect takes as long as it needs to resume."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from sqlalchemy import exc, make_url, text

import db
from db import aio
from db.environment import event_loop, process
from db.settings import Settings
from devkit.network.resuming import ResumingWire

from .conftest import Lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from devkit.network.resuming import Parting
    from devkit.plugin import Database, MakeLambdaContext
    from devkit.servers.postgres import Postgres

ONE = text("SELECT 1")


class Paused(Protocol):
    def __call__(self, *, resume_s: float, partings: Sequence[Parting] = (), **settings: Any) -> ResumingWire: ...


@pytest.fixture
def paused(database: Database, postgres: Postgres) -> Iterator[Paused]:
    """The layer on a server that resumes when it is asked for."""
    with contextlib.ExitStack() as wires:

        def make(*, resume_s: float, partings: Sequence[Parting] = (), **settings: Any) -> ResumingWire:
            wire = ResumingWire(postgres.host, postgres.port, resume_s=resume_s, partings=partings)
            wires.enter_context(wire)
            db.configure(Settings(url=make_url(database.through(wire).url()), sslmode="disable", **settings))
            return wire

        yield make
        db.dispose()
        event_loop.close()
        process.DEFAULT._runtime = None


def read() -> int:
    with db.read() as conn:
        return int(conn.execute(ONE).scalar_one())


async def read_async() -> int:
    async with aio.read() as conn:
        return int((await conn.execute(ONE)).scalar_one())


READS: dict[str, tuple[Callable[[], int], dict[str, Any]]] = {
    "db": (read, {}),
    "aio": (lambda: event_loop.run(read_async()), {}),
    "aio on asyncpg": (lambda: event_loop.run(read_async()), {"async_driver": "asyncpg"}),
}


@pytest.mark.parametrize("by", READS)
def test_one_connect_lasts_until_the_server_has_resumed(by: str, paused: Paused, lines: Lines) -> None:
    """With a time-out that is longer than that, nobody knocks twice."""
    reads, settings = READS[by]
    wire = paused(resume_s=0.3, connect_timeout_s=30, **settings)
    assert (reads(), wire.knocks) == (1, 1)
    assert lines.of("connect waits") == []


@pytest.mark.slow
@pytest.mark.parametrize("by", ["db", "aio on asyncpg"])
def test_a_shorter_time_out_knocks_again(by: str, paused: Paused, lines: Lines) -> None:
    """For DB_CONNECT_WAIT_S; and the log says how often, and why."""
    reads, settings = READS[by]
    wire = paused(resume_s=3, connect_timeout_s=2, **settings)
    assert (reads(), wire.knocks) == (1, 2)
    (line,) = lines.of("connect")
    assert line["attempts"] == 2
    assert [wait["verdict"] for wait in lines.of("connect waits")] == [db.Verdict.RECONNECT.value]


@pytest.mark.parametrize("by", READS)
def test_who_was_sent_away_while_it_resumed_comes_again(by: str, paused: Paused) -> None:
    """Its connection ended without a word; or by rules that the server had not loaded yet."""
    reads, settings = READS[by]
    wire = paused(resume_s=0.1, partings=["closed", "no entry", "no entry"], **settings)
    assert (reads(), wire.knocks) == (1, 4)


@pytest.mark.parametrize("by", READS)
def test_rules_that_let_nobody_in_are_heard_of_at_once(by: str, paused: Paused) -> None:
    """A server that answers at once has them for good."""
    reads, settings = READS[by]
    wire = paused(resume_s=0, partings=["no entry"] * 9, **settings)
    with pytest.raises(exc.DBAPIError, match=r"no pg_hba\.conf entry") as raised:
        reads()
    assert (db.verdict(raised.value), wire.knocks) == (db.Verdict.GIVE_UP, 1)


@pytest.mark.slow
def test_an_invocation_that_is_too_short_wakes_the_server_for_the_next(
    paused: Paused, lambda_context: MakeLambdaContext
) -> None:
    """It fails in time to answer, says that another one may succeed, and where to read on; the next one does."""
    paused(resume_s=3, connect_timeout_s=30, deadline_reserve_s=0.1)
    handler = db.invocation(lambda _event, _context: read())
    with pytest.raises(db.DeadlineError, match=r"run/aurora/#resuming-from-zero") as raised:
        handler({}, lambda_context(remaining_s=1.5))
    assert db.verdict(raised.value) is db.Verdict.RECONNECT
    assert handler({}, lambda_context(remaining_s=20)) == 1


def test_run_makes_no_second_attempt_when_the_time_is_up(paused: Paused, lambda_context: MakeLambdaContext) -> None:
    """Though the verdict is that another one would be right: there is no time for it."""
    wire = paused(resume_s=3, connect_timeout_s=30, deadline_reserve_s=0.1)
    with pytest.raises(db.DeadlineError):
        db.invocation(lambda _event, _context: db.run(lambda tx: tx.execute(ONE)))({}, lambda_context(remaining_s=1))
    assert wire.knocks == 1


@pytest.mark.parametrize(("settings", "held"), [({}, 1), ({"pool": "null"}, 0)], ids=["queue", "null"])
def test_what_is_kept_over_a_freeze_keeps_the_server_awake(
    settings: dict[str, Any], held: int, paused: Paused, lambda_context: MakeLambdaContext
) -> None:
    """One connection for an environment, for however long it is frozen, unless DB_POOL=null."""
    wire = paused(resume_s=0, **settings)
    db.invocation(lambda _event, _context: read())({}, lambda_context())
    with pytest.raises(RuntimeError, match="1 connections are open") if held else contextlib.nullcontext():
        wire.pause(within_s=0 if held else 5)


def test_a_session_that_the_server_ends_lets_it_pause(paused: Paused, lambda_context: MakeLambdaContext) -> None:
    """By idle_session_timeout: frozen environments need do nothing for it, and the next event does not notice."""
    handler = db.invocation(lambda _event, _context: [read(), read()])
    wire = paused(resume_s=0, connect_args={"options": "-c idle_session_timeout=1s"})
    assert handler({}, lambda_context()) == [1, 1]
    wire.pause(within_s=5)
    assert handler({}, lambda_context()) == [1, 1]
    assert wire.knocks == 2


def test_a_reader_that_pauses_by_itself_is_stood_in_for(
    paused: Paused, database: Database, monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    """However long the writer may take: the read wakes it, and does not wait."""
    monkeypatch.setattr("db.environment.runtime.READER_PATIENCE_S", 2.0)
    wire = paused(resume_s=60)
    url = make_url(database.url())
    reader: dict[str, Any] = {"reader_host": wire.host, "reader_port": wire.port}
    db.configure(Settings(url=url, sslmode="disable", connect_timeout_s=30, **reader))
    assert [read(), read()] == [1, 1]
    assert (wire.knocks, len(lines.of("reader away"))) == (1, 1)
