"""A server-side cursor's half of a flight: it is declared in one, with its first rows, and closed in another's.

psycopg declares it, asks for its columns, fetches and closes it in a trip each. Here DECLARE, that question and the
first FETCH travel behind BEGIN, a later FETCH takes along what is due, and Close goes ahead of the next statement.

How many rows the first FETCH is to bring, SQLAlchemy knows when it makes the cursor, whose name nobody else has. For a
cursor that a program has named itself nothing is fetched ahead, since its place on the server is for all to see.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from psycopg import capabilities, pq, sql
from psycopg.adapt import Transformer

from .cursors import FlightCursorState

if TYPE_CHECKING:
    from psycopg._server_cursor_base import ServerCursorMixin as PsycopgServerCursorMixin
    from psycopg.abc import Params, PQGen, Query
    from psycopg.pq.abc import PGresult

    ServerCursorMixin = PsycopgServerCursorMixin[Any, Any]
else:
    # Mixed into the sync class and its async twin, which is why it stands on neither here.
    ServerCursorMixin = object

_IN_TRANSACTION = pq.TransactionStatus.INTRANS


class FlightServerCursorState(FlightCursorState, ServerCursorMixin):
    """What the classes of server-side cursors have in common here.

    ``rows_ahead`` is how many rows come with DECLARE: none, unless whoever makes the cursor says more before that. Of
    them, those from ``_next`` on in ``_ahead`` have not been asked for yet. ``_has_ended``: the server has no more; the
    program knows that, too, where ``_ahead`` is None.
    """

    __slots__ = ()

    rows_ahead: int
    _ahead: PGresult | None
    _next: int
    _has_ended: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rows_ahead = 0
        self._forget()

    def _forget(self) -> None:
        self._ahead, self._next, self._has_ended = None, 0, False

    def _declare_gen(self, query: Query, params: Params | None = None, binary: bool | None = None) -> PQGen[None]:
        """psycopg's, in one flight. Without a transaction the flight would be one, so autocommit is left to psycopg."""
        conn = self._conn
        self._note_text(query)
        if self._described:
            yield from self._close_gen()
            self._described = False
        if self._closed or conn._autocommit:
            yield from super()._declare_gen(query, params, binary)
            return
        conn.single_reads = False  # a cursor needs a transaction to live in
        self._reset()
        self._tx = Transformer(self)
        self._iter_rows = None
        self._format = self.format if binary is None else pq.Format(binary)
        declaration = self._convert_query(self._make_declare_statement(query), params)
        declare = partial(self._execute_send, declaration, force_extended=True)
        describe = partial(self._pgconn.send_describe_portal, self._name.encode(self._encoding))
        fetch = [self._fetch_of(self.rows_ahead)] if self.rows_ahead else []
        declared, described, *fetched = yield from conn.fly(declare, describe, *fetch)
        for results in (declared, described, *fetched):
            self._check_results(results)
        self._results = described
        self._select_current_result(0, format=self._format)
        if fetched:
            ((self._ahead,),) = fetched
            self._has_ended = self._ahead.ntuples < self.rows_ahead
        self._described = True

    def _fetch_gen(self, num: int | None) -> PQGen[list[Any]]:
        """psycopg's. It takes no trip for what came with DECLARE, nor to be told of the end once more."""
        if self._closed or not self._described or self._conn._pipeline is not None:
            return (yield from super()._fetch_gen(num))
        rows = self._take_ahead(num)
        missing = None if num is None else num - len(rows)
        if self._has_ended or (rows and missing == 0):
            if missing != 0:
                self._ahead = None  # the program knows of the end by now
            return rows
        result = yield from self._fetch(missing)
        self._has_ended = bool(self.rows_ahead) and (missing is None or result.ntuples < missing)
        fetched = self._load(result, 0, result.ntuples)
        return rows + fetched if rows else fetched

    def _take_ahead(self, num: int | None) -> list[Any]:
        result, start = self._ahead, self._next
        if result is None:
            return []
        end = result.ntuples if num is None else min(start + num, result.ntuples)
        self._next = end
        if end == result.ntuples and not self._has_ended:
            self._ahead = None
        return self._load(result, start, end)

    def _load(self, result: PGresult, start: int, end: int) -> list[Any]:
        self.pgresult = result
        self._tx.set_pgresult(result, set_loaders=False)
        return self._tx.load_rows(start, end, self._make_row)

    def _fetch(self, num: int | None) -> PQGen[PGresult]:
        conn = self._conn
        result: PGresult
        if conn.riders.due or conn.riders.closing:
            ((result, *_),) = yield from conn.fly(self._fetch_of(num))
            self._check_results([result])
        else:
            result = yield from conn._exec_command(self._fetch_text(num), result_format=self._format)
        return result

    def _fetch_of(self, num: int | None) -> partial[None]:
        """What puts a FETCH into a flight."""
        return partial(self._pgconn.send_query_params, self._fetch_text(num), None, result_format=self._format)

    def _fetch_text(self, num: int | None) -> bytes:
        name = sql.Identifier(self._name).as_bytes(self._conn)
        return b"FETCH FORWARD %b FROM %b" % (b"ALL" if num is None else b"%d" % num, name)

    def _scroll_gen(self, value: int, mode: str) -> PQGen[None]:
        """psycopg's, from where the program is: the server is ahead of it by what was fetched and not read."""
        if mode == "relative" and self._ahead is not None:
            left = self._ahead.ntuples - self._next
            if 0 <= value <= left:
                self._next += value
                return
            value -= left + self._has_ended  # which is a place behind the last row
        self._forget()
        yield from super()._scroll_gen(value, mode)

    def _close_gen(self) -> PQGen[None]:
        """psycopg's, without a trip, but for a cursor that may outlive the transaction, or is not known to exist."""
        conn = self._conn
        self._forget()
        if self._withhold or conn._autocommit or not (self._described and capabilities.has_send_close_prepared()):
            # psycopg looks whether there is a transaction for the cursor to be in.
            yield from conn.settle()
            yield from super()._close_gen()
        elif conn.transaction_status == _IN_TRANSACTION:
            conn.riders.close(self._name.encode(self._encoding))
