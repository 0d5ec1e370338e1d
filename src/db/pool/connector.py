"""How a connection to a server is opened: with credentials and time as they are then.

Everything that may change while the process lives (password, token, time left) is asked for at each connect, never
built into an engine. A connect that fails has done nothing, so trying it again is always safe, and ``Connector`` does
while there is time. So has the first statement that a pooler refuses for want of a server: it is a connect that failed.
"""

from __future__ import annotations

import importlib
import math
import os
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from db.credentials.login import Login
from db.errors import (
    DOCUMENTATION,
    CapacityError,
    CredentialsError,
    DeadlineError,
    Verdict,
    first_flight_verdict,
    is_of_rate,
    is_of_rules,
    verdict,
)
from db.timing.backoff import Backoff
from db.timing.deadline import usable_s
from db.timing.invocation import current_invocation
from db.timing.timebox import Overdue
from db.timing.waiting import aside, sleep, within

from .certificates import require_files
from .crowding import Crowding
from .environment_variables import without_variables

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Dialect
    from sqlalchemy.engine.interfaces import DBAPIConnection

    from db.credentials.source import Source
    from db.settings import Settings
    from db.wire.first_flight import Refused

    from .connect_arguments import Role

    # Told before each wait: the failure, the number of the attempt that met it, and the seconds of the wait.
    OnWait = Callable[[Exception, int, float], None]

T = TypeVar("T")
# The time is what ends all of these, not the count.
_BACKOFF = Backoff(base_s=0.05, cap_s=1.0, attempts=math.inf)
# Slower, for each round costs others. Of a rotation it is two logins and two requests to Secrets Manager, and the
# reason may be a plain mistake; of a full server it is a process and often a login, and those inside wait for both.
_SLOW_BACKOFF = Backoff(base_s=0.5, cap_s=2.0, attempts=math.inf)
_SLOWLY = {Verdict.REFETCH_CREDENTIALS, Verdict.WAIT_FOR_CAPACITY}
# A server that runs refuses within a few round trips. One that has kept a client waiting for this long is coming up.
_KEPT_WAITING_S = 2.0


class Connector:
    """Opens the connections of one engine: credentials and time limits as they are at that moment.

    ``crowding`` is told when the server had no room.
    """

    def __init__(
        self,
        settings: Settings,
        source: Source | None,
        *,
        role: Role,
        clock: Callable[[], float],
        crowding: Crowding | None = None,
    ) -> None:
        self._settings = settings
        self._source = source
        self._role = role
        self._clock = clock
        self._arguments: Any = importlib.import_module(f"{__package__}.{settings.engine_kind.arguments}")
        self.crowding = crowding or Crowding(clock)

    def __call__(
        self,
        dialect: Dialect,
        cargs: Sequence[Any],
        cparams: dict[str, Any],
        on_wait: OnWait | None = None,
        refused: Refused | None = None,
    ) -> DBAPIConnection:
        """A new connection, tried for until DB_CONNECT_WAIT_S or the invocation's time is over.

        A refused password is fetched again past every cache, at once and after each wait (``credentials.login``). A
        server that is full, starts, stops, resumes or is out of reach is waited for, with full jitter. What waiting
        cannot mend fails at once. With ``refused`` it goes on where it was when it gave the connection whose first
        flight that is.

        Raises the driver's error of the last attempt; CapacityError in its place where the server was full;
        CredentialsError where there are none to try; DeadlineError where an attempt outlasted the invocation's time,
        unless the same credentials had been refused before: then that refusal, which says more.
        """
        login, refusal = Login(self._source), None
        if refused is not None:
            refusal = refused.error
            effort = refused.effort if isinstance(refused.effort, Effort) else self._effort_after(refusal)
            refused.effort = effort
            refusal = self._prepare_another(login, effort, refusal, on_wait)
        else:
            effort = self._effort()
        while True:
            try:
                return self._in_time(lambda: self._open(dialect, cargs, cparams, login), discard=_close)
            except DeadlineError:
                if refusal is None:
                    raise
                effort.give_up(refusal)
            except (dialect.loaded_dbapi.OperationalError, CredentialsError) as error:
                refusal = error
            refusal = self._prepare_another(login, effort, refusal, on_wait)

    def _effort(self) -> Effort:
        began = self._clock()
        ends_at = began + self._left_s(self._settings.connect_wait_s)
        return Effort(began=began, ends_at=ends_at, clock=self._clock)

    def _effort_after(self, refusal: Exception) -> Effort:
        try:
            return self._effort()
        except DeadlineError:
            raise refusal from None

    def _prepare_another(
        self, login: Login, effort: Effort, refusal: Exception, on_wait: OnWait | None
    ) -> Exception | None:
        """Return when there may be another attempt, or raise ``refusal``: None once other credentials are at hand."""
        advice = _advice(refusal)
        if advice is Verdict.GIVE_UP and is_of_rules(refusal) and effort.kept_waiting:
            # Aurora has said so while it resumed: https://github.com/cyrilgdn/terraform-provider-postgresql/issues/540
            advice = Verdict.RECONNECT
        if advice is Verdict.WAIT_FOR_CAPACITY and not is_of_rate(refusal):
            self.crowding.refused()
        if advice is Verdict.REFETCH_CREDENTIALS:
            if self._renewed(login, refusal):
                return None  # it was of others
            if self._source is None:
                advice = Verdict.GIVE_UP  # the URL's: there is nowhere to look for another
        delay_s = effort.delay_s(advice)
        if delay_s is None:
            effort.give_up(refusal)
        if on_wait is not None:
            on_wait(refusal, effort.attempts, delay_s)
        sleep(delay_s)
        login.waited()
        effort.attempts += 1
        return refusal

    def _open(self, dialect: Dialect, cargs: Sequence[Any], cparams: dict[str, Any], login: Login) -> DBAPIConnection:
        credentials = aside(login.credentials) if self._source is not None else None
        timeout_s = self._left_s(self._settings.connect_timeout_s)
        params = self._arguments.connect_params(
            self._settings, credentials, cparams, role=self._role, timeout_s=timeout_s
        )
        require_files(params)
        return dialect.connect(*cargs, **without_variables(params, os.environ, driver=dialect.driver))

    def _renewed(self, login: Login, refusal: Exception) -> bool:
        """Whether there are other credentials to try. What stands in the way of looking is noted on the refusal."""
        try:
            return self._in_time(lambda: aside(login.renew), discard=_forget)
        except CredentialsError as error:
            if not error.transient:
                raise error from refusal
            refusal.add_note(f"a newer password could not be fetched: {error}")
            return False
        except DeadlineError:
            refusal.add_note("no time was left to look for a newer password")
            return False

    def _left_s(self, at_most_s: float) -> float:
        reserve_s = self._settings.deadline_reserve_s
        return usable_s(current_invocation().deadline, now=self._clock(), reserve_s=reserve_s, at_most_s=at_most_s)

    def _in_time(self, work: Callable[[], T], *, discard: Callable[[T], object]) -> T:
        """What ``work()`` gives within what is left of the invocation; outside of one the driver's limit holds."""
        if current_invocation().deadline is None:
            return work()
        left_s = self._left_s(math.inf)
        try:
            return within(left_s, work, discard=discard)
        except Overdue:
            raise DeadlineError(
                f"no connection in the {left_s:.3f} s that were left of the invocation: nothing was done. A database "
                f"that had paused may be there for the next one: see {DOCUMENTATION}run/aurora/#resuming-from-zero",
                connecting=True,
            ) from None


@dataclass(kw_only=True, eq=False, repr=False, match_args=False)
class Effort:
    """What one connection has cost so far: which attempt it is now, since when, and when there is to be no other."""

    began: float
    ends_at: float
    clock: Callable[[], float]
    attempts: int = 1

    def left_s(self) -> float:
        """Seconds until then. A clock that is set back meanwhile begins them anew, and adds nothing."""
        now = self.clock()
        if now < self.began:
            self.began, self.ends_at = now, now + self.ends_at - self.began
        return self.ends_at - now

    def delay_s(self, advice: Verdict, *, draw: Callable[[], float] = random.random) -> float | None:
        """Seconds to wait before the next attempt, which ``advice`` asks for; None where there is to be none."""
        backoff = _SLOW_BACKOFF if advice in _SLOWLY else _BACKOFF
        return backoff.delay_s(advice, self.attempts, left_s=self.left_s(), draw=draw)

    @property
    def kept_waiting(self) -> bool:
        """Whether this is no server that answers at once."""
        return self.attempts > 1 or self.clock() - self.began >= _KEPT_WAITING_S

    def give_up(self, refusal: Exception) -> NoReturn:
        """Raise ``refusal``, and CapacityError in its place where the server was full."""
        spent = f"{self.attempts} attempts in {self.clock() - self.began:.1f} s"
        if _advice(refusal) is Verdict.WAIT_FOR_CAPACITY:
            said = _first_line(refusal)
            raise CapacityError(f"the database had no connection to give in {spent}: {said}") from refusal
        if self.attempts > 1:
            refusal.add_note(f"the last of {spent}")
        raise refusal


def _advice(refusal: Exception) -> Verdict:
    return verdict(refusal) if isinstance(refusal, CredentialsError) else first_flight_verdict(refusal)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _close(connection: DBAPIConnection) -> None:
    connection.close()


def _forget(_: object) -> None:
    """What came too late is of no use."""
