"""A connection that keeps BEGIN back, and sends it in the same flight as the transaction's first statement.

psycopg sends BEGIN alone and waits for it; here BEGIN, the prologue and due savepoint commands travel in pipeline mode
in front of the statement, so that they cost bytes and no trip. What comes of it (results, exceptions, transaction
state) is as psycopg's own: whoever would conclude something from the transaction's state while commands are due has
them sent first.

This reaches below psycopg's public interface: the generators that its sync and async classes share are overridden once
for both. tests/contract/test_psycopg_internals.py names each of them, and holds the version range. The cursor's half is
in ``cursors``; whom a connection works for, in ``serving``; how a flight travels, in ``pipeline``; how a transaction
ends, in ``transaction_end``; the classes that all this is mixed into, in ``psycopg_connections``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import pq

from db.errors import ConfigurationError

from .pipeline import fly, hear, hung_up, raise_error
from .queued_answers import QueuedAnswer
from .search_path import NO_AUTOCOMMIT
from .serving import ServingState
from .statement_names import Boarding, Sending

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psycopg.abc import PQGen
    from psycopg.pq.abc import PGresult

    from .riders import Command
    from .serving import Prologue
    from .statement_names import StatementNames

_OK = int(pq.ConnStatus.OK)
IDLE = int(pq.TransactionStatus.IDLE)
_ACTIVE = int(pq.TransactionStatus.ACTIVE)
_IN_TRANSACTION = int(pq.TransactionStatus.INTRANS)
_IN_ERROR = int(pq.TransactionStatus.INERROR)
_READS = 3  # the server's last words, and the end of the stream; one more for a notice before them
FAILED = {pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.PIPELINE_ABORTED}
COMMIT: Command = b"COMMIT", None
ROLLBACK: Command = b"ROLLBACK", None
# To tell the server that nobody waits any more. It is another connection's handshake, and whoever asked to be
# interrupted has not much time.
CANCEL_S = 1.0
_NO_AUTOCOMMIT = (
    "a unit of work is a transaction of its own, and the driver's autocommit was set in it: what cannot run in a "
    'transaction goes over db.engine().connect().execution_options(isolation_level="AUTOCOMMIT")'
)


class OpeningState(ServingState):
    """A connection's half of a flight: how what is due is sent, and what comes back."""

    last_error: bytes | None  # what the server said last of a statement that failed; leaving a pipeline loses it
    _flying: bool
    _in_executemany: bool  # the pipeline that is open ends with it
    _streams: bool  # a cursor reads or writes rows while the statement runs, and brings that to an end itself

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.last_error = None
        self._flying = self._in_executemany = self._streams = False

    def fly(self, *statements: Callable[[], None]) -> PQGen[list[list[PGresult]]]:
        """Send what is due, and ``statements`` with it; gives the results of each."""
        pgconn = self.pgconn
        closing = self.riders.closing
        has_riders = bool(self.riders.due or self.riders.modes or closing)
        opens = self.must_open()
        if pgconn.status != _OK:
            self._check_connection_ok()
        commands, prologue_at = self._due(opens=opens, alone=self.single_reads and bool(statements) and not has_riders)
        ahead = len(commands)
        if closing:
            statements = *self._ends_of(closing), *statements
            ahead += len(closing)
        pgconn.enter_pipeline_mode()
        self._flying = True
        if self._prepared.prepare_threshold is None or self.names is None:
            sending = fly(pgconn, commands, statements)
        else:
            sending = self._fly_by_name(self.names, commands, statements, opens=opens)
        if has_riders:
            self.riders.sent()
        self._left_open = False
        answers, refusal = yield from sending
        self._flying = False
        last = answers[-1] if answers else None
        if not last or last[-1].status in FAILED:
            self._raise_error(answers[:ahead])
        self.begun += opens
        if prologue_at is not None and self.prologue is not None and self.prologue.listens:
            self._hear(self.prologue, answers[prologue_at])
        if refusal is not None:
            raise refusal
        if pgconn.status == _OK:
            self.unproven = False
            if (notify := pgconn.notifies()) is not None:
                hear(pgconn, notify)
        return answers[ahead:]

    def _fly_by_name(
        self,
        names: StatementNames,
        commands: Sequence[Command],
        statements: Sequence[Callable[[], None]],
        *,
        opens: bool,
    ) -> PQGen[tuple[list[list[PGresult]], psycopg.Error | None]]:
        """``fly``, where statements have names. What has no values is said once, or differs each time."""
        pgconn = self.pgconn
        if opens:
            names.begun()
        elif any(text.startswith(b"ROLLBACK") for text, _ in commands):  # to a savepoint
            names.clear()
        said: list[Callable[[], None]] = [
            partial(pgconn.send_query_params, text, None) if values is None else Sending(pgconn, text, values)
            for text, values in commands
        ]
        boarding = Boarding(names, pgconn, [*said, *statements])
        answers, refusal = yield from fly(pgconn, (), boarding.sends)
        of_statements = boarding.answers(answers)
        if boarding.is_overtaken and opens:
            # The name is forgotten. The transaction has failed with it, and nothing else has been done in it.
            failed = pgconn.transaction_status == _IN_ERROR
            ahead = [partial(pgconn.send_query_params, *ROLLBACK)] if failed else []
            boarding = Boarding(names, pgconn, [*ahead, *said, *statements])
            pgconn.enter_pipeline_mode()
            answers, refusal = yield from fly(pgconn, (), boarding.sends)
            of_statements = boarding.answers(answers)[len(ahead) :]
        return of_statements, refusal

    def _raise_error(self, answers: Sequence[Sequence[PGresult]]) -> None:
        """Raise the first error among the answers to what was due."""
        try:
            for results in answers:
                raise_error(self.pgconn, results)
        except psycopg.Error as error:
            if self.prologue is None and self.plain_prologue is not None:
                self.plain_prologue.require_function(error)
            raise

    def _due(self, *, opens: bool, alone: bool) -> tuple[Sequence[Command], int | None]:
        """What is to be sent now, and the place of the prologue in it."""
        if not opens:
            return self.riders.due, None
        opening = [COMMIT] if self._left_open else []
        if not alone:
            opening += [(self._begin_statement or self._get_tx_start_command(), None), *self.riders.modes]
        if self.prologue is None:
            if self.plain_prologue is not None:
                opening.append((self.plain_prologue.text, None))
            return opening + self.riders.due, None
        return [*opening, *self._said_by(self.prologue, alone=alone), *self.riders.due], len(opening)

    def _said_by(self, prologue: Prologue, *, alone: bool) -> Sequence[Command]:
        """What goes behind BEGIN for a unit of work."""
        return [prologue(alone)]

    def _ends_of(self, cursors: Sequence[bytes]) -> list[Callable[[], None]]:
        """What closes them: the protocol's own message, as CLOSE is an error for one that a rollback has taken."""
        return [partial(self.pgconn.send_close_portal, name) for name in cursors]

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
            for text, values in self._said_by(self.prologue, alone=False):
                self.riders.add(text, values or ())
        elif self.plain_prologue is not None:
            self.riders.add(self.plain_prologue.text, ())

    def _is_idle(self) -> bool:
        """Whether there is no transaction to end, on either side."""
        return (
            self.pgconn.transaction_status == IDLE
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
        if self._autocommit:
            if self.prologue is not None:
                raise psycopg.ProgrammingError(_NO_AUTOCOMMIT)
            if self.plain_prologue is not None:
                raise ConfigurationError([NO_AUTOCOMMIT])
            self.unproven = False
        elif self.must_open() or self.riders.due or self.riders.closing:
            yield from self._send_due()

    def _send_due(self) -> PQGen[None]:
        """Send what is due without a statement, or leave it to the pipeline that is open."""
        pipeline = self._pipeline
        if pipeline is None:
            yield from self.fly()
            return
        opens = self.must_open()
        commands, prologue_at = self._due(opens=opens, alone=False)
        said = QueuedAnswer(self.pgconn)
        for place, (text, values) in enumerate(commands):
            pipeline.command_queue.append(partial(self.pgconn.send_query_params, text, values))
            pipeline.result_queue.append((said, None) if place == prologue_at else None)  # type: ignore[arg-type]
        for end in self._ends_of(self.riders.closing):
            pipeline.command_queue.append(end)
            pipeline.result_queue.append(None)
        self.riders.sent()
        self._left_open = False
        self.begun += opens
        listens = self.prologue is not None and self.prologue.listens
        if opens and (listens or not self._in_executemany):
            # As psycopg does: else libpq says that there is no transaction until the pipeline ends.
            yield from pipeline._sync_gen()
            if self.prologue is not None and listens:
                self._hear(self.prologue, said.results)
