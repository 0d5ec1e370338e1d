"""What a unit of work says to the server ahead of its first statement, as it is true when that leaves."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from db.pool.replica_lag import in_rows, lag_of
from db.settings.engines.postgresql import TRANSACTION_TIMEOUT_SINCE
from db.telemetry.application_name import name_for
from db.timing.deadline import Bounds, patience_s

from .prologue_sql import prologue_sql

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psycopg.pq.abc import PGresult

    from db.environment.runtime import Runtime
    from db.pool.reader_route import ReaderRoute
    from db.settings import Settings
    from db.timing.deadline import Limits
    from db.timing.invocation import Invocation
    from db.wire.riders import Command


class Prologues:
    """What the prologues of one database have in common, worked out once."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.bounds = Bounds(
            reserve_s=settings.deadline_reserve_s,
            statement_s=settings.statement_timeout_s,
            lock_s=settings.lock_timeout_s,
        )
        # Where startup options are not to be had, each transaction says it.
        self.search_path = settings.schema if settings.proxy != "none" else None
        self.through_function = settings.proxy == "rds-proxy"
        self.reader_max_lag_s = settings.reader_max_lag_s
        self.name_in = functools.lru_cache(maxsize=8)(functools.partial(name_for, settings))


def prologues_of(now: Runtime) -> Prologues:
    """Those of the database that is at work."""
    if __name__ not in now.kept:
        now.kept[__name__] = Prologues(now.settings, now.clock)
    prologues: Prologues = now.kept[__name__]
    return prologues


class Prologue:
    """The prologue of one unit of work, called when a flight leaves; and how long to wait for its answer.

    A transaction calls it once; a ``read`` calls it for each statement, with what time is left then.
    """

    def __init__(
        self,
        common: Prologues,
        tenant: str | None,
        invocation: Invocation,
        *,
        server_version: Sequence[int | str],
        reader: ReaderRoute | None = None,
    ) -> None:
        """``reader`` is asked whether a server so many seconds behind may answer; None where any may."""
        self._common = common
        self._reader = reader
        # Whether the answer decides if the server may be used.
        self.listens = reader is not None
        self._deadline = invocation.deadline
        self._has_transaction_timeout = (*server_version,) >= TRANSACTION_TIMEOUT_SINCE
        self._application_name = common.name_in(invocation.request_id)
        self.tell(tenant)

    def tell(self, tenant: str | None) -> None:
        """From the next transaction on, say this tenant."""
        self.tenant = tenant
        common = self._common
        self._sql = prologue_sql(
            tenant, common.search_path, self._application_name, through_function=common.through_function
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
        return [said, (in_rows(self._reader.lag_question), [str(self._common.reader_max_lag_s).encode()])]

    def _statement(self, *, alone: bool) -> Command:
        common, bounds_transaction = self._common, self._has_transaction_timeout and not alone
        now_limits = common.bounds.limits(self._deadline, common.clock, bounds_transaction=bounds_transaction)
        return self._sql.statement(now_limits, read_only=alone)

    def limits_now(self) -> Limits:
        """How long what is sent now may take, for a connection that says it by other means than SQL."""
        return self._common.bounds.limits(self._deadline, self._common.clock, bounds_transaction=False)

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
        if self._deadline is None:
            return None
        return patience_s(self._deadline, now=self._common.clock(), reserve_s=self._common.bounds.reserve_s)
