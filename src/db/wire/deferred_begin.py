"""A connection that keeps BEGIN back, and sends it in the same flight as the transaction's first statement.

psycopg sends BEGIN alone and waits for it; here BEGIN, the prologue and due savepoint commands travel in pipeline mode
in front of the statement, so that they cost bytes and no trip. What comes of it (results, exceptions, transaction
state) is as psycopg's own: whoever would conclude something from the transaction's state while commands are due has
them sent first.

This reaches below psycopg's public interface: the generators that its sync and async classes share are overridden once
for both. tests/contract/test_psycopg_internals.py names each of them, and holds the version range. The cursor's half is
in ``cursors``; whom a connection works for, in ``serving``; how a flight travels, in ``pipeline``; the classes that all
this is mixed into, in ``psycopg_connections``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ref

import psycopg
from psycopg import errors, generators, pq
from psycopg.sql import Composable

from db.errors import ConfigurationError

from .commit_outcome import is_refusal
from .pipeline import fly, hung_up, is_readable, raise_error
from .queued_answers import QueuedAnswer, QueuedCommit, is_commit
from .search_path import NO_AUTOCOMMIT
from .serving import ServingState
from .session_leftovers import CLEANING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psycopg.abc import PQGen
    from psycopg.pq.abc import PGresult

    from .riders import Command
    from .serving import Prologue

_OK = pq.ConnStatus.OK
_IDLE = pq.TransactionStatus.IDLE
_ACTIVE = pq.TransactionStatus.ACTIVE
_IN_TRANSACTION = pq.TransactionStatus.INTRANS
_READS = 3  # the server's last words, and the end of the stream; one more for a notice before them
_FAILED = {pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.PIPELINE_ABORTED}
_COMMIT: Command = b"COMMIT", None
# To tell the server that nobody waits any more. It is another connection's handshake, and whoever asked to be
# interrupted has not much time.
CANCEL_S = 1.0
_NO_AUTOCOMMIT = (
    "a unit of work is a transaction of its own, and the driver's autocommit was set in it: what cannot run in a "
    'transaction goes over db.engine().connect().execution_options(isolation_level="AUTOCOMMIT")'
)


class FlightState(ServingState):
    """What psycopg's connection classes have in common here: how what is due is sent, and what comes back."""

    last_error: bytes | None = None  # what the server said last of a statement that failed; leaving a pipeline loses it
    last_words: psycopg.Error | None = None  # why the server ended the session, said while nobody waited
    _shares_flight = False  # a cursor sends its statement together with what is due
    _flying = False
    _in_executemany = False  # the pipeline that is open ends with it
    _streams = False  # a cursor reads or writes rows while the statement runs, and brings that to an end itself

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
            try:
                for results in answers[: len(commands)]:
                    raise_error(self.pgconn, results)
            except psycopg.Error as error:
                if self.prologue is None and self.plain_prologue is not None:
                    self.plain_prologue.require_function(error)
                raise
        if opens:
            self.begun += 1
            if self.prologue is not None and self.prologue.listens and prologue_at is not None:
                self._hear(self.prologue, answers[prologue_at])
        if refusal is not None:
            raise refusal
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
            if self.plain_prologue is not None:
                opening.append((self.plain_prologue.text, None))
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
        if self.pgconn.transaction_status != _IN_TRANSACTION:
            return
        self.begun += 1
        if self.prologue is not None:
            text, values = self.prologue(alone=False)
            self.riders.add(text, values or ())
        elif self.plain_prologue is not None:
            self.riders.add(self.plain_prologue.text, ())

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
        if isinstance(error, psycopg.Error) and error.pgresult is not None:
            return False  # the answer to a statement of psycopg's own, which reads on
        return self.pgconn.transaction_status == _ACTIVE and not self._streams

    def blocks(self, *, transactions: bool) -> int:
        """How many of psycopg's blocks are open: of ``transaction()``, or whether its pipeline is."""
        if transactions:
            return self._num_transactions
        return self._pipeline is not None or bool(self.pgconn.pipeline_status)

    # What psycopg calls, in sync and async alike.

    def _start_query(self) -> PQGen[None]:
        """Before every statement. psycopg sends its BEGIN here, and waits."""
        if self._shares_flight:
            return
        if self._autocommit:
            if self.prologue is not None:
                raise psycopg.ProgrammingError(_NO_AUTOCOMMIT)
            if self.plain_prologue is not None:
                raise ConfigurationError([NO_AUTOCOMMIT])
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
            commits = _commits(command, self)
            result = yield from (self._noting(sending) if commits else sending)
            if commits or command == b"ROLLBACK":
                self.drop_due()
        self.unproven = False
        return result

    def _commit_gen(self) -> PQGen[None]:
        if self._pipeline is not None or self._num_transactions or self._tpc or self.pgconn.transaction_status == _IDLE:
            yield from self.hearing_commit(super()._commit_gen())
        else:
            self._require_no_end()
            yield from self._noting(self._send_commit())
        self.drop_due()

    def _require_no_end(self) -> None:
        """Raise where the end of the session has come: a COMMIT would not arrive, and now it is known that it did not.

        It looks at the socket, which costs no trip. What has come may be a notice: reading on tells them apart.
        """
        try:
            for _ in range(_READS):
                if not is_readable(self.pgconn.socket):
                    break
                self.pgconn.consume_input()
                self.pgconn.is_busy()  # reads what has come
        except psycopg.OperationalError:
            if self.last_words is not None:
                raise self.last_words from None
            raise

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
        unit = self.unit or self.noted()
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

    def hearing_commit(self, syncing: PQGen[None]) -> PQGen[None]:
        """``syncing`` a pipeline that has a COMMIT in it: whoever gets an error there was not told of its answer."""
        unit = self.unit or self.noted()
        before, unit.committed = unit.committed, False
        try:
            yield from syncing
        except BaseException as error:
            if unit.committed:
                unit.outcome_unknown = True
                unit.commit_failed(error, refused=False)
            raise
        finally:
            unit.committed = unit.committed or before

    def commit_interrupted(self, error: BaseException) -> None:
        """``error`` came out of ``commit()``. psycopg reads on to the answer, but whoever is interrupted hears none."""
        if not isinstance(error, psycopg.Error):
            unit = self.unit or self.noted()
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

    def _tpc_finish_gen(self, action: Any, xid: Any) -> PQGen[None]:
        yield from self.settle()
        yield from super()._tpc_finish_gen(action, xid)


def hearing_last_words(connection: FlightState) -> Callable[[PGresult], None]:
    """psycopg's handler of notices, which keeps what the server says where it ends a session unasked."""
    hear, heard_by = connection.pgconn.notice_handler, ref(connection)

    def notice(result: PGresult) -> None:
        here = heard_by()
        if here is not None and hung_up(result):
            diagnostic = errors.Diagnostic(result, here.pgconn._encoding)
            kind = errors.lookup(diagnostic.sqlstate) if diagnostic.sqlstate else psycopg.OperationalError
            here.last_words = kind(diagnostic.message_primary or "")
        if hear is not None:
            hear(result)

    return notice


def _commits(command: Any, connection: FlightState) -> bool:
    if isinstance(command, Composable):
        command = command.as_bytes(connection)
    return command.startswith(b"COMMIT")  # type: ignore[no-any-return]
