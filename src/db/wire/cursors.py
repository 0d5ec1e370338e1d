"""A cursor's half of a flight: its statement takes along what is due on the connection, where it may."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg._preparing import Prepare
from psycopg.adapt import Transformer

from .statement_kinds import may_share

if TYPE_CHECKING:
    from psycopg._cursor_base import BaseCursor
    from psycopg._queries import PostgresQuery
    from psycopg.abc import Params, PQGen, Query
    from psycopg.pq.abc import PGresult

    from .deferred_begin import FlightState, Gathering

    CursorMixin = BaseCursor[Any, Any]
else:
    # Mixed into the sync class and its async twin, which is why it stands on neither here.
    CursorMixin = object


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
                conn._shares_flight = True
        try:
            yield from super()._execute_gen(query, params, prepare=prepare, binary=binary)
        finally:
            conn._shares_flight = False

    def _maybe_prepare_gen(
        self, pgq: PostgresQuery, *, prepare: bool | None = None, binary: bool | None = None
    ) -> PQGen[None]:
        if not self._conn._shares_flight:
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
