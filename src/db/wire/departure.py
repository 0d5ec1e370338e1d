"""Statements that leave in one flight with the BEGIN and the COMMIT of their transaction, and what is known of that.

Each is executed once, by SQLAlchemy: its cursor takes the statement in, and says ``NotYet``. Whoever executes it waits
there for the others (``replay`` asks it to), and executes it again; the first one that does sends all, and each finds
its own answer.

A first flight without COMMIT may be sent again whenever its connection died. This one may have committed, so it is sent
again only where it is known not to have committed: the connection's end had come before anything left; the server says
in words, in place of an earlier answer than that to COMMIT, that it ends the session; a pooler says that it had no
server for it.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors, pq
from psycopg.adapt import Transformer

from db.errors import is_in_words, ran_nowhere, sqlstate

from .deferred_begin import COMMIT
from .pipeline import is_answer
from .queued_answers import is_commit
from .serving import LEAVES_TOGETHER, WAITED_S, NotYet
from .session_leftovers import CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psycopg.abc import Params, PQGen
    from psycopg.pq.abc import PGresult
    from sqlalchemy.engine import ExecutionContext

    from .commit_outcome import Unit
    from .cursors import FlightCursorState
    from .statement_kinds import Kind
    from .transaction_end import FlightState

_FATAL_ERROR = pq.ExecStatus.FATAL_ERROR
_OPEN = {pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR}
# What the server says to a session that it ends, in place of an answer; what was sent behind that is never run.
_ENDS_SESSION = {"57P01", "57P05"}  # admin_shutdown, idle_session_timeout
_ABORTED = "an error in what left together with this statement: it was not run"
_NOT_OF_THEM = "a listener's statement cannot go between those that leave together with COMMIT"
_ENDS = "a listener has made of the statement one that ends the transaction, which is the call's own"
_ASKS_FIRST = (
    "a default of the statement is asked of the server ahead of it (a Sequence, or an expression for a key that no "
    "RETURNING brings back), so that it cannot leave in one flight: db.begin sends it in two"
)


class Departure:
    """The statements of one unit of work that leave together with its COMMIT.

    ``pause`` is what a statement's execution does until it is its turn. ``refused`` holds the error that came where the
    answer to COMMIT should have, each statement having gone well: a constraint that was deferred, for one.
    """

    def __init__(self, pause: Callable[[], None]) -> None:
        self._pause = pause
        self.refused: psycopg.Error | None = None
        self._taken: dict[FlightCursorState, Any] = {}
        self._answers: dict[FlightCursorState, list[PGresult]] = {}
        self._is_off = False

    def call_off(self) -> None:
        """Send nothing any more: whoever waits for it, and has no answer yet, is told so."""
        self._is_off = True

    def _wait(self, context: ExecutionContext) -> None:
        if LEAVES_TOGETHER not in context.execution_options:
            raise psycopg.NotSupportedError(_NOT_OF_THEM)
        # SQLAlchemy asks for such a default before it has put the parameters together.
        if getattr(context, "parameters", None) is None:
            raise psycopg.NotSupportedError(_ASKS_FIRST)
        began_s = time.perf_counter()
        self._pause()
        context.__dict__[WAITED_S] = time.perf_counter() - began_s

    def execute(self, cursor: FlightCursorState, query: str, params: Params | None, kind: Kind) -> PQGen[None]:
        """Take a statement in; the second time, give it its answer. The first one that asks sends them all."""
        if cursor not in self._taken:
            if kind.ends:
                raise psycopg.NotSupportedError(_ENDS)
            cursor._reset()
            cursor._tx = Transformer(cursor)
            cursor._note_leftovers(kind, params)
            self._taken[cursor] = cursor._convert_query(query, params)
            raise NotYet(self._wait)
        first = next(iter(self._taken))
        if cursor is first and not self._is_off:
            yield from self._leave(cursor._conn)
        results = self._answers.get(cursor)
        if not results:
            raise errors.PipelineAborted(_ABORTED)
        cursor._check_results(results)
        cursor._set_results(results)

    def _leave(self, conn: FlightState) -> PQGen[None]:
        for cursor in self._taken:
            cursor.move_to(conn)  # which may be another by now
        conn._require_no_end()
        unit, was_unproven = conn.noted(), conn.unproven
        statements = [cursor._send(pgq) for cursor, pgq in self._taken.items()]
        ahead, commit, cleaning = _ending(conn)
        commit_at = len(statements) + len(ahead)
        unit.outcome_unknown = True
        conn.unproven = False  # from here on it may have committed
        try:
            answers = yield from conn.fly(*statements, *ahead, commit, *cleaning)
        except psycopg.Error as error:
            _note_end(conn, unit, error, ahead_of_commit=True, was_unproven=was_unproven)
            raise
        if any(map(is_commit, answers[commit_at])):
            unit.commit_answered(committed=True)
            unit.block_ended = True  # whatever is raised from here on came behind it
        else:
            place, reason, goes_on = _first_error(conn, answers)
            if goes_on:
                # Behind an error the server passes over all that the flight still holds, the COMMIT among it.
                unit.commit_answered(committed=False)
            else:
                _note_end(conn, unit, reason, ahead_of_commit=place < commit_at, was_unproven=was_unproven)
                if conn.unproven:
                    raise reason  # here, where it may be sent again
            if place >= len(statements):
                self.refused = reason
        self._answers = dict(zip(self._taken, answers, strict=False))


def _ending(
    conn: FlightState,
) -> tuple[Sequence[Callable[[], None]], Callable[[], None], Sequence[Callable[[], None]]]:
    """What goes ahead of COMMIT, COMMIT, and what goes behind it: as where that is a flight of its own."""
    commit = partial(conn.pgconn.send_query_params, *COMMIT)
    cleaning = conn._cleaning()
    return [partial(conn.pgconn.send_query_params, CHECKING, None)] if cleaning else [], commit, cleaning


def _first_error(conn: FlightState, answers: Sequence[Sequence[PGresult]]) -> tuple[int, psycopg.Error, bool]:
    """The place of what failed first, its error, and whether the session goes on behind that."""
    place, failed = next(
        (place, result) for place, results in enumerate(answers) for result in results if result.status == _FATAL_ERROR
    )
    error = errors.error_from_result(failed, encoding=conn.pgconn._encoding)
    return place, error, is_answer(failed) and not is_in_words(error)


def _note_end(
    conn: FlightState, unit: Unit, error: psycopg.Error, *, ahead_of_commit: bool, was_unproven: bool
) -> None:
    """Write down what ``error``, which came in place of the answers, tells of the COMMIT."""
    if ahead_of_commit and (sqlstate(error) in _ENDS_SESSION or ran_nowhere(error)):
        # As certain as of a flight without COMMIT that nothing was done: it may be sent again, as that.
        unit.outcome_unknown, conn.unproven = False, was_unproven
    elif conn.pgconn.transaction_status in _OPEN or (conn.is_refusal(error) and not is_in_words(error)):
        unit.outcome_unknown = False
    else:
        unit.commit_failed(error, refused=False)
