"""What a record holds as JSON: written, or refused by the place that JSON cannot hold. Pure."""

from __future__ import annotations

import json
from typing import Any

_REMEDY = "give text, numbers, lists and dicts with names as keys, as by str(), isoformat() or model_dump(mode='json')"


def as_json(value: Any, *, called: str, **options: Any) -> str:
    """``value`` as JSON. Raises TypeError, with the place in it: ``called``, and what leads there."""
    try:
        return json.dumps(value, **options)
    except (TypeError, ValueError, RecursionError) as error:
        place = _place(value, "", ())
        raise TypeError(f"JSON cannot hold {called}{f', at {place}' if place else ''}: {error}; {_REMEDY}") from error


def _place(value: Any, at: str, around: tuple[int, ...]) -> str | None:
    """The first place that cannot be written; None where each part by itself can."""
    if value is None or isinstance(value, str | int | float):
        return None
    if id(value) in around:
        return at
    around = (*around, id(value))
    if isinstance(value, dict):
        if not all(key is None or isinstance(key, str | int | float) for key in value):
            return f"a key of {at}" if at else "a key"
        parts = ((f"{at}[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple):
        parts = ((f"{at}[{number}]", part) for number, part in enumerate(value))
    else:
        return at
    return next(filter(None, (_place(part, where, around) for where, part in parts)), None)
