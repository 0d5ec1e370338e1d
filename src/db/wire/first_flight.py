"""A first flight that met the end of its connection: whether it asks for another, and what whoever opens that is told.

A flight that was refused in words, as a pooler refuses it in place of the connect, is a connect that failed: whoever
opens the next connection finds it by ``refused_on``, and waits, renews the login or gives up, as after a refusal of its
own. What met a dead connection is sent again at once.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from db.errors import DeadlineError, Verdict, first_flight_verdict, is_in_words

from .session_leftovers import IN_HANDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

# A kept connection was dead, and so was the new one: more than that is no accident of the one or the other.
_REPLAYS = 2
_ASK_TO_CONNECT = {Verdict.RECONNECT, Verdict.REFETCH_CREDENTIALS, Verdict.WAIT_FOR_CAPACITY}
_REFUSED = "db_refused"  # in a pool's record, which stays while the connection below it is replaced


class Effort(Protocol):
    """How often, and since when, a connection has been tried for."""

    def give_up(self, refusal: Exception) -> NoReturn:
        """Raise what is to be said of ``refusal``, now that there is no time for another attempt."""
        ...


@dataclass(eq=False, repr=False, match_args=False)
class Refused:
    """A first flight that was refused in the place of its connect. Whoever connects notes its ``effort`` here."""

    error: Exception
    effort: Effort | None = None


def refused_on(record: ConnectionPoolEntry) -> Refused | None:
    """What refused the flight that the connection of ``record`` is to be opened for; None where nothing did."""
    found = record.record_info.get(_REFUSED) if record.record_info else None
    return found if isinstance(found, Refused) else None


def asks_to_connect(error: BaseException) -> bool:
    """Whether all that ``error`` tells of a first flight is that another connection is needed."""
    return first_flight_verdict(error) in _ASK_TO_CONNECT


class FirstFlight:
    """What one flight has met so far: how many connections were dead, and what refused it last."""

    def __init__(self) -> None:
        self._deaths = 0
        self._refused: Refused | None = None

    def met(self, error: Exception) -> Refused | None:
        """Count ``error``, and raise it where it is one too many. Of refusals, whoever connects says how many."""
        if is_in_words(error):
            self._refused = Refused(error, self._refused.effort if self._refused else None)
            return self._refused
        self._deaths += 1
        if self._deaths > _REPLAYS:
            raise error
        return None

    @contextlib.contextmanager
    def time_is_up(self) -> Iterator[None]:
        """Raise the refusal in place of a DeadlineError in the block: it says what the time was waited away for."""
        try:
            yield
        except DeadlineError:
            if self._refused is None or self._refused.effort is None:
                raise
            self._refused.effort.give_up(self._refused.error)


def reopen(record: Any, error: Exception, flight: FirstFlight) -> DBAPIConnection:
    """Another connection in the place of that of ``record``, on which ``flight`` met ``error``."""
    refused = flight.met(error)
    at_return: list[Any] = list(record.finalize_callback)  # puts the isolation level back; SQLAlchemy forgets it
    record.invalidate(error)
    record.record_info[_REFUSED] = refused
    try:
        connection: DBAPIConnection = record.get_connection()
    finally:
        del record.record_info[_REFUSED]
    record.finalize_callback.extend(at_return)
    record.info[IN_HANDS] = True  # as the one before was, and its listeners have spoken
    return connection
