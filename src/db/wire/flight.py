"""psycopg connections that send what opens a transaction in the same flight as its first statement.

A *flight* is what goes to the server before the next wait: one round trip. psycopg sends BEGIN alone and waits for it;
here BEGIN, the prologue and due savepoint commands travel in pipeline mode in front of the statement, so that they cost
bytes and no trip. What comes of it (results, exceptions, transaction state) is as psycopg's own.

This reaches below psycopg's public interface: the generators that its sync and async classes share are overridden once
for both. tests/contract/test_psycopg_internals.py names each of them, and holds the version range. How a flight travels
is ``pipeline``'s; the classes that these are mixed into are in ``connections``.
"""

from __future__ import annotations

import math
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import psycopg
from psycopg import pq
from psycopg._preparing import Prepare
from psycopg.adapt import Transformer

from .pipeline import fly, is_readable, raise_error
from .riders import Riders, may_share

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg._connection_base import BaseConnection
    from psycopg._cursor_base import BaseCursor
    from psycopg._queries import PostgresQuery
    from psycopg.abc import Params, PQGen, Query
    from psycopg.pq.abc import PGresult

    from .riders import Command

    ConnectionMixin = BaseConnection[Any]
    CursorMixin = BaseCursor[Any, Any]
else:
    # Mixed into the sync class and its async twin, which is why they stand on neither here.
    ConnectionMixin = CursorMixin = object

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
    _boarding = False  # a cursor sends its statement together with what is due

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
        if self._boarding:
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


class FlightCursorState(CursorMixin):
    """What psycopg's cursor classes have in common here: a statement takes along what is due, where it may."""

    __slots__ = ()

    def _execute_gen(
        self, query: Query, params: Params | None = None, *, prepare: bool | None = None, binary: bool | None = None
    ) -> PQGen[None]:
        conn = self._conn
        if conn._pipeline is None and isinstance(query, str):
            if conn.gathering is not None:
                yield from self._gather(conn.gathering, query, params)
                return
            if not (params or conn._autocommit) and conn.riders.postpone(query, failed=conn.failed):
                self._reset()
                return
            if (conn.riders.due or conn.must_open()) and may_share(query, has_params=bool(params)):
                conn._boarding = True
        try:
            yield from super()._execute_gen(query, params, prepare=prepare, binary=binary)
        finally:
            conn._boarding = False

    def _maybe_prepare_gen(
        self, pgq: PostgresQuery, *, prepare: bool | None = None, binary: bool | None = None
    ) -> PQGen[None]:
        if not self._conn._boarding:
            yield from super()._maybe_prepare_gen(pgq, prepare=prepare, binary=binary)
            return
        # Not prepared this time, but counted, and looked at for what makes prepared statements invalid.
        prepared = self._conn._prepared
        key = prepared.maybe_add_to_cache(pgq, Prepare.NO, b"")
        (results,) = yield from self._conn.fly(partial(self._execute_send, pgq, force_extended=True, binary=binary))
        if key is not None:
            prepared.validate(key, Prepare.NO, b"", results)
        self._check_results(results)
        self._set_results(results)

    def _check_results(self, results: list[PGresult]) -> None:
        """psycopg's, of each answer to a statement: those in a pipeline too, which no flight of ours has brought."""
        self._conn.unproven = False
        super()._check_results(results)

    def _gather(self, gathering: Gathering, query: str, params: Params | None) -> PQGen[None]:
        self._reset()
        self._tx = Transformer(self)
        if not gathering.is_complete:
            if not may_share(query, has_params=bool(params)):
                raise psycopg.NotSupportedError("only single statements leave together: no COPY, no two in one text")
            gathering.statements.append(self._convert_query(query, params))
            return
        if gathering.results is None:
            sends = [partial(self._execute_send, pgq, force_extended=True) for pgq in gathering.statements]
            gathering.results = deque((yield from self._conn.fly(*sends)))
        results = gathering.results.popleft()
        self._check_results(results)
        self._set_results(results)

    def move_to(self, connection: FlightState) -> None:
        """Go on with ``connection``: the one that the cursor was made for is dead."""
        self._conn, self._pgconn = connection, connection.pgconn
