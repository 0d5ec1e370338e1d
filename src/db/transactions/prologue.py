"""What a unit of work says to the server ahead of its first statement, as it is true when that leaves."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from db.pool.replica_lag import in_rows, lag_of
from db.settings.engines.postgresql import TRANSACTION_TIMEOUT_SINCE
from db.telemetry.application_name import name_for
from db.timing.deadline import limits, patience_s
from db.timing.invocation import current_invocation

from .prologue_sql import prologue_sql

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psycopg.pq.abc import PGresult

    from db.pool.reader_route import ReaderRoute
    from db.settings import Settings
    from db.timing.deadline import Limits
    from db.wire.riders import Command


class Prologue:
    """The prologue of one unit of work, called when a flight leaves; and how long to wait for its answer.

    A transaction calls it once; a ``read`` calls it for each statement, with what time is left then.
    """

    def __init__(
        self,
        settings: Settings,
        tenant: str | None,
        *,
        server_version: Sequence[int | str],
        clock: Callable[[], float],
        reader: ReaderRoute | None = None,
    ) -> None:
        """``reader`` is asked whether a server so many seconds behind may answer; None where any may."""
        self._settings = settings
        self._clock = clock
        self._reader = reader
        # Whether the answer decides if the server may be used.
        self.listens = reader is not None
        now = current_invocation()
        self._deadline = now.deadline
        self._limits = functools.partial(
            limits,
            self._deadline,
            reserve_s=settings.deadline_reserve_s,
            statement_s=settings.statement_timeout_s,
            lock_s=settings.lock_timeout_s,
        )
        self._has_transaction_timeout = tuple(server_version) >= TRANSACTION_TIMEOUT_SINCE
        self._application_name = name_for(settings, now.request_id)
        self.tell(tenant)

    def tell(self, tenant: str | None) -> None:
        """From the next transaction on, say this tenant."""
        self.tenant = tenant
        settings = self._settings
        self._sql = prologue_sql(
            tenant,
            # Where startup options are not to be had, each transaction says it.
            settings.schema if settings.proxy != "none" else None,
            self._application_name,
            through_function=settings.proxy == "rds-proxy",
        )

    def __call__(self, alone: bool) -> Command:
        """The prologue; ``alone``, it makes the one statement that follows a read-only transaction of its own."""
        text, values = self._statement(alone=alone)
        return (text if self._reader is None else text + self._reader.lag_question), values

    def unheard(self) -> Sequence[Command]:
        """The prologue for a driver that is told no rows, but how many the last command has given (``heard_rows``)."""
        said = self._statement(alone=False)
        if self._reader is None:
            return [said]
        return [said, (in_rows(self._reader.lag_question), [str(self._settings.reader_max_lag_s).encode()])]

    def _statement(self, *, alone: bool) -> Command:
        now_limits = self._limits(now=self._clock(), bounds_transaction=self._has_transaction_timeout and not alone)
        return self._sql.statement(now_limits, read_only=alone)

    def limits_now(self) -> Limits:
        """How long what is sent now may take, for a connection that says it by other means than SQL."""
        return self._limits(now=self._clock(), bounds_transaction=False)

    def heard(self, result: PGresult) -> bool:
        """Whether the server may answer what came with this prologue, by what it said of its lag."""
        if self._reader is None:
            return True
        lag_s = result.get_value(0, result.nfields - 1)
        return self._reader.is_near(float(lag_s or 0))

    def heard_rows(self, count: int) -> bool:
        """The same, by how many rows there were of its lag."""
        return self._reader is None or self._reader.is_near(lag_of(count))

    def patience_s(self) -> float | None:
        """Seconds to wait for an answer; None outside an invocation."""
        return patience_s(self._deadline, now=self._clock(), reserve_s=self._settings.deadline_reserve_s)
