"""Whether a proxy that pools transactions stands before the server: by DB_PROXY, or by what the connection shows.

Such a proxy lends its connections for a transaction at a time, so that nothing of a session's is the client's own.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy import exc, text

from db.errors import DOCUMENTATION, CapacityError, ConfigurationError
from db.transactions.driver import flight_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from db.settings import Settings

# Other clients may be lent the connection in between, or be quicker: so it is looked for several times.
_ROUNDS = 8
# A second client that waits for longer is not lent the idle connection of the first.
_PATIENCE_S = 2.0
_PID = text("SELECT pg_backend_pid()")
_REFUSAL = (
    "{} stands between the migrations and the server, and lends its connections for a transaction at a time: the lock "
    "of the migrations and their limits would be other clients'. Run them straight at the server, with its address in "
    f"DB_HOST and DB_PROXY=none ({DOCUMENTATION}start/database/#migrations)"
)


def refuse_proxy(settings: Settings) -> None:
    """Raise ConfigurationError where the settings say that there is one."""
    if settings.proxy != "none":
        raise ConfigurationError([_REFUSAL.format(f"DB_PROXY={settings.proxy}")])


def refuse_pooler(conn: Connection) -> None:
    """Raise ConfigurationError where ``conn`` is found to go through one.

    A server says at connect which of its processes serves the client, and a pooler makes a number up. One that pools
    sessions does so too, and serves: so it is also looked whether the process changes, or serves another client as
    well.
    """
    flight = flight_of(conn)
    if flight is None:
        return
    first = _pid(conn)
    if first != flight.info.backend_pid and is_shared(conn, first):
        raise ConfigurationError([_REFUSAL.format("a pooler")])


def is_shared(conn: Connection, first: int) -> bool:
    """Whether a pooler was seen to lend ``first``, the server's process behind ``conn``, for a transaction at a time.

    Ends the transaction of ``conn``, and opens a second connection for the look.
    """
    conn.commit()  # or else a pool of one has nothing to lend
    # One that cannot have a connection while the first one's is idle, is not lent that.
    with suppress(exc.OperationalError, CapacityError), conn.engine.connect() as other:
        flight = flight_of(other)
        if flight is not None:
            flight.patience_s = lambda: _PATIENCE_S
        for _ in range(_ROUNDS):
            # Twice in a row, for a pooler may lend its connections in turn.
            if _pid(other) == first or {_pid(conn), _pid(conn)} != {first}:
                return True
    return False


def _pid(conn: Connection) -> int:
    pid: int = conn.execute(_PID).scalar_one()
    conn.commit()
    return pid
