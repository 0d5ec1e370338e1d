"""One unit of work: whose connection it holds, and what has become of its COMMIT.

An exception alone does not tell whether a commit failed: SQLAlchemy raises the same for a lost ROLLBACK, a lost fetch
and a lost COMMIT, and the block may have called ``commit()`` itself before something else failed. So whoever sends the
COMMIT writes it down here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.pool import PoolProxiedConnection

_UNIT = "db_unit"  # the attribute of a checkout that holds it


@dataclass(eq=False)
class Unit:
    """Open until its block has ended; whether COMMIT was sent and then failed, and whether any statement did."""

    engine: Engine | None = None
    open: bool = True
    commit_sent: bool = False
    commit_failed: bool = False
    statement_failed: bool = False

    @property
    def committed(self) -> bool:
        """Whether it has certainly committed."""
        return self.commit_sent and not self.commit_failed


def work_for(unit: Unit, conn: Connection) -> None:
    """Let ``conn`` work for ``unit`` until it is closed."""
    # On the checkout, which stays while the connection below it may be replaced or detached.
    vars(conn.connection)[_UNIT] = unit


def unit_of(checkout: PoolProxiedConnection) -> Unit:
    """The unit that a checkout works for; one of no consequence for a checkout outside of any."""
    unit = vars(checkout).get(_UNIT)
    return unit if isinstance(unit, Unit) else Unit()
