"""A failure of the user's code in words that hold no value: its type, what its message says without values, its place.

A message may repeat anything, above all one that a user wrote. What is shown of it is what Python, the server and this
package write themselves, where that consists of names.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from sqlalchemy import exc

from db.errors import AlreadyDoneError, DbError, KeyReusedError

from .holders import place_of_failure
from .statement_events import named

if TYPE_CHECKING:
    from collections.abc import Iterator

# Whose messages name types, attributes, modules, or nothing. Not those derived from them.
_OF_NAMES = {
    *(AttributeError, ImportError, ModuleNotFoundError, NameError, TypeError, UnboundLocalError),
    *(exc.InvalidRequestError, exc.MultipleResultsFound, exc.NoResultFound, exc.PendingRollbackError),
    exc.ResourceClosedError,
}
_OF_KEYS = AlreadyDoneError, KeyReusedError
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|\d+")
_DIAGNOSED = "constraint_name", "table_name", "column_name"


def in_words(error: BaseException) -> str:
    """As in 'IntegrityError 23505: duplicate key value violates … (orders_pkey, orders), at intake.py:12 in store'."""
    said = " ".join(_said(error).split())
    place = place_of_failure(error)
    return f"{named(error)}{f': {said}' if said else ''}{f', at {place}' if place else ''}"


def _said(error: BaseException) -> str:
    if isinstance(error, exc.DBAPIError):
        return _servers(error.orig)
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}: line {error.lineno} column {error.colno}"
    if type(error) in _OF_NAMES or (isinstance(error, DbError) and not isinstance(error, _OF_KEYS)):
        return str(error)
    return ""


def _servers(error: BaseException | None) -> str:
    """The server's own words, without what it quotes: a name by its looks, or a value."""
    diagnosed = getattr(error, "diag", None)  # psycopg's
    primary = getattr(diagnosed, "message_primary", None)
    if primary is None:
        return ""
    names = ", ".join(_names(diagnosed))
    return _QUOTED.sub("…", primary) + (f" ({names})" if names else "")


def _names(diagnosed: object) -> Iterator[str]:
    for attribute in _DIAGNOSED:
        if name := getattr(diagnosed, attribute, None):
            yield name
