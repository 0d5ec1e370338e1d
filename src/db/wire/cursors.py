"""A cursor's half of a flight: its statement takes along what is due on the connection, where it may."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import generators, pq
from psycopg._preparing import Prepare
from psycopg.adapt import Transformer
from psycopg.sql import Composable

from .columns import columns_of
from .queued_answers import QueuedCommit, is_commit
from .serving import Gathering
from .statement_kinds import SET_CONFIG, kind_of
from .statement_names import Sending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from psycopg._cursor_base import BaseCursor
    from psycopg._pipeline_base import BasePipeline
    from psycopg._queries import PostgresQuery
    from psycopg.abc import Params, PQGen, Query
    from psycopg.pq.abc import PGresult

    from .commit_outcome import Unit
    from .serving import Collecting
    from .statement_kinds import Kind
    from .statement_names import StatementNames
    from .transaction_end import FlightState

    CursorMixin = BaseCursor[Any, Any]
else:
    # Mixed into the sync class and its async twin, which is why it stands on neither here.
    CursorMixin = object


_OK = int(pq.ConnStatus.OK)
_IN_TRANSACTION = int(pq.TransactionStatus.INTRANS)
_IN_ERROR = int(pq.TransactionStatus.INERROR)


class FlightCursorState(CursorMixin):
    """What psycopg's cursor classes have in common here: a statement takes along what is due, where it may."""

    __slots__ = ()

    def _execute_gen(
        self, query: Query, params: Params | None = None, *, prepare: bool | None = None, binary: bool | None = None
    ) -> PQGen[None]:
        # What is not needed for most statements is a generator of its own, as this is none: each takes calls of Python
        # to start and to go on after the wait.
        conn = self._conn
        conn.last_error = None
        kind = kind_of(query if isinstance(query, str) else _text_of(query, conn))
        shares = is_within = False
        if conn._pipeline is None:
            if conn.gathering is not None and isinstance(query, str):
                return self._gather(conn.gathering, query, params, kind)
            if kind.can_wait and isinstance(query, str) and not params and self._postpone(query, kind):
                return self._wait_with_it(query)
            if conn.must_open() or conn.riders.due or conn.riders.closing:
                shares = not kind.stands_apart and bool(params or kind.is_single)
            else:
                is_within = kind.is_ordinary and not conn._autocommit
        if shares or is_within:
            sending = self._send_once(query, params, shares=shares, prepare=prepare, binary=binary)
        else:
            sending = super()._execute_gen(query, params, prepare=prepare, binary=binary)
        if kind.is_ordinary:
            return sending
        self._note_leftovers(kind, params)
        return self._execute_special(sending, kind, shares=shares)

    def _wait_with_it(self, query: str) -> PQGen[None]:
        self._reset()
        self._statusmessage = query.split(None, 1)[0].upper().encode()  # as the server would answer
        yield from ()

    @property
    def description(self) -> list[psycopg.Column] | None:
        """psycopg's."""
        result = self.pgresult
        return None if result is None else columns_of(result, self._pgconn._encoding, self._adapters.types)

    def _postpone(self, query: str, kind: Kind) -> bool:
        """Whether the statement can wait for the next flight."""
        conn = self._conn
        if conn._autocommit:
            return False
        if kind.sets_modes and conn.opens_with_query() and conn.must_open() and not conn.riders.due:
            conn.riders.add_mode(query.encode())
            conn.noted().said_read_only |= kind.says_read_only
            return True
        waits: bool = conn.riders.postpone(query, failed=conn.failed)
        return waits

    def _execute_special(self, sending: PQGen[None], kind: Kind, *, shares: bool) -> PQGen[None]:
        """A statement that does more to transaction or session than to run in it."""
        conn = self._conn
        unit = conn.noted()
        if kind.holds:
            # A read that says something for the transaction needs one.
            conn.single_reads = False
        stands_alone = conn.single_reads and conn._pipeline is None and conn.must_open() and not shares
        unit.said_read_only |= kind.says_read_only
        unit.outcome_unknown = kind.commits or unit.outcome_unknown
        try:
            yield from sending
        except BaseException as error:
            if kind.commits:
                unit.commit_failed(error, refused=conn.is_refusal(error))
            if kind.ends:
                conn.drop_if_ended()
            if stands_alone and conn.pgconn.transaction_status == _IN_ERROR:
                yield from conn._rollback_gen()
            raise
        if conn._pipeline is not None:
            yield from self._end_in_pipeline(kind, conn._pipeline, unit)
            return
        if kind.ends:
            unit.commit_answered(committed=any(is_commit(result) for result in self._results))
            conn.say_again()
        elif stands_alone and conn.pgconn.transaction_status == _IN_TRANSACTION:
            # It had a transaction of its own, and a read is not to leave one open.
            yield from conn._rollback_gen()

    def _end_in_pipeline(self, kind: Kind, pipeline: BasePipeline, unit: Unit) -> PQGen[None]:
        """The same of its end, in a pipeline that is open, which brings the answer later."""
        conn = self._conn
        queue = pipeline.result_queue
        if kind.commits and queue and queue[-1] is not None and queue[-1][0] is self:
            queue[-1] = QueuedCommit(conn.pgconn, unit, self), queue[-1][1]  # type: ignore[assignment]
        if kind.ends and conn.prologue is not None:
            # As psycopg's own commit() there: else what follows would be sent to no transaction, and to no tenant.
            yield from conn.hearing_commit(pipeline._sync_gen())
            conn.say_again()
        elif kind.ends:
            conn.drop_due()

    def _send_once(
        self, query: Query, params: Params | None, *, shares: bool, prepare: bool | None, binary: bool | None
    ) -> PQGen[None]:
        """psycopg's ``_execute_gen``, of a statement that takes along what is due, or that nothing is due ahead of."""
        conn = self._conn
        has_names = conn._prepared.prepare_threshold is not None
        if has_names and conn.names is None:
            # With a libpq below 17, psycopg prepares in its own way, and counts what it is to prepare.
            if shares:
                yield from conn._send_due()
            yield from super()._execute_gen(query, params, prepare=prepare, binary=binary)
            return
        if self._closed:
            raise psycopg.InterfaceError("the cursor is closed")
        self._reset()
        if self._last_query is not query:
            self._last_query = None
            self._tx = Transformer(self)
        self._query = pgq = self._convert_query(query, params)
        if has_names:
            results = yield from self._by_name(conn.names, pgq, shares=shares, prepare=prepare, binary=binary)
        elif shares:
            (results,) = yield from conn.fly(self._send(pgq, binary=binary))
        else:
            self._execute_send(pgq, binary=binary)
            results = yield from generators.execute(self._pgconn)
            conn.unproven = False
        super()._check_results(results)
        self._set_results(results)
        self._last_query = query

    def _by_name(
        self, names: StatementNames, pgq: PostgresQuery, *, shares: bool, prepare: bool | None, binary: bool | None
    ) -> PQGen[list[PGresult]]:
        """Send a statement by its name if it has one, and with a flight where it is given one."""
        conn = self._conn
        results: list[PGresult]
        prep, name = names.get(pgq, prepare)
        if shares or prep is Prepare.SHOULD:
            (results,) = yield from conn.fly(self._send(pgq, prepare=prepare, binary=binary))
            return results
        if prep is Prepare.YES:
            self._send_query_prepared(name, pgq, binary=binary)
        else:
            self._execute_send(pgq, binary=binary)
        key = names.maybe_add_to_cache(pgq, prep, name)
        results = yield from generators.execute(self._pgconn)
        names.ran(names.key(pgq) if prep is Prepare.YES else key, results)
        conn.unproven = False
        return results

    def _send(
        self, pgq: PostgresQuery, *, prepare: bool | None = None, binary: bool | None = None
    ) -> Callable[[], None]:
        """What puts the statement into a flight: in the extended protocol, as a pipeline takes no other."""
        result_format = self.format if binary is None else pq.Format(binary)
        if self._conn._prepared.prepare_threshold is not None:
            return Sending(
                self._pgconn,
                pgq.query,
                pgq.params,
                types=pgq.types,
                formats=pgq.formats,
                result_format=result_format,
                prepare=prepare,
            )
        return partial(
            self._pgconn.send_query_params,
            pgq.query,
            pgq.params,
            param_formats=pgq.formats,
            param_types=pgq.types,
            result_format=result_format,
        )

    def _check_results(self, results: list[PGresult]) -> None:
        """psycopg's, of each answer to a statement: those in a pipeline too, which no flight of ours has brought."""
        conn = self._conn
        if conn.pgconn.status == _OK:
            conn.unproven = False
        # Of several statements in one text one may have committed, and another failed behind it.
        if conn.unit is not None and results[1:] and any(is_commit(result) for result in results):
            conn.unit.commit_answered(committed=True)
        if conn.names is not None:
            conn.names.heard(results)
        super()._check_results(results)

    def _gather(self, gathering: Gathering | Collecting, query: str, params: Params | None, kind: Kind) -> PQGen[None]:
        if not isinstance(gathering, Gathering):
            yield from gathering.execute(self, query, params, kind)
            return
        self._reset()
        self._tx = Transformer(self)
        if not gathering.is_complete:
            if kind.stands_apart or not (params or kind.is_single):
                raise psycopg.NotSupportedError("only single statements leave together: no COPY, no two in one text")
            self._note_leftovers(kind, params)
            gathering.statements.append(self._convert_query(query, params))
            return
        if gathering.results is None:
            sends = [self._send(pgq) for pgq in gathering.statements]
            gathering.results = deque((yield from self._conn.fly(*sends)))
        results = gathering.results.popleft()
        self._check_results(results)
        self._set_results(results)

    def _note_leftovers(self, kind: Kind, params: Params | None) -> None:
        """Have whoever keeps the connection know what the statement leaves on its session."""
        if kind.leaves is not None or (kind.leaves_if_false and _has_false(params)):
            self._conn.note_left(kind.leaves or SET_CONFIG)

    def _note_text(self, query: Query) -> None:
        """Likewise, of a statement that does not come by ``execute()``. Its parameters may say false."""
        kind = kind_of(query if isinstance(query, str) else _text_of(query, self._conn))
        self._note_leftovers(kind, [False])

    # psycopg's other ways to send a statement.

    def _executemany_gen_pipeline(self, query: Query, params_seq: Iterable[Params], returning: bool) -> PQGen[None]:
        self._note_text(query)
        return super()._executemany_gen_pipeline(query, params_seq, returning)

    def _executemany_gen_no_pipeline(self, query: Query, params_seq: Iterable[Params], returning: bool) -> PQGen[None]:
        self._note_text(query)
        return super()._executemany_gen_no_pipeline(query, params_seq, returning)

    def _stream_send_gen(
        self, query: Query, params: Params | None = None, *, binary: bool | None = None, size: int
    ) -> PQGen[None]:
        self._note_text(query)
        return super()._stream_send_gen(query, params, binary=binary, size=size)

    def _start_copy_gen(self, statement: Query, params: Params | None = None) -> PQGen[None]:
        self._note_text(statement)
        return super()._start_copy_gen(statement, params)

    def move_to(self, connection: FlightState) -> None:
        """Go on with ``connection``: the one that the cursor was made for is dead."""
        self._conn, self._pgconn = connection, connection.pgconn


def _has_false(params: Params | None) -> bool:
    values = params.values() if isinstance(params, Mapping) else params or ()
    return any(value is False for value in values)


def _text_of(query: Query, connection: FlightState) -> str:
    """The text of a query that is no string; that of a template is not known before it is sent."""
    if isinstance(query, Composable):
        return query.as_string(connection)
    return query.decode(errors="replace") if isinstance(query, bytes) else ""
