"""One flight on the wire: commands and statements in libpq's pipeline mode, up to a sync, and their answers.

Knows connections of libpq and generators that wait, as psycopg's own; nothing of cursors, transactions or SQL.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

import psycopg
from psycopg import errors, generators, pq
from psycopg.waiting import Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psycopg.abc import PQGen
    from psycopg.pq import PGnotify
    from psycopg.pq.abc import PGconn, PGresult

    from .riders import Command

# As numbers, which libpq gives: with a member of an enum Python compares one five times as slowly.
_OK = int(pq.ConnStatus.OK)
_FATAL_ERROR = int(pq.ExecStatus.FATAL_ERROR)
_PIPELINE_SYNC = int(pq.ExecStatus.PIPELINE_SYNC)
_SEVERITY = pq.DiagnosticField.SEVERITY_NONLOCALIZED
_READABLE = Wait.R
_LAST_WORDS = {b"FATAL", b"PANIC"}


def fly(
    pgconn: PGconn, commands: Sequence[Command], statements: Sequence[Callable[[], None]]
) -> PQGen[tuple[list[list[PGresult]], psycopg.Error | None]]:
    """Send ``commands``, and ``statements`` by calling them, in one flight over a connection in pipeline mode.

    Gives the results of each, none where the connection was lost before its answer, and libpq's own refusal where it
    would not take one of them. The connection is out of pipeline mode then, or closed if it was lost; an exception
    leaves it half way, of no use to anyone.
    """
    refusal = None
    sent = 0
    try:
        for text, values in commands:
            pgconn.send_query_params(text, values)
            sent += 1
        for send in statements:
            send()
            sent += 1
    except psycopg.Error as error:
        # Of too many parameters for example. What it took before is sent all the same.
        refusal = error
    pgconn.pipeline_sync()
    return _land(pgconn, sent, refusal)


def _land(
    pgconn: PGconn, sent: int, refusal: psycopg.Error | None
) -> PQGen[tuple[list[list[PGresult]], psycopg.Error | None]]:
    """Read up to the answer to the sync.

    psycopg's ``fetch_many``, of which each command would take a call, costs more here than all the rest of a flight.
    """
    # A place more than was sent: without BEGIN the sync commits, and what it says then is no command's answer.
    answers: list[list[PGresult]] = [[] for _ in range(sent + 1)]
    at = 0
    failed = False
    try:
        yield from generators.send(pgconn)
        while True:
            if pgconn.is_busy():
                while not (yield _READABLE):
                    continue
                pgconn.consume_input()
            elif (result := pgconn.get_result()) is None:
                at += 1
            elif (status := result.status) == _PIPELINE_SYNC:
                break
            else:
                answers[at].append(result)
                if status == _FATAL_ERROR:
                    failed = True
                    _require_line(pgconn, result)
        pgconn.exit_pipeline_mode()
    except psycopg.OperationalError:
        pgconn.finish()
        # The server may have said why before it hung up: that is the better error.
        if not failed:
            raise
    if of_the_sync := answers.pop():
        # A deferred constraint refuses what the sync would commit: an error of the last statement's.
        answers[-1] = of_the_sync
    return answers, refusal


def _require_line(pgconn: PGconn, result: PGresult) -> None:
    if hung_up(result) or pgconn.status != _OK:
        raise psycopg.OperationalError("the connection was lost")  # why, that result says


def hear(pgconn: PGconn, notify: PGnotify | None) -> None:
    """Tell of ``notify``, and of all that have come by now."""
    while notify is not None:
        if pgconn.notify_handler is not None:
            pgconn.notify_handler(notify)
        notify = pgconn.notifies()


def hung_up(result: PGresult) -> bool:
    """Whether an error is the server's last word: it ends the connection then, whether or not that has come yet."""
    return result.error_field(_SEVERITY) in _LAST_WORDS


def is_answer(result: PGresult) -> bool:
    """Whether an error is the server's answer to a statement, after which it goes on."""
    return result.error_field(_SEVERITY) == b"ERROR"


def raise_error(pgconn: PGconn, results: Sequence[PGresult]) -> None:
    """Raise the error that is among ``results``, as psycopg would."""
    for result in results:
        if result.status == _FATAL_ERROR:
            raise errors.error_from_result(result, encoding=pgconn._encoding)


def listener(fileno: int) -> Callable[[float], object]:
    """What tells, called with 0, whether the socket has something to say, its end included. Costs no trip."""
    if not hasattr(select, "poll"):  # Windows
        return lambda timeout: select.select([fileno], [], [], timeout)[0]
    poll = select.poll()
    poll.register(fileno, select.POLLIN)
    return poll.poll


def is_readable(fileno: int) -> bool:
    """The same, of a socket that is asked about once."""
    return bool(listener(fileno)(0))
