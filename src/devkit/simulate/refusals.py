"""How an attempt fails, each with the verdict that ``db`` itself has on the error that the driver would raise."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from db.errors import CapacityError, DeadlineError, Verdict, first_flight_verdict, verdict


@dataclass(frozen=True)
class Reason:
    """``name`` is for the table of errors, ``advice`` is what a failure of that kind asks of who tries again."""

    name: str
    advice: Verdict


def _connecting(name: str, error: psycopg.Error) -> Reason:
    return Reason(name, first_flight_verdict(error))


FULL = _connecting("full", psycopg.OperationalError("FATAL:  sorry, too many clients already"))
AWAY = _connecting("away", psycopg.OperationalError("connection refused"))
LATE = _connecting("connect timed out", psycopg.errors.ConnectionTimeout("connection timeout expired"))
PASSWORD = _connecting("password", psycopg.OperationalError('FATAL:  password authentication failed for user "app"'))
BORROW = _connecting("pooler had none", psycopg.OperationalError("query_wait_timeout"))
LOST = Reason("lost", verdict(psycopg.errors.AdminShutdown()))
CANCELED = Reason("statement timeout", verdict(psycopg.errors.QueryCanceled()))
# What the layer makes of them.
CAPACITY = Reason("CapacityError", verdict(CapacityError("")))
DEADLINE = Reason("DeadlineError", verdict(DeadlineError("")))
CONNECT_DEADLINE = Reason("DeadlineError in a connect", verdict(DeadlineError("", connecting=True)))
TIMED_OUT = Reason("Sandbox.Timedout", Verdict.OUTCOME_UNKNOWN)


class Failed(Exception):  # noqa: N818 - says what happened
    """A step of an invocation that came to nothing."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.name)
        self.reason = reason
