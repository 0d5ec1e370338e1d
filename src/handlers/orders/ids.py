"""UUIDv7 (RFC 9562): ids that sort by the time of their making, so that a key range is a time range."""

from __future__ import annotations

import secrets
import time
import uuid

_VERSION = 7
_VARIANT = 0b10


def uuid7(*, now_ms: int | None = None) -> uuid.UUID:
    """A new id: 48 bits of Unix milliseconds, then 74 random bits. ``uuid.uuid7`` has come with Python 3.14."""
    milliseconds = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    return uuid.UUID(
        int=milliseconds << 80 | _VERSION << 76 | secrets.randbits(12) << 64 | _VARIANT << 62 | secrets.randbits(62)
    )
