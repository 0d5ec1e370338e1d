"""How a connection to PostgreSQL is opened: the driver's connect arguments, with credentials and time as they are then.

``connect_params`` decides, as a function of values; ``Connector`` does. Everything that may change while the process
lives (password, token, time left) is asked for at each connect, never built into an engine.

A connect that fails has done nothing, so trying it again is always safe, and ``Connector`` does while there is time.
"""

from __future__ import annotations

import ipaddress
import math
import re
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

from db.credentials import DEFAULT_PORT
from db.credentials.entry import Entry
from db.errors import CapacityError, ConfigurationError, CredentialsError, DeadlineError, Verdict, verdict
from db.timing.backoff import Backoff
from db.timing.deadline import usable_s
from db.timing.invocation import current_invocation
from db.timing.timebox import Overdue
from db.timing.waiting import aside, sleep, within

from .crowding import Crowding

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Dialect
    from sqlalchemy.engine.interfaces import DBAPIConnection

    from db.credentials import Credentials, Source
    from db.settings import Settings

    # Told before each wait: the failure, the number of the attempt that met it, and the seconds of the wait.
    OnWait = Callable[[Exception, int, float], None]

T = TypeVar("T")
Role = Literal["writer", "reader", "unpooled"]

# libpq counts in whole seconds and psycopg raises anything lower to this: see ``timebox`` for what bounds it further.
CONNECT_FLOOR_S = 2
# An attempt is not begun with less than this: three round trips, and TLS, within a region.
_LEAST_S = 0.1
# The time is what ends all of these, not the count.
_BACKOFF = Backoff(base_s=0.05, cap_s=1.0, attempts=math.inf)
# Slower, for each round costs others. Of a rotation it is two logins and two requests to Secrets Manager, and the
# reason may be a plain mistake; of a full server it is a process and often a login, and those inside wait for both.
_SLOW_BACKOFF = Backoff(base_s=0.5, cap_s=2.0, attempts=math.inf)
_SLOWLY = {Verdict.REFETCH_CREDENTIALS, Verdict.WAIT_FOR_CAPACITY}
# A peer that went silent is given up after this much unacknowledged sending: well inside an API's ten seconds, well
# above what a busy network needs to retransmit. Keepalives find the same while waiting for a long statement's answer.
_SILENT_PEER_S = 5
_OF_OPTIONS = re.compile(r"[\\\s]")  # what ends a word in libpq's ``options``, or escapes that
_KEEPALIVES = {"keepalives": 1, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}


def endpoint(settings: Settings, role: Role) -> str | None:
    """The host that the settings name for ``role``; None leaves it to the secret or the URL."""
    return settings.reader_host if role == "reader" and settings.reader_host else settings.host


def port(settings: Settings, role: Role) -> int | None:
    """The port that the settings name for ``role``."""
    return settings.reader_port if role == "reader" and settings.reader_port else settings.port


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine, so that traffic to it crosses no network: a socket's folder counts."""
    if host == "localhost" or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def connect_params(
    settings: Settings, credentials: Credentials | None, given: Mapping[str, Any], *, role: Role, timeout_s: float
) -> dict[str, Any]:
    """psycopg's connect arguments.

    ``given`` is what SQLAlchemy made of the URL, where that is the source. The settings win over it and over the
    secret; DB_CONNECT_ARGS has the last word, and startup options add up. Raises ConfigurationError where no host is
    named, or where the certificate cannot be verified as asked.
    """
    host = endpoint(settings, role) or given.get("host") or (credentials.host if credentials else None)
    if not host:
        raise ConfigurationError(["no host: the secret names none, and DB_HOST is not set"])
    # The driver grants it to each host of a list anew.
    limit_s = max(CONNECT_FLOOR_S, math.floor(timeout_s / (host.count(",") + 1)))
    params: dict[str, Any] = {
        "host": host,
        "port": (credentials.port if credentials else None) or DEFAULT_PORT,
        "dbname": (credentials.database if credentials else None) or "postgres",
        "application_name": settings.function_name or "db",
        "connect_timeout": limit_s,
        "tcp_user_timeout": _SILENT_PEER_S * 1000,
        **_KEEPALIVES,
        # A sixth execution would prepare, at one more trip, and a later rollback would DEALLOCATE ALL, which pins
        # RDS Proxy and confuses a PgBouncer below 1.22: https://github.com/psycopg/psycopg/issues/1105
        "prepare_threshold": None,
    }
    params |= {key: value for key, value in given.items() if value is not None}
    named = {
        "host": host,
        "port": port(settings, role),
        "dbname": settings.name,
        "user": settings.user,
        "application_name": settings.application_name,
        "connect_timeout": min(int(params["connect_timeout"]), limit_s),
        "options": _startup_options(settings, given),
    }
    if credentials is not None:
        params |= {"user": credentials.username, "password": credentials.password}
    params |= {key: value for key, value in named.items() if value is not None}
    further = {key: value for key, value in settings.connect_args.items() if key != "options"}
    return _with_tls(settings, params | further)


def _startup_options(settings: Settings, given: Mapping[str, Any]) -> str | None:
    # Neither PgBouncer below 1.20 nor RDS Proxy takes them; there each transaction's prologue sets the search path.
    search_path = None
    if settings.schema and settings.proxy == "none":
        search_path = "-c search_path=" + _OF_OPTIONS.sub(r"\\\g<0>", settings.schema)
    return " ".join(filter(None, (given.get("options"), search_path, settings.connect_args.get("options")))) or None


def _with_tls(settings: Settings, params: dict[str, Any]) -> dict[str, Any]:
    mode = settings.sslmode or params.get("sslmode") or ("prefer" if is_loopback(params["host"]) else "verify-full")
    rootcert = settings.sslrootcert or params.get("sslrootcert")
    if mode.startswith("verify") and not rootcert:
        problem = (
            f"sslmode {mode} is to verify {params['host']!r}, and DB_SSLROOTCERT names no certificates to trust "
            "(docs/packaging.md)"
        )
        raise ConfigurationError([problem])
    return {**params, "sslmode": mode} | ({"sslrootcert": rootcert} if rootcert else {})


class Connector:
    """Opens the connections of one PostgreSQL engine: credentials and time limits as they are at that moment.

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
        self.crowding = crowding or Crowding(clock)

    def __call__(
        self, dialect: Dialect, cargs: Sequence[Any], cparams: dict[str, Any], on_wait: OnWait | None = None
    ) -> DBAPIConnection:
        """A new connection, tried for until DB_CONNECT_WAIT_S or the invocation's time is over.

        A refused password is fetched again past every cache, at once and after each wait (``credentials.entry``). A
        server that is full, starts, stops or is out of reach is waited for, with full jitter. What waiting cannot mend
        fails at once.

        Raises the driver's error of the last attempt; CapacityError in its place where the server was full;
        CredentialsError where there are none to try; DeadlineError where an attempt outlasted the invocation's time.
        """
        entry, attempt = Entry(self._source), 1
        began = self._clock()
        ends_at = began + self._left_s(self._settings.connect_wait_s)
        while True:
            try:
                return self._in_time(lambda: self._open(dialect, cargs, cparams, entry), discard=_close)
            except (dialect.loaded_dbapi.OperationalError, CredentialsError) as caught:
                error: Exception = caught
            advice = verdict(error)
            if advice is Verdict.WAIT_FOR_CAPACITY:
                self.crowding.refused()
            if advice is Verdict.REFETCH_CREDENTIALS and self._renewed(entry, error):
                continue
            backoff = _SLOW_BACKOFF if advice in _SLOWLY else _BACKOFF
            delay_s = backoff.delay_s(advice, attempt, left_s=ends_at - self._clock() - _LEAST_S)
            if delay_s is None:
                _raise_last(error, advice, attempts=attempt, waited_s=self._clock() - began)
            if on_wait is not None:
                on_wait(error, attempt, delay_s)
            sleep(delay_s)
            entry.waited()
            attempt += 1

    def _open(self, dialect: Dialect, cargs: Sequence[Any], cparams: dict[str, Any], entry: Entry) -> DBAPIConnection:
        credentials = aside(entry.credentials) if self._source is not None else None
        timeout_s = self._left_s(self._settings.connect_timeout_s)
        params = connect_params(self._settings, credentials, cparams, role=self._role, timeout_s=timeout_s)
        return dialect.connect(*cargs, **params)

    def _renewed(self, entry: Entry, refusal: Exception) -> bool:
        """Whether there are other credentials to try. What stands in the way of looking is noted on the refusal."""
        try:
            return self._in_time(lambda: aside(entry.renew), discard=_forget)
        except CredentialsError as error:
            if not error.transient:
                raise error from refusal
            refusal.add_note(f"a newer password could not be fetched: {error}")
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
                f"no connection in the {left_s:.3f} s that were left of the invocation: nothing was done"
            ) from None


def _raise_last(error: Exception, advice: Verdict, *, attempts: int, waited_s: float) -> NoReturn:
    effort = f"{attempts} attempts in {waited_s:.1f} s"
    if advice is Verdict.WAIT_FOR_CAPACITY:
        raise CapacityError(f"the database had no connection to give in {effort}: {_first_line(error)}") from error
    if attempts > 1:
        error.add_note(f"the last of {effort}")
    raise error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _close(connection: DBAPIConnection) -> None:
    connection.close()


def _forget(_: object) -> None:
    """What came too late is of no use."""
