"""One unit of work: whose connection it holds, and what has become of its COMMIT.

An exception alone does not tell whether a commit failed: SQLAlchemy raises the same for a lost ROLLBACK, a lost fetch
and a lost COMMIT, and the block may have sent a COMMIT itself before something else failed. So whoever sends a COMMIT
writes it down here: before it leaves, that its outcome is unknown, and after the answer what that was.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from db.errors import CAME_IN_COMMIT, sqlstate

if TYPE_CHECKING:
    from sqlalchemy import Connection, Dialect, Engine
    from sqlalchemy.pool import PoolProxiedConnection

_UNIT = "db_unit"  # the attribute of a checkout that holds it
_LAST_WORDS = ("57P", "08")  # operator_intervention of a session, connection_exception
# The server ended the session for a time limit of ours, so a COMMIT that met this did not take place.
_ENDED_BY_LIMIT = {"25P03", "25P04"}  # idle_in_transaction_session_timeout, transaction_timeout


class TellingPrologue(Protocol):
    """What a unit of work says behind BEGIN."""

    tenant: str | None

    def tell(self, tenant: str | None) -> None:
        """From the next transaction on, say this tenant."""
        ...


class ServingConnection(Protocol):
    """What a unit of work needs of the driver's connection below it."""

    single_reads: bool
    begun: int

    @property
    def prologue(self) -> TellingPrologue | None:
        """What it says behind each BEGIN."""
        ...

    @property
    def failed(self) -> bool | None:
        """Whether the server refuses everything but a rollback; None where it has to be asked."""
        ...

    def leave(self) -> None:
        """The unit has ended, and with it what held for it."""
        ...


@dataclass(eq=False, slots=True)
class Unit:
    """Open until its block has ended, and what follows that; ``block_ended``, until what follows.

    ``read_only``: it was opened to write nothing. ``said_read_only``: a text of its own said so. ``committed``: a
    COMMIT of its was answered. ``outcome_unknown``: a COMMIT was sent and no answer has come. ``statement_failed``: any
    statement did. ``leaves``: what its statements left on the session, by kind. ``connection`` works for it now, where
    the driver tells it what it needs; ``begun`` counts, once that has left it, the transactions that were opened on it.
    ``place`` is the user's line that opened it, as ``db.telemetry.holders`` notes one.
    """

    engine: Engine | None = None
    open: bool = True
    read_only: bool = False
    place: object = None
    said_read_only: bool = False
    block_ended: bool = False
    committed: bool = False
    outcome_unknown: bool = False
    statement_failed: bool = False
    begun: int = 0
    leaves: set[str] = field(default_factory=set)
    connection: ServingConnection | None = None

    def commit_answered(self, *, committed: bool) -> None:
        """The server said what became of the COMMIT; ``committed`` unless it made a ROLLBACK of it."""
        self.committed = self.committed or committed
        self.outcome_unknown = False

    def commit_failed(self, error: BaseException, *, refused: bool) -> None:
        """``error`` came where the answer to COMMIT should have; ``refused``, it is the answer."""
        if refused:
            self.outcome_unknown = False
        else:
            setattr(error, CAME_IN_COMMIT, True)


class _Coming(threading.local):
    """``unit`` is the one for which this thread asks its engine's pool next: told ahead of the checkout.

    An exception of a signal handler may strike between that and ``work_for``, and be held with all that it struck in.
    """

    unit: Unit | None = None


coming = _Coming()
FOR = "db_for"  # on a pool's record: the unit that it is for, None where it is for none


def is_refusal(error: BaseException, *, lost: bool) -> bool:
    """Whether ``error`` is the server's word that COMMIT did not take place; ``lost``, it took the connection along."""
    code = sqlstate(error)
    return code is not None and (not lost or code in _ENDED_BY_LIMIT)


def note_commits(dialect: Dialect) -> None:
    """Have ``dialect`` write down what becomes of a COMMIT, for a driver that does not do so itself."""
    send = dialect.do_commit
    driver_error: Any = dialect.loaded_dbapi.Error

    def do_commit(checkout: PoolProxiedConnection) -> None:
        unit = unit_of(checkout)
        unit.outcome_unknown = True
        try:
            send(checkout)
        except BaseException as error:
            lost = not isinstance(error, driver_error) or dialect.is_disconnect(error, checkout.dbapi_connection, None)
            # What says that the server ends a session, may come before its end does.
            refused = not lost and not (sqlstate(error) or "").startswith(_LAST_WORDS)
            unit.commit_failed(error, refused=refused)
            raise
        unit.commit_answered(committed=True)

    dialect.do_commit = do_commit  # type: ignore[method-assign, assignment]


def work_for(unit: Unit, checkout: PoolProxiedConnection) -> None:
    """Let ``checkout`` work for ``unit`` until it is closed."""
    # It stays while the connection below it may be replaced or detached.
    checkout.__dict__[_UNIT] = unit


def is_at_work(conn: Connection) -> bool:
    """Whether ``conn`` works for a unit."""
    # An invalid one has none below it, and would say so instead of what is asked.
    return not conn.invalidated and isinstance(vars(conn.connection).get(_UNIT), Unit)


def unit_of(checkout: PoolProxiedConnection) -> Unit:
    """The unit that a checkout works for; one of no consequence for a checkout outside of any."""
    unit = vars(checkout).get(_UNIT)
    return unit if isinstance(unit, Unit) else Unit()
