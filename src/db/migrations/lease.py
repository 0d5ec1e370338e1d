"""A lease instead of a lock, for an engine that has no lock which ends with the session: Aurora DSQL.

A row says until when the migrations are somebody's. Who was killed amid them leaves it behind, and nobody else begins
before that time: the end of its invocation, or of its connection, after which it can change nothing any more.
"""

from __future__ import annotations

import contextlib
import secrets
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.schema import CreateTable

from db.errors import sqlstate

if TYPE_CHECKING:
    from sqlalchemy import Connection

LEASE_TABLE = "db_migration_lease"
# A connection lasts for an hour, and a transaction that it began before that for five minutes.
_LONGEST_S = 3900.0
_CONFLICT = "40001"
_LEASES = sa.Table(
    LEASE_TABLE,
    sa.MetaData(),
    sa.Column("key", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("until", sa.DateTime(timezone=True), nullable=False),
)


class Lease:
    """The lease ``key``, for ``length_s`` at most, on a connection whose statements commit by themselves."""

    def __init__(self, conn: Connection, *, key: int, length_s: float) -> None:
        self._conn = conn
        self._key = key
        self._holder = secrets.token_hex(8)
        self._until = sa.func.now() + sa.text(f"interval '{min(length_s, _LONGEST_S):.3f} seconds'")
        self._is_made = False

    def take(self) -> bool:
        """Try once. False where it is another's, or was disputed."""
        try:
            if not self._is_made:
                self._conn.execute(CreateTable(_LEASES, if_not_exists=True))
                self._is_made = True
            return self._conn.execute(self._taking()).one_or_none() is not None
        except exc.DBAPIError as error:
            if sqlstate(error) != _CONFLICT:
                raise
            return False

    def _taking(self) -> sa.Executable:
        row = {"key": self._key, "holder": self._holder, "until": self._until}
        made = insert(_LEASES).values(row)
        return made.on_conflict_do_update(
            index_elements=[_LEASES.c.key],
            set_={"holder": made.excluded.holder, "until": made.excluded.until},
            where=_LEASES.c.until < sa.func.now(),
        ).returning(_LEASES.c.key)

    def release(self) -> None:
        """Give it up. Where that cannot be, it ends by itself: what the migrations did stands either way."""
        if not (self._is_made and not self._conn.invalidated and not self._conn.closed):
            return
        ours = (_LEASES.c.key == self._key) & (_LEASES.c.holder == self._holder)
        with contextlib.suppress(exc.DBAPIError):
            self._conn.execute(_LEASES.delete().where(ours))
