"""How a setting is read from text, and what it may be when it is given in code."""

from __future__ import annotations

import json
from dataclasses import field
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import URL

if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX = "DB_"

# The words for a boolean, in any case.
FLAGS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


class Kind(NamedTuple):
    """``convert`` reads text, and raises ValueError whose words follow the setting's name; ``types`` are a value's."""

    convert: Callable[[str], Any]
    types: tuple[type, ...]
    names: tuple[str, ...] = ()

    def problem(self, value: object) -> str | None:
        """What is wrong with a value that is given in code."""
        if not isinstance(value, self.types) or (isinstance(value, bool) and bool not in self.types):
            return f"is a {type(value).__name__}, not a {self.types[0].__name__}"
        return f"is none of {', '.join(self.names)}: {value!r}" if self.names and value not in self.names else None


def _whole(raw: str) -> int:
    try:
        return int(raw)
    except ValueError:
        raise ValueError("is not a whole number") from None


def _seconds(raw: str) -> float:
    try:
        value = float(raw)
    except ValueError:
        raise ValueError("is not a number of seconds") from None
    if value in (float("inf"), float("-inf")) or value != value:  # noqa: PLR0124 - NaN is the one unequal to itself
        raise ValueError("is not a finite number of seconds")
    return value


def _flag(raw: str) -> bool:
    if raw.lower() in FLAGS:
        return FLAGS[raw.lower()]
    raise ValueError("is neither true nor false")


def _json_object(raw: str) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError("is not a JSON object")  # noqa: TRY004 - every converter raises ValueError
    return value


def choice(*names: str) -> Kind:
    """One word of a few."""

    def convert(raw: str) -> str:
        if raw not in names:
            raise ValueError(f"is none of {', '.join(names)}")
        return raw

    return Kind(convert, (str,), names)


TEXT = Kind(str, (str,))
WHOLE = Kind(_whole, (int,))
SECONDS = Kind(_seconds, (float, int))
FLAG = Kind(_flag, (bool,))
URL_OR_TEXT = Kind(str, (URL,))  # text is read by ``Settings``, whether it comes from the environment or from code
JSON_OBJECT = Kind(_json_object, (dict,))


def setting(
    default: Any,
    kind: Kind,
    sentence: str,
    *,
    floor: float | None = None,
    secret: bool = False,
    page: str | None = None,
) -> Any:
    """A row of the table. ``page`` is where docs/ says more."""
    metadata = {"kind": kind, "sentence": sentence, "floor": floor, "secret": secret, "page": page}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata, repr=not secret)
    return field(default=default, metadata=metadata, repr=not secret)
