"""Who holds a connection: for the error of whoever waited for it in vain.

Noted at each checkout, so it costs no call: a walk over frames, until one is the user's.
"""

from __future__ import annotations

import asyncio  # SQLAlchemy has loaded it
import contextlib
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy

if TYPE_CHECKING:
    from types import CodeType, FrameType


# Code, line, and which frame it was: a generator function may be at work in many, of which one is somebody else's. By
# its identity, as a frame that is held would hold what a leak is told by.
Place = tuple["CodeType", int, int]

_INSIDE = str(Path(sqlalchemy.__file__ or "").parent), str(Path(__file__).parents[1]), "<sqlalchemy generated"
# What is below all that a thread does, or stands between.
_BELOW = {
    contextlib.__file__,
    threading.__file__,
    str(Path(threading.__file__).parent / "concurrent/futures/thread.py"),
}


# By the names of files, and not by code: Python works the hash of that out anew each time, from all that is in it.
_inside: dict[str, bool] = {}


def _is_inside(file: str) -> bool:
    """Whether it is a file of this package, of SQLAlchemy, or of what stands between."""
    _inside[file] = inside = file.startswith(_INSIDE) or file in _BELOW
    return inside


def place_of(frame: FrameType | None) -> Place | None:
    """The code and line of the user's that led to ``frame``; None where nothing of it is, as in a greenlet."""
    while frame is not None:
        file = (code := frame.f_code).co_filename
        if not (_inside[file] if file in _inside else _is_inside(file)):
            return code, frame.f_lineno, id(frame)
        frame = frame.f_back
    return None


def place_in_task() -> Place | None:
    """The same for whoever asks in a greenlet, as all of ``db.aio`` does: its caller's frames are its parent's."""
    from greenlet import getcurrent  # type: ignore[import-untyped]  # it has no types; and is not imported with db

    parent = getcurrent().parent
    return place_of(sys._getframe()) or place_of(None if parent is None else parent.gr_frame)  # noqa: SLF001 - likewise


def place_of_failure(error: BaseException) -> str | None:
    """The user's line through which ``error`` came first, as in "function.py:12 in handler"; None where it has none."""
    step = error.__traceback__
    while step is not None and _is_inside(step.tb_frame.f_code.co_filename):
        step = step.tb_next
    return None if step is None else _in_words((step.tb_frame.f_code, step.tb_lineno, 0))


def _in_words(place: Place) -> str:
    return f"{Path(place[0].co_filename).name}:{place[1]} in {place[0].co_qualname}"


def task_now() -> asyncio.Task[Any] | None:
    """The task that runs."""
    return asyncio.current_task()


def is_running_here(place: Place | None) -> bool:
    """Whether that code is still at work in this thread, below whoever asks."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - as in `connection_events`
    while frame is not None and place is not None:
        if frame.f_code is place[0] and id(frame) == place[2]:
            return True
        frame = frame.f_back
    return False


def in_words(taken_at: float, holder: asyncio.Task[Any] | int | None, place: Place | None, *, now: float) -> str:
    """As in "thread 'MainThread' for 1.2 s, from function.py:12 in handler"; ``holder`` is a task, or a thread."""
    if isinstance(holder, asyncio.Task):
        name = f"task {holder.get_name()!r}"
    else:
        found = next((one.name for one in threading.enumerate() if one.ident == holder), "that has ended")
        name = f"thread {found!r}"
    where = f", from {_in_words(place)}" if place else ""
    return f"{name} for {max(now - taken_at, 0.0):.1f} s{where}"
