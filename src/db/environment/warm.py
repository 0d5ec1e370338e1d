"""``DB_WARM=init``: the secret is fetched and the connection opened while Init lasts, and not by the first event.

Init has more of the processor than a small function has, and under provisioned concurrency nobody waits for it. Not
under SnapStart, whose snapshot may hold neither.
"""

from __future__ import annotations

import inspect
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from db.settings import single
from db.telemetry.log import warn_of_cold_start
from db.timing.deadline import Deadline
from db.timing.invocation import Invocation, running

from . import event_loop, process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import Engine

# Lambda ends an Init that has taken 10 s, and begins another within the first event's own time.
INIT_S = 5.0

_warming = threading.Lock()
_done = False


def wanted(environ: Mapping[str, str]) -> bool:
    """Whether this Init is to connect: by what ``db.configure`` was given so far, or else by the variable."""
    now = process.DEFAULT.peek()
    asked = now.settings.warm if now is not None else single(environ, "warm")
    return (
        asked == "init"
        and "AWS_LAMBDA_RUNTIME_API" in environ
        and environ.get("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand") != "snap-start"
    )


def connect_in_init(handler: Callable[..., Any]) -> None:
    """Have the pool of the engine that ``handler`` will use hold a connection: once a process, where it is wanted.

    Never raises: what stands in the way is logged, and whoever first uses the database meets it, or does no more. Takes
    ``INIT_S`` at most.
    """
    global _done  # noqa: PLW0603 - a process has one Init
    with _warming:
        if _done or not wanted(os.environ):
            return
        _done = True
    init = Invocation(
        request_id=None, deadline=Deadline(at=time.time() + INIT_S, length_s=INIT_S), cold=True, is_init=True
    )
    try:
        with running(init, alone=False):
            _connect(asynchronous=inspect.iscoroutinefunction(handler))
    except Exception as error:  # noqa: BLE001 - see the promise above
        warn_of_cold_start(error)


def _connect(*, asynchronous: bool) -> None:
    engine = process.current().engine("writer", asynchronous=asynchronous)
    if not asynchronous:
        _check_out(engine)
        return
    from sqlalchemy.util import greenlet_spawn

    event_loop.run(greenlet_spawn(_check_out, engine))


def _check_out(engine: Engine) -> None:
    engine.connect().close()
