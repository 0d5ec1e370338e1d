"""What a server, or a proxy, says when it ends a session: PostgreSQL's ErrorResponse."""

from __future__ import annotations

import struct

ERROR = b"E"


def fatal(code: bytes, words: bytes) -> bytes:
    """An ErrorResponse that ends the session, with the SQLSTATE ``code``."""
    fields = b"".join((b"SFATAL\0", b"VFATAL\0", b"C" + code + b"\0", b"M" + words + b"\0", b"\0"))
    return ERROR + struct.pack("!i", len(fields) + 4) + fields
