"""How a transaction ends on a connection with flights, and what is known of that: COMMIT, ROLLBACK, the session's end.

Whoever sends a COMMIT writes down what comes of it (``commit_outcome``), be it psycopg's own ``commit()``, in its
pipeline or out of it, or a command of its ``transaction()``. A text that ends a transaction is in ``cursors``.

As ``deferred_begin``, it overrides generators that psycopg's sync and async classes share.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ref

import psycopg
from psycopg import errors, generators, pq
from psycopg.sql import Composable

from .commit_outcome import is_refusal
from .deferred_begin import COMMIT, FAILED, IDLE, OpeningState
from .pipeline import hung_up, raise_error
from .queued_answers import QueuedCommit, is_commit
from .session_leftovers import CHECKING, CLEANING

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg.abc import PQGen
    from psycopg.pq.abc import PGresult

_OK = int(pq.ConnStatus.OK)
_READS = 3  # the server's last words, and the end of the stream; one more for a notice before them


class FlightState(OpeningState):
    """What psycopg's connection classes have in common here, the end of a transaction included."""

    last_words: psycopg.Error | None  # why the server ended the session, said while nobody waited

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.last_words = None
        self.pgconn.notice_handler = hearing_last_words(self)

    def _exec_command(self, command: Any, result_format: pq.Format = pq.Format.TEXT) -> PQGen[PGresult | None]:
        """Send a command of psycopg's own: COMMIT, a server-side cursor's FETCH, the BEGIN of ``transaction()``."""
        opens = self.must_open() and command == self._get_tx_start_command()
        if opens or self.riders.due:
            yield from self._send_due()
        result = None
        if not opens:
            sending = super()._exec_command(command, result_format)
            commits = _commits(command, self)
            was_open = self.pgconn.transaction_status != IDLE
            try:
                result = yield from (self._noting(sending) if commits else sending)
            finally:
                if was_open:
                    self.drop_if_ended()
            if commits or command == b"ROLLBACK":
                self.drop_due()
        self.unproven = False
        return result

    def _commit_gen(self) -> PQGen[Any]:
        # A generator less for each level is why this is none itself.
        if self._pipeline is not None or self._num_transactions or self._tpc or self.pgconn.transaction_status == IDLE:
            return self.hearing_commit(super()._commit_gen())
        self._require_no_end()
        return self._noting(self._send_commit())

    def _require_no_end(self) -> None:
        """Raise where the end of the session has come: a COMMIT would not arrive, and now it is known that it did not.

        It looks at the socket, which costs no trip. What has come may be a notice: reading on tells them apart.
        """
        try:
            for _ in range(_READS):
                if not self.hears(0):
                    break
                self.pgconn.consume_input()
                self.pgconn.is_busy()  # reads what has come
        except psycopg.OperationalError:
            if self.last_words is not None:
                raise self.last_words from None
            raise

    def _send_commit(self) -> PQGen[PGresult]:
        send = partial(self.pgconn.send_query_params, *COMMIT)
        if self._is_pooled and (cleaning := self._cleaning()):
            check = partial(self.pgconn.send_query_params, CHECKING, None)
            checked, results, *_ = yield from self.fly(check, send, *cleaning)
            raise_error(self.pgconn, checked)
        elif self.riders.due:
            (results,) = yield from self.fly(send)
        else:
            if self.pgconn.status != _OK:
                self._check_connection_ok()
            self.pgconn.send_query(COMMIT[0])
            results = yield from generators.execute(self.pgconn)
        if results[0].status in FAILED:
            self.drop_if_ended()
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
        if (cleaning := self._cleaning()) and self._pipeline is None and self.pgconn.transaction_status != IDLE:
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

    def _tpc_prepare_gen(self) -> PQGen[None]:
        yield from super()._tpc_prepare_gen()
        self.drop_if_ended()  # in a pipeline not before its sync

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
