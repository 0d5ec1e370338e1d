"""What may be sent to COPY in binary: the types whose values are certain to arrive as they are.

Binary, the server takes the bytes that it is given, so what a value is not is for the client to say. psycopg's encoders
say it for most types; those of small integers, of boolean and of JSON take more than they ought to: 2**40 for an int4
is 0, ``"f"`` for a boolean is true, and a text for a JSON column becomes a string within JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg

from db.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    Fits = Callable[[Sequence[Any]], bool]


def _from_to(bits: int) -> Fits:
    lowest, highest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return lambda values: lowest <= min(values) and max(values) <= highest


def _of_kinds(*kinds: type) -> Fits:
    return lambda values: set(map(type, values)).issubset(kinds)


def _no_text(values: Sequence[Any]) -> bool:
    return not any(issubclass(kind, str | bytes) for kind in set(map(type, values)))


# By the type's name, which psycopg knows the number of: what all values of a column have to be, beyond what their
# encoder looks at itself. A type that is not here has no encoder, or one that nobody has looked at.
_FITS: dict[str, Fits | None] = {
    "bool": _of_kinds(bool),
    "int2": _from_to(16),
    "int4": _from_to(32),
    "int8": None,
    "float8": None,
    "numeric": None,
    "text": None,
    "bytea": _of_kinds(bytes, bytearray, memoryview),
    "uuid": None,
    "date": None,
    "time": None,
    "timestamp": None,
    "timestamptz": None,
    "interval": None,
    "json": _no_text,
    "jsonb": _no_text,
}


def fits_of(kinds: Sequence[tuple[str, int]], call: str) -> list[Fits | None]:
    """What to look at in each column, by its name and the number of its type. Raises ConfigurationError."""
    known = {psycopg.adapters.types[name].oid: fits for name, fits in _FITS.items()}
    for name, kind in kinds:
        if kind not in known:
            problem = f"the type of column {name} is not among those that are sent so: {', '.join(_FITS)}"
            raise ConfigurationError([f"{call}(binary=True): {problem}, and what is kept as text"])
    return [known[kind] for _, kind in kinds]


def checked(
    parts: Iterable[Sequence[Sequence[Any]]], fits: Sequence[Fits | None], *, first_number: int
) -> Iterator[Sequence[Sequence[Any]]]:
    """``parts``. Raises DataError for a value that its column's type does not hold, with the number of its row."""
    looked_at = [(place, one) for place, one in enumerate(fits) if one is not None]
    number = first_number
    for part in parts:
        for place, is_fit in looked_at:
            # A row that is too short is refused where it is encoded.
            values = [row[place] for row in part if place < len(row) and row[place] is not None]
            if values and not _all_fit(values, is_fit):
                _refuse(part, place, is_fit, number)
        yield part
        number += len(part)


def _all_fit(values: Sequence[Any], is_fit: Fits) -> bool:
    try:
        return is_fit(values)
    except TypeError:  # they do not compare with numbers
        return False


def _refuse(part: Sequence[Sequence[Any]], place: int, is_fit: Fits, first_number: int) -> None:
    for number, row in enumerate(part, first_number):
        if place < len(row) and row[place] is not None and not _all_fit([row[place]], is_fit):
            kind = type(row[place]).__name__
            raise psycopg.DataError(
                f"row {number}: the value for column {place + 1}, of Python's type {kind}, is none that it holds"
            )
