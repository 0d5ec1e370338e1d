"""What a record holds as JSON: written, or refused by the place that JSON cannot hold. Pure."""

from __future__ import annotations

import json
from typing import Any


def as_json(value: Any, *, called: str, **options: Any) -> str:
    """``value`` as JSON. Raises TypeError or ValueError, with the place in it: ``called`` and what leads there."""
    try:
        return json.dumps(value, **options)
    except (TypeError, ValueError) as error:
        place = _what_cannot_be(value, called, ())
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"{place or f'{called}: {error}'}, which is not JSON serializable: give text, numbers, lists and dicts "
            "with names as keys, as by str(), isoformat() or model_dump(mode='json')"
        ) from error


def _what_cannot_be(value: Any, place: str, around: tuple[int, ...]) -> str | None:
    """The first place that cannot be written, and what it is; None where each part by itself can."""
    if value is None or isinstance(value, str | int | float):
        return None
    if id(value) in around:
        return f"{place} is what it stands in"
    around = (*around, id(value))
    if isinstance(value, dict):
        wrong = next((key for key in value if not (key is None or isinstance(key, str | int | float))), None)
        if wrong is not None:
            return f"a key of {place} is {_article(wrong)}"
        parts = ((f"{place}[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple):
        parts = ((f"{place}[{number}]", part) for number, part in enumerate(value))
    else:
        return f"{place} is {_article(value)}"
    return next(filter(None, (_what_cannot_be(part, where, around) for where, part in parts)), None)


def _article(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
