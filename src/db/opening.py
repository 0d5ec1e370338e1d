"""What a unit of work says to the server ahead of its first statement, as it is true when that leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .deadline import limits, patience_s
from .invocation import current_invocation
from .names import name_for
from .scope import Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psycopg.pq.abc import PGresult

    from .boarding import Command
    from .settings import Settings

# The first PostgreSQL that can bound a whole transaction.
TRANSACTION_TIMEOUT_SINCE = (17,)


class Opening:
    """The prologue of one unit of work, called when a flight leaves; and how long to wait for its answer.

    A transaction calls it once; a ``read`` calls it for each statement, with what time is left then.
    """

    def __init__(
        self, settings: Settings, tenant: str | None, *, server_version: Sequence[int | str], clock: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._clock = clock
        now = current_invocation()
        self._deadline = now.deadline
        self._has_transaction_timeout = tuple(server_version) >= TRANSACTION_TIMEOUT_SINCE
        self._scope = Scope(
            tenant=tenant,
            # Where startup options are not to be had, each transaction says it.
            search_path=settings.schema if settings.proxy != "none" else None,
            application_name=name_for(settings, now.request_id),
            through_function=settings.proxy == "rds-proxy",
        )

    def __call__(self, alone: bool) -> Command:
        """The prologue; ``alone``, it makes the one statement that follows a read-only transaction of its own."""
        now_limits = limits(
            self._deadline,
            now=self._clock(),
            reserve_s=self._settings.deadline_reserve_s,
            statement_s=self._settings.statement_timeout_s,
            lock_s=self._settings.lock_timeout_s,
            bounds_transaction=self._has_transaction_timeout and not alone,
        )
        return self._scope.prologue(now_limits, read_only=alone)

    def heard(self, result: PGresult) -> bool:  # noqa: ARG002
        """Whether the server may be used: any that answers."""
        return True

    def patience_s(self) -> float | None:
        """Seconds to wait for an answer; None outside an invocation."""
        return patience_s(self._deadline, now=self._clock(), reserve_s=self._settings.deadline_reserve_s)
