"""Functions that are interrupted by an alarm of their own, at a moment that they draw; then they look what is left.

``ours`` does a kind of work with this layer, another one each time; ``plain`` has the one that it can. Their answers
are those of ``Told``.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, TypedDict

from sqlalchemy import create_engine, exc, text

import db
from db import aio
from db.environment import event_loop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import FrameType

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

_INSERT = text("INSERT INTO written (id) VALUES (:id)")
_SELECT = text("SELECT id FROM written WHERE id = :id")
_ECHO = text("SELECT CAST(:id AS text)")
# Of how long the work takes without one: a few alarms come too late, and none is drawn where none could strike.
_LATEST = 1.2
_SOONEST_S = 1e-6  # 0 would set none
_TURNS = 5  # of the event loop, from the signal to the task: more than there are


class AlarmError(Exception):
    """What the handler of SIGALRM raises."""


class HardAlarmError(BaseException):
    """Likewise, and no `except Exception` on its way has anything to do with it."""


_STRUCK = (AlarmError, HardAlarmError, asyncio.CancelledError)


class AnothersAnswerError(Exception):
    """A statement was given the answer of another."""


class Told(TypedDict):
    """What became of an invocation.

    ``rang``: the alarm came. ``heard``: by what name, and not at all where it is None; ``instead``: the error that came
    in its place. ``written``: whether its caller may take the work for done; None where it does not know.
    ``afterwards``: what failed when work went on.
    """

    work: str
    rang: bool
    heard: str | None
    instead: str | None
    written: bool | None
    afterwards: str | None


class Alarm:
    """SIGALRM, set for a moment within a piece of work. In a coroutine it cancels the task, as asyncio's own do."""

    def __init__(self) -> None:
        self.rang = False
        self._took_s: dict[str, float] = {}

    def during(self, name: str, work: Callable[[], object]) -> object:
        """What ``work()`` gives. Raises AlarmError wherever it strikes."""
        signal.signal(signal.SIGALRM, self._strike)
        self._set(name)
        began_at = time.perf_counter()
        try:
            done = work()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        self._note(name, began_at)
        return done

    async def during_task(self, name: str, work: Callable[[], Awaitable[object]]) -> object:
        """Likewise for a coroutine function. Raises CancelledError wherever it strikes."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def strike() -> None:
            self.rang = True
            if task is not None:
                task.cancel()

        loop.add_signal_handler(signal.SIGALRM, strike)
        self._set(name)
        began_at = time.perf_counter()
        try:
            done = await work()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for _ in range(_TURNS):  # what came meanwhile is of this work
                await asyncio.sleep(0)
        self._note(name, began_at)
        return done

    def _set(self, name: str) -> None:
        self.rang = False
        # The first time it is measured.
        after_s = self._took_s[name] * random.uniform(0, _LATEST) + _SOONEST_S if name in self._took_s else 0.0  # noqa: S311
        signal.setitimer(signal.ITIMER_REAL, after_s)

    def _note(self, name: str, began_at: float) -> None:
        if not self.rang:
            self._took_s[name] = time.perf_counter() - began_at

    def _strike(self, _number: int, _frame: FrameType | None) -> None:
        self.rang = True
        raise random.choice((AlarmError, HardAlarmError))  # noqa: S311

    def dropped(self, error: BaseException | None) -> None:
        """Python itself drops what is raised in a finaliser, and while a log line is written: nobody could hear it."""
        if isinstance(error, (AlarmError, HardAlarmError)):
            self.rang = False


def write(tx: Connection, name: str) -> str:
    tx.execute(_INSERT, {"id": name})
    return str(tx.execute(_SELECT, {"id": name}).scalar_one())


async def write_async(tx: AsyncConnection, name: str) -> str:
    await tx.execute(_INSERT, {"id": name})
    return str((await tx.execute(_SELECT, {"id": name})).scalar_one())


def _begin(name: str) -> str:
    with db.begin() as tx:
        return write(tx, name)


def _run(name: str) -> str:
    return db.run(write, name)


def _once(name: str) -> str:
    return str(db.once(name).run(write, name))


def _read(name: str) -> str:
    with db.read() as conn:
        return str(conn.execute(_ECHO, {"id": name}).scalar_one())


def _batch(name: str) -> str:
    def handle(tx: Connection, record: Any) -> None:
        write(tx, record.body)

    found = db.batch({"Records": [_record(name), _record(f"{name}/2")]}, handle)
    if found["batchItemFailures"]:
        raise _ComesAgainError
    return name


class _ComesAgainError(Exception):
    """The alarm met a record, or the COMMIT of all: what was reported as failed comes again, and may have been done."""


def _record(name: str) -> dict[str, str]:
    return {"messageId": name, "body": name, "eventSource": "aws:sqs"}


async def _aio_begin(name: str) -> str:
    async with aio.begin() as tx:
        return await write_async(tx, name)


async def _aio_run(name: str) -> str:
    return await aio.run(write_async, name)


async def _aio_read(name: str) -> str:
    async with aio.read() as conn:
        return str((await conn.execute(_ECHO, {"id": name})).scalar_one())


_WORKS: dict[str, Callable[[str], Any]] = {"begin": _begin, "run": _run, "once": _once, "read": _read, "batch": _batch}
_AIO_WORKS: dict[str, Callable[[str], Any]] = {"aio.begin": _aio_begin, "aio.run": _aio_run, "aio.read": _aio_read}

_alarm = Alarm()
sys.unraisablehook = lambda what: _alarm.dropped(what.exc_value)
logging.Handler.handleError = lambda *_: _alarm.dropped(sys.exception())  # type: ignore[method-assign]
_next = itertools.cycle([*_WORKS, *_AIO_WORKS])
_next_aio = itertools.cycle(_AIO_WORKS)


def _worked(work: str, name: str, done: Callable[[], object]) -> Told:
    """What became of ``done``, whose answer is ``name``."""
    told: Told = {"work": work, "rang": False, "heard": None, "instead": None, "written": None, "afterwards": None}
    try:
        told["written"] = _is_own(done(), name)
    except _STRUCK as error:
        told["heard"] = type(error).__name__
    except _ComesAgainError:
        told["heard"] = "batchItemFailures"
    except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the alarm
        # SQLAlchemy's own StatementError is what it makes of an exception before there is a cursor.
        if isinstance(error, (db.OutcomeUnknownError, exc.StatementError)) and isinstance(error.__cause__, _STRUCK):
            told["heard"] = type(error).__name__
        else:
            told["instead"] = _shown(error)
    told["rang"] = _alarm.rang
    return told


def _afterwards(work: Callable[[], object]) -> str | None:
    """What fails when work goes on; None where nothing does."""
    try:
        work()
    except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the alarm
        return _shown(error)
    return None


def _shown(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def _is_own(answer: object, name: str) -> bool:
    if answer != name:
        raise AnothersAnswerError(answer)
    return True


@db.invocation
def ours(event: dict[str, Any], _context: Any) -> Told | None:
    if event["work"] == "nothing":
        db.engine()
        return None
    name = event["id"]
    work = next(_next_aio if event["work"] == "aio" else _next)
    if work in _WORKS:
        told = _worked(work, name, lambda: _alarm.during(work, lambda: _WORKS[work](name)))
    else:
        told = _worked(work, name, lambda: event_loop.run(_alarm.during_task(work, lambda: _AIO_WORKS[work](name))))

    def go_on() -> None:
        if work in {"once", "read", "aio.read"}:  # those that may be asked for again, or have written nothing yet
            told["written"] = _is_own((_once if work == "once" else _run)(name), name)
        for side in (f"{name}/a", f"{name}/b"):
            _is_own(_read(side), side)
            _is_own(event_loop.run(_aio_read(side)), side)

    told["afterwards"] = _afterwards(go_on)
    return told


_engine = create_engine(os.environ["DB_URL"], pool_size=1, max_overflow=0, pool_timeout=0.1, pool_pre_ping=True)


def _plain_begin(name: str) -> str:
    with _engine.begin() as conn:
        return write(conn, name)


def _plain_read(name: str) -> str:
    with _engine.connect() as conn:
        return str(conn.execute(_ECHO, {"id": name}).scalar_one())


def plain(event: dict[str, Any], _context: Any) -> Told | None:
    if event["work"] == "nothing":
        return None
    name = event["id"]
    told = _worked("begin", name, lambda: _alarm.during("begin", lambda: _plain_begin(name)))

    def go_on() -> None:
        for side in (f"{name}/a", f"{name}/b"):
            _is_own(_plain_read(side), side)

    told["afterwards"] = _afterwards(go_on)
    return told
