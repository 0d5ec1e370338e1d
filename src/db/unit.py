"""One unit of work: whose connection it holds, and what has become of its COMMIT.

An exception alone does not tell whether a commit failed: SQLAlchemy raises the same for a lost ROLLBACK, a lost fetch
and a lost COMMIT, and the block may have called ``commit()`` itself before something else failed. So the events of the
connection write it down here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

UNIT = "db_unit"  # the execution option that holds it


@dataclass(eq=False)
class Unit:
    """Open until its block has ended; whether COMMIT was sent, and whether it then failed."""

    engine: Engine | None = None
    open: bool = True
    commit_sent: bool = False
    commit_failed: bool = False

    @property
    def committed(self) -> bool:
        """Whether it has certainly committed."""
        return self.commit_sent and not self.commit_failed


def unit_of(conn: Connection) -> Unit:
    """The unit that ``conn`` works for; one of no consequence for a connection outside of any."""
    unit = conn.get_execution_options().get(UNIT)
    return unit if isinstance(unit, Unit) else Unit()
