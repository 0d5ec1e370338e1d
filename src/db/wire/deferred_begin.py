"""A connection that keeps BEGIN back, and sends it in the same flight as the transaction's first statement.

psycopg sends BEGIN alone and waits for it; here BEGIN, the prologue and due savepoint commands travel in pipeline mode
in front of the statement, so that they cost bytes and no trip. What comes of it (results, exceptions, transaction
state) is as psycopg's own.

This reaches below psycopg's public interface: the generators that its sync and async classes share are overridden once
for both. tests/contract/test_psycopg_internals.py names each of them, and holds the version range. The cursor's half is
in ``cursors``; how a flight travels, in ``pipeline``; the classes that both are mixed into, in ``psycopg_connections``.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import psycopg
from psycopg import pq

from .pipeline import fly, is_readable, raise_error
from .riders import Riders

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

    from psycopg._connection_base import BaseConnection
    from psycopg._queries import PostgresQuery
    from psycopg.abc import PQGen
    from psycopg.pq.abc import PGresult

    from .riders import Command

    ConnectionMixin = BaseConnection[Any]
else:
    # Mixed into the sync class and its async twin, which is why it stands on neither here.
    ConnectionMixin = object

_IDLE = pq.TransactionStatus.IDLE
_IN_ERROR = pq.TransactionStatus.INERROR


class Prologue(Protocol):
    """What a unit of work says behind BEGIN. Asked when the flight leaves, so that it is true of the time left then."""

    def __call__(self, alone: bool) -> Command:
        """The statement. ``alone``, no BEGIN goes before it, and it makes what follows a read-only transaction."""
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
    ``patience_s`` gives the longest wait for an answer; beyond it the connection is closed.
    """

    prologue: Prologue | None = None
    patience_s: Callable[[], float | None] | None = None
    single_reads = False
    # Kept by a pool, and nothing has come back since: if a flight fails now, nothing was done for this checkout yet.
    unproven = False
    riders: Riders
    gathering: Gathering | None = None
    serves_until = math.inf  # wall clock; a pool replaces it then: it only stood in for another server
    _shares_flight = False  # a cursor sends its statement together with what is due

    def serve(
        self, prologue: Prologue, patience_s: Callable[[], float | None], *, read_only: bool, single: bool
    ) -> None:
        """Work for a unit until the connection is parked or closed; with ``single`` each statement is a transaction."""
        self.prologue, self.patience_s, self.single_reads = prologue, patience_s, single
        if read_only:
            self._read_only, self._begin_statement = True, b""

    def parked(self) -> None:
        """A pool keeps the connection: what held for its last user is over, and it may die before the next."""
        if self.prologue is not None:
            self._read_only, self._begin_statement = None, b""
        self.prologue = self.patience_s = None
        self.single_reads, self.gathering = False, None
        self.riders.clear()
        self.unproven = True

    def take_over(self, stale: FlightState) -> None:
        """Stand in for ``stale``, which died before it did anything: the transaction to come is to be the same."""
        self.prologue, self.patience_s = stale.prologue, stale.patience_s
        self.single_reads, self.riders = stale.single_reads, stale.riders
        self.riders.renew()
        self.gathering = stale.gathering
        self._autocommit, self._begin_statement = stale._autocommit, stale._begin_statement
        self._isolation_level, self._read_only = stale._isolation_level, stale._read_only
        self._deferrable = stale._deferrable

    def is_quiet(self) -> bool:
        """Whether the socket is open and has nothing to say, as one that lives, or that died in silence. No trip."""
        return self.pgconn.status == pq.ConnStatus.OK and not is_readable(self.pgconn.socket)

    @property
    def failed(self) -> bool:
        """Whether the server refuses everything but a rollback, and none is due."""
        return self.pgconn.transaction_status == _IN_ERROR and not self.riders.mends

    def must_open(self) -> bool:
        """Whether the next statement begins a transaction."""
        return not self._autocommit and self.pgconn.transaction_status == _IDLE

    def fly(self, *statements: Callable[[], None]) -> PQGen[list[list[PGresult]]]:
        """Send what is due, and ``statements`` with it; gives the results of each."""
        alone = self.single_reads and bool(statements) and not self.riders.due
        opens = self.must_open()
        commands = self._due(alone=alone)
        self._check_connection_ok()
        self.riders.sent()
        answers = yield from fly(self.pgconn, commands, statements)
        if opens and self.prologue is not None and not self.prologue.heard(answers[0 if alone else 1][0]):
            # Only reads have a prologue that minds, so it may be sent again elsewhere, as after a death.
            self.pgconn.finish()
            self.unproven = True
            raise psycopg.OperationalError("this server is not to be used now: connection closed")
        self.unproven = False
        return answers[len(commands) :]

    def _due(self, *, alone: bool) -> list[Command]:
        if not self.must_open():
            return self.riders.due
        begin = () if alone else ((self._get_tx_start_command(), None),)
        prologue = () if self.prologue is None else (self.prologue(alone),)
        return [*begin, *prologue, *self.riders.due]

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

    # What psycopg calls, in sync and async alike.

    def _start_query(self) -> PQGen[None]:
        """Before every statement. psycopg sends its BEGIN here, and waits."""
        if self._shares_flight:
            return
        if self._autocommit:
            self.unproven = False
        elif self.must_open() or self.riders.due:
            yield from self._send_due()

    def _send_due(self) -> PQGen[None]:
        """Send what is due without a statement, or leave it to the pipeline that is open."""
        if self._pipeline is None:
            yield from self.fly()
            return
        for text, values in self._due(alone=False):
            self._pipeline.command_queue.append(partial(self.pgconn.send_query_params, text, values))
            self._pipeline.result_queue.append(None)
        self.riders.sent()

    def _exec_command(self, command: Any, result_format: pq.Format = pq.Format.TEXT) -> PQGen[PGresult | None]:
        """Send a command of psycopg's own: COMMIT, a server-side cursor's FETCH, the BEGIN of ``transaction()``."""
        opens = self.must_open() and command == self._get_tx_start_command()
        if opens or self.riders.due:
            yield from self._send_due()
        result = None if opens else (yield from super()._exec_command(command, result_format))
        self.unproven = False
        return result

    def _commit_gen(self) -> PQGen[None]:
        if self.riders.due and self.pgconn.transaction_status != _IDLE and self._pipeline is None:
            (results,) = yield from self.fly(partial(self.pgconn.send_query_params, b"COMMIT", None))
            raise_error(self.pgconn, results)
        else:
            yield from super()._commit_gen()
        self.riders.clear()

    def _rollback_gen(self) -> PQGen[None]:
        self.riders.clear()
        yield from super()._rollback_gen()
