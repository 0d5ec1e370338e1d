"""SIGTERM, the last thing that an execution environment hears, and what is done before it ends.

Lambda sends it only to functions that have an extension; others are killed without a word. So an internal extension is
registered, one that subscribes to nothing. The signal comes when the environment is shut down, and when an invocation
has run into the function's timeout; it leaves 300 to 500 ms.
https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-shutdown
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from db.settings import single
from db.telemetry.log import log_no_shutdown_hook, log_shutdown

from . import process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from http.client import HTTPConnection
    from types import FrameType

    Previous = Callable[[int, FrameType | None], Any] | int | None

EXTENSION = "serverless-data-access"
_EXTENSIONS_API = "/2020-01-01/extension"
_REGISTER_S = 1.0  # the server is on this machine: one that does not answer at once does not answer
# All cancels together. The runtime has 300 ms where an external extension is there too; psycopg lets a signal in when
# it has waited for up to 100 of them, and the log line and a handler of the user's come after.
_CANCEL_S = 0.1

# The extension's question for its next event. It is asked, or Init would not end; the answer never comes, as it
# subscribes to none, so nobody waits for it; and it stays open, for who hangs up is an extension that crashed.
_questions: list[HTTPConnection] = []
_installing = threading.Lock()
_installed = False


def wanted(environ: Mapping[str, str], version: tuple[int, int]) -> bool:
    """Whether this process is told of its end, and can listen.

    Before Python 3.12, Lambda's runtime waits for the next event where no signal handler of Python's can run. What a
    registration does in an environment that is restored from a snapshot is not documented: there is none.
    """
    return (
        "AWS_LAMBDA_RUNTIME_API" in environ
        and version >= (3, 12)
        and environ.get("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand") != "snap-start"
        and bool(single(environ, "shutdown_hook"))
    )


def install(report: Callable[[], None]) -> None:
    """On SIGTERM close every connection, call ``report``, and end the process: once per process, inside Lambda only.

    To be called during Init. A handler for SIGTERM that was there before is called last, and then decides about the
    end. Never raises: a function that cannot register works all the same.

    Costs some 6 ms of a cold start's CPU, 4 of them for the import of ``http.client``, which fetching a secret needs
    anyway; no thread. The environment's shutdown then takes as long as closing does, milliseconds, instead of none.
    """
    global _installed  # noqa: PLW0603 - a process has one handler for a signal
    with _installing:
        if _installed or not wanted(os.environ, sys.version_info[:2]):
            return
        _installed = True
    try:
        _listen(report)
        _register(os.environ["AWS_LAMBDA_RUNTIME_API"])
    except Exception as error:  # noqa: BLE001 - see the promise above
        log_no_shutdown_hook(f"{type(error).__name__}: {error}")


def _listen(report: Callable[[], None]) -> None:
    """Handle SIGTERM. Raises ValueError outside the main thread."""
    previous: Previous = signal.getsignal(signal.SIGTERM)
    if previous is None:
        raise ValueError("SIGTERM has a handler that Python cannot call")

    environment = os.getpid()

    def on_sigterm(number: int, frame: FrameType | None) -> None:
        if os.getpid() != environment:  # a child that the function forked, and whoever terminates it means it
            signal.signal(signal.SIGTERM, previous)
            os.kill(os.getpid(), number)
            return
        for step in (close_connections, report):
            with contextlib.suppress(Exception):  # what was interrupted may have been printing
                step()
        _end(previous, number, frame)

    signal.signal(signal.SIGTERM, on_sigterm)


def _register(address: str) -> None:
    """Register the extension. Raises OSError, HTTPException or ValueError where it is not to be had."""
    # Slow to import, and most handlers need it later or never.
    from http.client import HTTPConnection

    answer = _request(HTTPConnection(address, timeout=_REGISTER_S))
    question = HTTPConnection(address)
    question.request("GET", f"{_EXTENSIONS_API}/event/next", headers={"Lambda-Extension-Identifier": answer})
    _questions.append(question)


def _request(connection: HTTPConnection) -> str:
    """The identifier that the registration is answered with."""
    with contextlib.closing(connection):
        headers = {"Lambda-Extension-Name": EXTENSION, "Content-Type": "application/json"}
        connection.request("POST", f"{_EXTENSIONS_API}/register", b'{"events":[]}', headers)
        answer = connection.getresponse()
        said = answer.read(200).decode(errors="replace")
        identifier = answer.getheader("Lambda-Extension-Identifier")
    if answer.status != 200 or not identifier:  # noqa: PLR2004 - OK
        raise ValueError(f"the Extensions API answered {answer.status}: {said}")
    return identifier


def close_connections() -> None:
    """Close every connection of this process at once, those of statements under way too, and log how many.

    Safe in a signal handler: takes no lock and waits for no longer than 0.1 s in all. A statement under way is
    cancelled, as a server does not notice that its client has gone before it has an answer for it.
    """
    at_work = process.runtimes()
    if not at_work:
        return
    started, outcomes = time.perf_counter(), {"closed": 0, "cancelled": 0, "failed": 0}
    for connection in [found for now in at_work for found in now.open_connections()]:
        left_s = _CANCEL_S - (time.perf_counter() - started)
        outcomes[_close(connection, left_s)] += 1
    log_shutdown(**outcomes, duration_ms=round((time.perf_counter() - started) * 1000, 3))


def _close(connection: Any, left_s: float) -> str:
    """Close one driver connection, or asyncio's adapter of one, and say how that went."""
    driver = getattr(connection, "driver_connection", connection)
    pgconn = getattr(driver, "pgconn", None)
    try:
        if (cut_off := getattr(driver, "cut_off", None)) is not None:  # PyMySQL's
            return str(cut_off(left_s))
        if pgconn is None:  # SQLite's, or asyncpg's
            getattr(driver, "hang_up", connection.close)()
            return "closed"
        driver.unproven = False  # what is lost now is not sent again over a new one
        return _cut_off(pgconn, left_s) if _busy(pgconn) else _finish(pgconn)
    except Exception:  # noqa: BLE001 - the next one is to be closed as well
        return "failed"


def _busy(pgconn: Any) -> bool:
    from psycopg.pq import TransactionStatus

    return bool(pgconn.transaction_status == TransactionStatus.ACTIVE)


def _finish(pgconn: Any) -> str:
    pgconn.finish()
    return "closed"


def _cut_off(pgconn: Any, left_s: float) -> str:
    """Cancel the statement under way and hang up. Raises whatever keeps the cancel from arriving within ``left_s``."""
    from psycopg import generators, waiting

    try:
        request = pgconn.cancel_conn()
        request.start()
        waiting.wait_conn(generators.cancel(request), interval=max(left_s, 0), timeout=max(left_s, 0))
    finally:
        # Not finish(): whoever was interrupted is inside of libpq with this connection, and where a handler of the
        # user's lets it go on, it must find an error there and not freed memory.
        with socket.socket(fileno=os.dup(pgconn.socket)) as line:
            line.shutdown(socket.SHUT_RDWR)
    return "cancelled"


def _end(previous: Previous, number: int, frame: FrameType | None) -> None:
    if callable(previous):
        previous(number, frame)
    elif previous != signal.SIG_IGN:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        # Not sys.exit(): it would wait for the thread in which Lambda's runtime asks for the next event, and psycopg
        # would wait for the statement that it interrupts.
        os._exit(0)
