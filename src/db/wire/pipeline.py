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
    from psycopg.pq.abc import PGconn, PGresult

    from .riders import Command

_FATAL_ERROR = pq.ExecStatus.FATAL_ERROR
_PIPELINE_SYNC = pq.ExecStatus.PIPELINE_SYNC
_SEVERITY = pq.DiagnosticField.SEVERITY_NONLOCALIZED
_LAST_WORDS = {b"FATAL", b"PANIC"}


def fly(
    pgconn: PGconn, commands: Sequence[Command], statements: Sequence[Callable[[], None]]
) -> PQGen[tuple[list[list[PGresult]], psycopg.Error | None]]:
    """Send ``commands``, and ``statements`` by calling them, in one flight over a connection in pipeline mode.

    Gives the results of each, and libpq's own refusal where it would not take one of them. The connection is out of
    pipeline mode then, or closed if it was lost; an exception leaves it half way, of no use to anyone.
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
    answers: list[list[PGresult]] = []
    try:
        yield from generators.send(pgconn)
        yield from _fetch(pgconn, answers)
        pgconn.exit_pipeline_mode()
    except psycopg.OperationalError:
        pgconn.finish()
        # The server may have said why before it hung up: that is the better error.
        if not any(result.status == _FATAL_ERROR for results in answers for result in results):
            raise
    return _by_command(answers, sent), refusal


def _fetch(pgconn: PGconn, answers: list[list[PGresult]]) -> PQGen[None]:
    """Append the results of each command to ``answers``, up to the answer to the sync.

    psycopg's ``fetch_many``, of which each command would take a call, costs more here than all the rest of a flight.
    """
    answers.append([])
    while True:
        if pgconn.is_busy():
            while not (yield Wait.R):
                continue
            pgconn.consume_input()
        elif (result := pgconn.get_result()) is None:
            answers.append([])
        elif result.status == _PIPELINE_SYNC:
            answers.pop()
            break
        else:
            answers[-1].append(result)
            if result.status == _FATAL_ERROR and (hung_up(result) or pgconn.status != pq.ConnStatus.OK):
                raise psycopg.OperationalError("the connection was lost")  # why, that result says
    while (notify := pgconn.notifies()) is not None:
        if pgconn.notify_handler is not None:
            pgconn.notify_handler(notify)


def hung_up(result: PGresult) -> bool:
    """Whether an error is the server's last word: it ends the connection then, whether or not that has come yet."""
    return result.error_field(_SEVERITY) in _LAST_WORDS


def is_answer(result: PGresult) -> bool:
    """Whether an error is the server's answer to a statement, after which it goes on."""
    return result.error_field(_SEVERITY) == b"ERROR"


def _by_command(answers: list[list[PGresult]], sent: int) -> list[list[PGresult]]:
    """One list of results for each command that was sent, empty where the connection was lost before its answer."""
    by_command = answers[:sent] + [[]] * (sent - len(answers))
    # Without BEGIN the sync commits, and a deferred constraint may refuse that: an error of the last statement's.
    if of_the_sync := [result for results in answers[sent:] for result in results]:
        by_command[-1] = of_the_sync
    return by_command


def raise_error(pgconn: PGconn, results: Sequence[PGresult]) -> None:
    """Raise the error that is among ``results``, as psycopg would."""
    for result in results:
        if result.status == _FATAL_ERROR:
            raise errors.error_from_result(result, encoding=pgconn._encoding)


def is_readable(fileno: int) -> bool:
    """Whether the socket has something to say, its end included. Costs no trip."""
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([fileno], [], [], 0)[0])
    poll = select.poll()
    poll.register(fileno, select.POLLIN)
    return bool(poll.poll(0))
