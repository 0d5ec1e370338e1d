"""In which encoding a connection speaks: UTF-8, as the layer's own texts are written. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

ENCODING = "UTF8"
# By letters and digits alone, as the server reads such names.
_NAMES = {"utf8", "unicode"}
_OPTION = re.compile(r"client[_-]encoding\s*=\s*(\S+)", re.IGNORECASE)


def other_encoding(params: Mapping[str, Any]) -> str | None:
    """The ``client_encoding`` that a connect's ``params`` ask for, or ``options`` in them; None where it is UTF-8."""
    in_options = (name for options in _texts(params.get("options")) for name in _OPTION.findall(options))
    return next((name for name in (*_texts(params.get("client_encoding")), *in_options) if not _is_utf8(name)), None)


def _texts(value: Any) -> tuple[str, ...]:
    # A URL may say a thing several times.
    return () if value is None else tuple(map(str, value)) if isinstance(value, tuple) else (str(value),)


def _is_utf8(name: str) -> bool:
    return re.sub(r"[^a-z0-9]", "", name.lower()) in _NAMES
