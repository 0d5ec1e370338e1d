"""Who holds a connection: for the error of whoever waited for it in vain.

Noted at each checkout, so it costs no call: a walk over frames, until one is the user's.
"""

from __future__ import annotations

import asyncio  # SQLAlchemy has loaded it
import contextlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy

if TYPE_CHECKING:
    from types import CodeType, FrameType


_INSIDE = str(Path(sqlalchemy.__file__ or "").parent), str(Path(__file__).parents[1])


class _IsInside(dict["CodeType", bool]):
    """Whether code is of this package, of SQLAlchemy, or of what stands between."""

    def __missing__(self, code: CodeType) -> bool:
        file = code.co_filename
        self[code] = inside = file.startswith(_INSIDE) or file == contextlib.__file__
        return inside


_is_inside = _IsInside()


def place_of(frame: FrameType | None) -> tuple[CodeType, int] | None:
    """The code and line of the user's that led to ``frame``; None where nothing of it is, as in a greenlet."""
    while frame is not None:
        if not _is_inside[frame.f_code]:
            return frame.f_code, frame.f_lineno
        frame = frame.f_back
    return None


def task_now() -> asyncio.Task[Any] | None:
    """The task that runs; its place is looked up when it is asked for, as its frames are not those of a greenlet."""
    return asyncio.current_task()


def in_words(
    taken_at: float, thread: int | None, taken_from: tuple[CodeType, int] | asyncio.Task[Any] | None, *, now: float
) -> str:
    """As in "thread 'MainThread' for 1.2 s, from function.py:12 in handler"."""
    if isinstance(taken_from, asyncio.Task):
        name, place = f"task {taken_from.get_name()!r}", _place_of_task(taken_from)
    else:
        found = next((one.name for one in threading.enumerate() if one.ident == thread), "that has ended")
        name, place = f"thread {found!r}", taken_from
    where = f", from {Path(place[0].co_filename).name}:{place[1]} in {place[0].co_qualname}" if place else ""
    return f"{name} for {max(now - taken_at, 0.0):.1f} s{where}"


def _place_of_task(task: asyncio.Task[Any]) -> tuple[CodeType, int] | None:
    frames = task.get_stack(limit=1)
    return (frames[0].f_code, frames[0].f_lineno) if frames else None
