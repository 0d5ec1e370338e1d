"""Answers that psycopg's own pipeline brings later, to what was sent there for no cursor, or for more than one.

psycopg gives each answer to the cursor that waits for it. These stand in a cursor's place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import errors, pq

from .pipeline import is_answer, raise_error

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

    from .commit_outcome import Unit


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

    def __init__(self, pgconn: PGconn, unit: Unit, cursor: Any = None) -> None:
        super().__init__(pgconn)
        self.unit = unit
        self.cursor = cursor
        self._conn = cursor and cursor._conn  # psycopg looks for it, where a text might be prepared

    def _check_results(self, results: list[PGresult]) -> None:
        # The end of the session says nothing of what it did last, be it in the server's words or in libpq's own.
        if all(result.status != pq.ExecStatus.FATAL_ERROR or is_answer(result) for result in results):
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
