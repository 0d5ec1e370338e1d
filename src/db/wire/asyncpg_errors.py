"""What asyncpg's errors are called: by the names that psycopg has for the same, so that one ``except`` serves both."""

from __future__ import annotations

from typing import Any

import asyncpg
from psycopg.errors import get_base_exception

from db.errors import sqlstate

# What may come of a connection that has been lost. asyncpg says the last of one whose end it has half heard.
_OF_THE_LOST = (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
# asyncpg's own check, ahead of each message. It fails on a connection that the server has said goodbye on.
_NOT_SENT = "cannot switch to state"
_GONE = "the server closed the connection unexpectedly"


class NoAnswerError(asyncpg.ConnectionDoesNotExistError):  # type: ignore[misc] # asyncpg is not typed here
    """The server did not answer in time, and the connection was closed."""


def server_error(error: BaseException) -> BaseException:
    """The server's last words, where a lost connection had some."""
    cause = error.__cause__
    return (
        cause
        if isinstance(error, asyncpg.PostgresConnectionError) and isinstance(cause, asyncpg.PostgresError)
        else error
    )


def is_unsent(error: BaseException) -> bool:
    """Whether asyncpg raised ``error`` in place of sending anything."""
    return isinstance(error, asyncpg.InterfaceError) or (
        isinstance(error, asyncpg.InternalClientError) and str(error).startswith(_NOT_SENT)
    )


def of_a_lost_connection(dbapi: Any, error: Exception) -> Exception | None:
    """OperationalError, with the server's last words, for ``error`` of a connection that is closed; None for others."""
    if not isinstance(error, _OF_THE_LOST):
        return None
    said = _GONE if isinstance(error, asyncpg.InternalClientError) else str(error)
    lost: Exception = dbapi.OperationalError(said, server_error(error))
    return lost


def as_in_psycopg(dbapi: Any, translated: Exception) -> Exception:
    """What SQLAlchemy made of an error of the server's, or an error by the name that psycopg has for its SQLSTATE."""
    code = sqlstate(translated)
    if code is None:
        return translated
    name: type[Exception] = getattr(dbapi, get_base_exception(code).__name__)
    return translated if isinstance(translated, name) else name(str(translated), translated.__cause__)
