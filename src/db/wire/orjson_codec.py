"""JSON by orjson: what ``json`` would give, sooner. Loaded where DB_JSON asks for it, as the package is an extra.

orjson is another parser with other limits. Where its answer would be another one, ``json`` gives it: these two
functions are ``json.loads`` and ``json.dumps``, but for the blanks and escapes that ``dumps`` leaves out, and for UUIDs
and members of an Enum, which orjson writes and cannot be kept from writing.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

# Beyond 64 bits orjson makes an integer a float, and says nothing. Such a one has twenty digits, or a minus and
# nineteen. A translation and a search find them in a fifth of the time that a regular expression takes.
_AS_DIGITS = bytes(ord("0") if chr(byte) in "-0123456789" else ord(" ") for byte in range(256))
_MAY_BE_BEYOND = b"0" * 20
# What these would have written, ``json`` refuses, or writes by a method of the value's own.
_AS_JSON = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS


def loads(text: str | bytes) -> Any:
    """``json.loads``, of what a database holds."""
    try:
        data = text.encode() if isinstance(text, str) else text
        if _MAY_BE_BEYOND not in data.translate(_AS_DIGITS):
            return orjson.loads(data)
    except ValueError:
        pass  # NaN, 1e400, half of a surrogate pair, depths: ``json`` reads them, or has its own words for an error
    return json.loads(text)


def dumps(value: Any) -> str:
    """``json.dumps``, in as few characters as may be."""
    try:
        data = orjson.dumps(value, option=_AS_JSON)
    except TypeError:
        return json.dumps(value)  # integers beyond 64 bits, keys that are no str; or it refuses the value, too
    # NaN is null to orjson. ``json`` writes NaN, which PostgreSQL refuses.
    return json.dumps(value) if b"null" in data else data.decode()
