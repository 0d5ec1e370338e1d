"""What a forked child does with the connections that it has inherited: it hangs up its own end, and the parent's lives.

Parent and child share each socket, so a goodbye that the child says, or the COMMIT of a block which it leaves, would be
the parent's.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Any


def part_from(connection: Any) -> None:
    """Put a dead socket below ``connection``, in this process alone: to it, the server has gone.

    Not by closing: what looks after the descriptor (an event loop, the driver) would then close another file of that
    number.
    """
    descriptor = _descriptor(connection)
    if descriptor is None or descriptor < 0:
        return
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        with contextlib.suppress(OSError):  # it was closed already
            os.dup2(ours.fileno(), descriptor, inheritable=False)


def _descriptor(connection: Any) -> int | None:
    driver = getattr(connection, "driver_connection", connection)
    if (pgconn := getattr(driver, "pgconn", None)) is not None:
        with contextlib.suppress(Exception):  # libpq has none for a connection that is closed
            return int(pgconn.socket)
    if (line := getattr(driver, "_sock", None)) is not None:  # PyMySQL's
        return int(line.fileno())
    if (line := getattr(driver, "_line", None)) is not None:  # asyncpg's
        return int(line.fileno())
    return None
