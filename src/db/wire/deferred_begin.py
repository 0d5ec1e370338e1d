"""A connection that keeps BEGIN back, and sends it in the same flight as the transaction's first statement.

psycopg sends BEGIN alone and waits for it; here BEGIN, the prologue and due savepoint commands travel in pipeline mode
in front of the statement, so that they cost bytes and no trip. What comes of it (results, exceptions, transaction
state) is as psycopg's own: whoever would conclude something from the transaction's state while commands are due has
them sent first.

This reaches below psycopg's public interface: the generators that its sync and async classes share are overridden once
for both. tests/contract/test_psycopg_internals.py names each of them, and holds the version range. The cursor's half is
in ``cursors``; how a flight travels, in ``pipeline``; the classes that both are mixed into, in ``psycopg_connections``.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import psycopg
from psycopg import errors, generators, pq
from psycopg.sql import Composable

from .commit_outcome import Unit, is_refusal
from .pipeline import fly, hung_up, is_readable, raise_error
from .riders import Riders
from .session_leftovers import CLEANING

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Sequence

    from psycopg._connection_base import BaseConnection
    from psycopg._queries import PostgresQuery
    from psycopg.abc import PQGen
    from psycopg.pq.abc import PGconn, PGresult

    from .cursors import FlightCursorState
    from .riders import Command

    ConnectionMixin = BaseConnection[Any]
else:
    # Mixed into the sync class and its async twin, which is why it stands on neither here.
    ConnectionMixin = object

_OK = pq.ConnStatus.OK
_IDLE = pq.TransactionStatus.IDLE
_ACTIVE = pq.TransactionStatus.ACTIVE
_IN_TRANSACTION = pq.TransactionStatus.INTRANS
_IN_ERROR = pq.TransactionStatus.INERROR
_OPEN = {_ACTIVE, _IN_TRANSACTION, _IN_ERROR}
_FAILED = {pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.PIPELINE_ABORTED}
_COMMIT: Command = b"COMMIT", None
# To tell the server that nobody waits any more. It is another connection's handshake, and whoever asked to be
# interrupted has not much time.
CANCEL_S = 1.0
_NO_AUTOCOMMIT = (
    "a unit of work is a transaction of its own, and the driver's autocommit was set in it: what cannot run in a "
    'transaction goes over db.engine().connect().execution_options(isolation_level="AUTOCOMMIT")'
)


class Prologue(Protocol):
    """What a unit of work says behind BEGIN. Asked when the flight leaves, so that it is true of the time left then.

    With ``listens``, the answer decides whether the server may be used at all.
    """

    listens: bool

    def __call__(self, alone: bool) -> Command:
        """The statement. ``alone``, no BEGIN goes before it, and it makes what follows a read-only transaction."""
        ...

    def tell(self, tenant: str | None) -> None:
        """From the next transaction on, say this tenant."""
        ...

    def heard(self, result: PGresult) -> bool:
        """Whether the server that gave this answer to it is to be used; a connection to another is closed."""
        ...


class Gathering:
    """Statements that are collected first, and leave together when the result of the first is asked for."""

    def __init__(self) -> None:
        self.statements: list[PostgresQuery] = []
        self.is_complete = False
        self.results: deque[list[PGresult]] | None = None


class FlightState(ConnectionMixin):
    """What psycopg's connection classes have in common here: what is due, and whether the connection proved alive.

    ``prologue`` is sent behind each BEGIN. With ``single_reads`` a statement outside of a transaction needs no BEGIN:
    the prologue makes it a read-only transaction of its own, unless it is one that has to stand apart.
    ``patience_s`` gives the longest wait for an answer; beyond it the connection is closed. ``unit`` is told what
    becomes of each COMMIT. ``begun`` counts the transactions that were opened for it.
    """

    prologue: Prologue | None = None
    patience_s: Callable[[], float | None] | None = None
    unit: Unit | None = None
    single_reads = False
    begun = 0
    # Nothing has come back for this checkout yet: if a flight fails now, nothing was done for it.
    unproven = True
    # It was closed here, in the middle of an answer that nobody waits for any more.
    abandoned = False
    riders: Riders
    gathering: Gathering | None = None
    serves_until = math.inf  # wall clock; a pool replaces it then: it only stood in for another server
    last_error: bytes | None = None  # what the server said last of a statement that failed; leaving a pipeline loses it
    _shares_flight = False  # a cursor sends its statement together with what is due
    _flying = False
    _in_executemany = False  # the pipeline that is open ends with it
    _streams = False  # a cursor reads or writes rows while the statement runs, and brings that to an end itself
    # A listener of the pool's left a transaction open: it is not the unit's, and ends ahead of that.
    _left_open = False
    _is_pooled = False  # the session is another client's in the next transaction

    def serve(
        self,
        prologue: Prologue,
        patience_s: Callable[[], float | None],
        unit: Unit,
        *,
        isolation: str | None,
        read_only: bool,
        pooled: bool,
    ) -> None:
        """Work for ``unit`` until ``leave()``. Nothing of what was set or left open before holds for it."""
        self.prologue, self.patience_s, self.unit = prologue, patience_s, unit
        unit.connection = self
        # Not by psycopg's setters, each of which takes a lock and a generator to see that there is no transaction.
        self._autocommit, self._deferrable, self._begin_statement = False, None, b""
        self._isolation_level = None if isolation is None else psycopg.IsolationLevel[isolation.replace(" ", "_")]
        self._read_only = True if read_only else None
        self._left_open = self.pgconn.transaction_status in {_IN_TRANSACTION, _IN_ERROR}
        self._is_pooled = pooled
        self.begun = 0

    def leave(self) -> None:
        """The unit has ended, and with it what held for it."""
        if self.pgconn.transaction_status in _OPEN:
            # Nobody ended its transaction, as where a signal's handler raised ahead of that. Whoever comes next must
            # neither commit it nor work in it.
            self.abandon()
        self.prologue = self.patience_s = self.unit = self.gathering = None
        self.single_reads = self._is_pooled = self._left_open = False
        self._autocommit, self._deferrable, self._begin_statement = False, None, b""
        self._isolation_level = self._read_only = None
        if self.riders.begun:
            self.riders.clear()

    def parked(self) -> None:
        """A pool keeps the connection: it may die before its next user has sent anything."""
        if self.unit is not None:
            self.leave()  # what a signal's handler raised came in its way
        if self.riders.begun:
            self.riders.clear()
        self.unproven = True

    def drop_due(self) -> None:
        """The transaction has ended, and what was due with it."""
        if self.riders.begun:
            self.riders.clear()

    def take_over(self, stale: FlightState) -> None:
        """Stand in for ``stale``, which died before it did anything: the transaction to come is to be the same."""
        self.prologue, self.patience_s, self.unit = stale.prologue, stale.patience_s, stale.unit
        self.single_reads, self.riders = stale.single_reads, stale.riders
        self.riders.renew()
        self.gathering = stale.gathering
        if self.unit is not None:
            self.unit.connection = self
        self._autocommit, self._begin_statement = stale._autocommit, stale._begin_statement
        self._isolation_level, self._read_only = stale._isolation_level, stale._read_only
        self._deferrable = stale._deferrable
        self._is_pooled = stale._is_pooled
        self._left_open = self.pgconn.transaction_status in {_IN_TRANSACTION, _IN_ERROR}

    def is_quiet(self) -> bool:
        """Whether the socket is open and has nothing to say, as one that lives, or that died in silence. No trip."""
        return self.pgconn.status == _OK and not is_readable(self.pgconn.socket)

    @property
    def failed(self) -> bool:
        """Whether the server refuses everything but a rollback, and none is due."""
        return self.pgconn.transaction_status == _IN_ERROR and not self.riders.mends

    @property
    def transaction_status(self) -> pq.TransactionStatus:
        """The status as it would be, had all been sent that is due."""
        status = pq.TransactionStatus(self.pgconn.transaction_status)
        if (status == _IDLE and self.riders.begun) or (status == _IN_ERROR and self.riders.mends):
            return pq.TransactionStatus.INTRANS
        return status

    def must_open(self) -> bool:
        """Whether the next statement begins a transaction."""
        return not self._autocommit and (self._left_open or self.pgconn.transaction_status == _IDLE)

    def is_waiting(self) -> bool:
        """Whether the transaction is further than the server knows, so that its status would mislead."""
        if self._pipeline is not None:
            return False
        return bool(self.riders.due) or (self.riders.begun and self.must_open())

    def has_unit_to_open(self) -> bool:
        """Whether a unit of work has sent nothing yet: all that is done in it is undone with it."""
        return self.prologue is not None and not self.single_reads and self.must_open()

    def fly(self, *statements: Callable[[], None]) -> PQGen[list[list[PGresult]]]:
        """Send what is due, and ``statements`` with it; gives the results of each."""
        alone = self.single_reads and bool(statements) and not (self.riders.due or self.riders.modes)
        opens = self.must_open()
        self._check_connection_ok()
        commands, prologue_at = self._due(alone=alone)
        self.pgconn.enter_pipeline_mode()
        self._flying = True
        self.riders.sent()
        self._left_open = False
        answers, refusal = yield from fly(self.pgconn, commands, statements)
        self._flying = False
        last = answers[-1]
        if not last or last[-1].status in _FAILED:
            for results in answers[: len(commands)]:
                raise_error(self.pgconn, results)
        if refusal is not None:
            raise refusal
        if opens:
            self.begun += 1
            if self.prologue is not None and self.prologue.listens and prologue_at is not None:
                self._hear(self.prologue, answers[prologue_at])
        if self.pgconn.status == _OK:
            self.unproven = False
        return answers[len(commands) :]

    def _due(self, *, alone: bool) -> tuple[Sequence[Command], int | None]:
        """What is to be sent now, and the place of the prologue in it."""
        if not self.must_open():
            return self.riders.due, None
        opening = [_COMMIT] if self._left_open else []
        if not alone:
            opening += [(self._get_tx_start_command(), None), *self.riders.modes]
        if self.prologue is None:
            return opening + self.riders.due, None
        return [*opening, self.prologue(alone), *self.riders.due], len(opening)

    def _hear(self, prologue: Prologue, results: Sequence[PGresult]) -> None:
        """Close the connection where the prologue's answer says that this server is not to be used."""
        if not prologue.heard(results[0]):
            # Only reads have a prologue that listens, so it may be sent again elsewhere, as after a death.
            self.pgconn.finish()
            self.unproven = True
            raise psycopg.OperationalError("this server is not to be used now: connection closed")

    def settle(self) -> PQGen[None]:
        """Send what is due alone, for whoever looks at the transaction's status next."""
        if self.is_waiting():
            yield from self.fly()

    def say_again(self) -> None:
        """A statement ended the transaction and began another, which knows nothing of the unit yet."""
        self.drop_due()
        if self.prologue is not None and self.pgconn.transaction_status == _IN_TRANSACTION:
            text, values = self.prologue(alone=False)
            self.riders.add(text, values or ())

    def _is_idle(self) -> bool:
        """Whether there is no transaction to end, on either side."""
        return (
            self.pgconn.transaction_status == _IDLE
            and self._pipeline is None
            and not (self._num_transactions or self._tpc)
        )

    def _gave_up(self) -> psycopg.OperationalError:
        self.pgconn.finish()
        return psycopg.OperationalError("no answer from the server within the time that was left: connection closed")

    # What an exception leaves behind.

    def is_half_way(self, error: BaseException) -> bool:
        """Whether ``error`` came amid answers, which the next statement would take for its own.

        Closes the connection where ``error`` is the server's last word; what is half way is to be abandoned.
        """
        if isinstance(error, psycopg.Error) and (result := error.pgresult) is not None:
            self.last_error = result.error_message
            if hung_up(result):
                self.pgconn.finish()
        if self.pgconn.status != _OK:
            return False
        if self._pipeline is not None:
            # psycopg's own errors leave the pipeline's two queues in step.
            in_step = isinstance(error, psycopg.Error)
            return not in_step and bool(self._pipeline.result_queue or self.pgconn.transaction_status == _ACTIVE)
        if self._flying or self.pgconn.pipeline_status:
            return True
        return self.pgconn.transaction_status == _ACTIVE and not self._streams

    def blocks(self) -> tuple[bool, int]:
        """Which of psycopg's blocks are open: its pipeline, and how many ``transaction()``."""
        return self._pipeline is not None or bool(self.pgconn.pipeline_status), self._num_transactions

    def abandon(self) -> None:
        """Close the connection in the middle of an answer: nobody can read on, and nothing of it may be kept."""
        self.abandoned = True
        self.pgconn.finish()

    # What psycopg calls, in sync and async alike.

    def _start_query(self) -> PQGen[None]:
        """Before every statement. psycopg sends its BEGIN here, and waits."""
        if self._shares_flight:
            return
        if self._autocommit:
            if self.prologue is not None:
                raise psycopg.ProgrammingError(_NO_AUTOCOMMIT)
            self.unproven = False
        elif self.must_open() or self.riders.due:
            yield from self._send_due()

    def _send_due(self) -> PQGen[None]:
        """Send what is due without a statement, or leave it to the pipeline that is open."""
        pipeline = self._pipeline
        if pipeline is None:
            yield from self.fly()
            return
        opens = self.must_open()
        commands, prologue_at = self._due(alone=False)
        said = QueuedAnswer(self.pgconn)
        for place, (text, values) in enumerate(commands):
            pipeline.command_queue.append(partial(self.pgconn.send_query_params, text, values))
            pipeline.result_queue.append((said, None) if place == prologue_at else None)  # type: ignore[arg-type]
        self.riders.sent()
        self._left_open = False
        self.begun += opens
        listens = self.prologue is not None and self.prologue.listens
        if opens and (listens or not self._in_executemany):
            # As psycopg does: else libpq says that there is no transaction until the pipeline ends.
            yield from pipeline._sync_gen()
            if self.prologue is not None and listens:
                self._hear(self.prologue, said.results)

    def _exec_command(self, command: Any, result_format: pq.Format = pq.Format.TEXT) -> PQGen[PGresult | None]:
        """Send a command of psycopg's own: COMMIT, a server-side cursor's FETCH, the BEGIN of ``transaction()``."""
        opens = self.must_open() and command == self._get_tx_start_command()
        if opens or self.riders.due:
            yield from self._send_due()
        result = None
        if not opens:
            sending = super()._exec_command(command, result_format)
            result = yield from (self._noting(sending) if _commits(command, self) else sending)
        self.unproven = False
        return result

    def _commit_gen(self) -> PQGen[None]:
        if self._pipeline is not None or self._num_transactions or self._tpc or self.pgconn.transaction_status == _IDLE:
            yield from super()._commit_gen()
        else:
            yield from self._noting(self._send_commit())
        self.drop_due()

    def _send_commit(self) -> PQGen[PGresult]:
        send = partial(self.pgconn.send_query_params, *_COMMIT)
        if cleaning := self._cleaning():
            results, *_ = yield from self.fly(send, *cleaning)
        elif self.riders.due:
            (results,) = yield from self.fly(send)
        else:
            self._check_connection_ok()
            self.pgconn.send_query(_COMMIT[0])
            results = yield from generators.execute(self.pgconn)
        if results[0].status in _FAILED:
            raise_error(self.pgconn, results)
        return results[0]

    def _noting(self, sending: PQGen[PGresult | None]) -> PQGen[PGresult | None]:
        """What comes of ``sending`` a COMMIT, which is written down before and after."""
        unit = self.unit or Unit()
        unit.outcome_unknown = True
        try:
            result = yield from sending
        except BaseException as error:
            unit.commit_failed(error, refused=self.is_refusal(error))
            raise
        if result is not None:
            unit.commit_answered(committed=is_commit(result))
        elif self._pipeline is not None:
            # In a pipeline the answer comes later. psycopg has queued that nobody asks for it.
            self._pipeline.result_queue[-1] = QueuedCommit(self.pgconn, unit), None  # type: ignore[assignment]
        return result

    def commit_interrupted(self, error: BaseException) -> None:
        """``error`` came out of ``commit()``. psycopg reads on to the answer, but whoever is interrupted hears none."""
        if not isinstance(error, psycopg.Error):
            unit = self.unit or Unit()
            unit.outcome_unknown = True
            unit.commit_failed(error, refused=False)

    def is_refusal(self, error: BaseException) -> bool:
        """Whether ``error`` is the server's word that a COMMIT did not take place."""
        if not isinstance(error, psycopg.Error):
            return False
        lost = self.pgconn.status != _OK or (error.pgresult is not None and hung_up(error.pgresult))
        return is_refusal(error, lost=lost)

    def _cleaning(self) -> list[Callable[[], None]]:
        """What makes the session fit for another client, where a pooler gives it to one after this transaction."""
        if not self._is_pooled or self.unit is None or not self.unit.leaves:
            return []
        return [partial(self.pgconn.send_query_params, text, None) for text in CLEANING]

    def _rollback_gen(self) -> PQGen[None]:
        self.drop_due()
        if (cleaning := self._cleaning()) and self._pipeline is None and self.pgconn.transaction_status != _IDLE:
            results, *_ = yield from self.fly(partial(self.pgconn.send_query_params, b"ROLLBACK", None), *cleaning)
            raise_error(self.pgconn, results)
        yield from super()._rollback_gen()

    def _check_intrans_gen(self, attribute: str) -> PQGen[None]:
        yield from self.settle()
        if not self._left_open:
            yield from super()._check_intrans_gen(attribute)

    def _tpc_begin_gen(self, xid: Any) -> PQGen[None]:
        yield from self.settle()
        yield from super()._tpc_begin_gen(xid)


class QueuedAnswer:
    """An answer within a pipeline of psycopg's, in the place of the cursor that one is otherwise given to."""

    def __init__(self, pgconn: PGconn) -> None:
        self._pgconn = pgconn
        self.results: list[PGresult] = []

    def _check_results(self, results: list[PGresult]) -> None:
        raise_error(self._pgconn, results)
        if any(result.status == pq.ExecStatus.PIPELINE_ABORTED for result in results):
            raise errors.PipelineAborted("pipeline aborted")

    def _set_results(self, results: list[PGresult]) -> None:
        self.results = results


class QueuedCommit(QueuedAnswer):
    """The answer to a COMMIT there, of which the unit is told; ``cursor`` is given it, where that had sent a text."""

    def __init__(self, pgconn: PGconn, unit: Unit, cursor: FlightCursorState | None = None) -> None:
        super().__init__(pgconn)
        self.unit = unit
        self.cursor = cursor
        self._conn = cursor and cursor._conn  # psycopg looks for it, where a text might be prepared

    def _check_results(self, results: list[PGresult]) -> None:
        # The end of the session says nothing of what it did last.
        if not any(hung_up(result) for result in results):
            self.unit.commit_answered(committed=any(is_commit(result) for result in results))
        if self.cursor is None:
            super()._check_results(results)
        else:
            self.cursor._check_results(results)

    def _set_results(self, results: list[PGresult]) -> None:
        if self.cursor is not None:
            self.cursor._set_results(results)


def is_commit(result: PGresult) -> bool:
    """Whether the server has committed: of a transaction that had failed, it says ROLLBACK."""
    return (result.command_status or b"").startswith(b"COMMIT")


def _commits(command: Any, connection: FlightState) -> bool:
    if isinstance(command, Composable):
        command = command.as_bytes(connection)
    return command.startswith(b"COMMIT")  # type: ignore[no-any-return]
