"""`db`, as the README writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import make_url

import db
from benchmarks.works import TENANT, Work

from . import statements as sql
from .peer import Peer, measured

if TYPE_CHECKING:
    from collections.abc import Callable

    from .peer import Samples


@db.invocation
def _in_an_invocation(event: tuple[Callable[[], Any], int], _context: Any) -> Samples:
    return measured(*event)


class Ours(Peer):
    """``db.begin()`` and ``db.read()`` with the defaults of every setting."""

    name = "db"
    packages = ("serverless-data-access", "sqlalchemy", "psycopg", "psycopg-binary", "aws-lambda-powertools")
    pool: Literal["queue", "null"] = "queue"

    def open(self) -> None:
        url = make_url(self.url).set(drivername="postgresql+psycopg")
        db.configure(db.Settings(url=url, pool=self.pool))

    def close(self) -> None:
        db.dispose()

    def measured(self, run: Callable[[], Any], times: int) -> Samples:
        # One invocation around the loop: its deadline is what bounds, and its metrics are not the transaction's.
        return _in_an_invocation((run, times), self.context)

    def nothing(self) -> None:
        with db.begin():
            pass

    def read(self) -> Any:
        with db.read() as conn:
            return conn.execute(sql.READ).scalar_one()

    def write(self) -> None:
        with db.begin() as tx:
            tx.execute(sql.WRITE)

    def known(self) -> None:
        db.write(sql.WRITE)

    def five(self) -> Any:
        with db.begin() as tx:
            tx.execute(sql.READ).scalar_one()
            tx.execute(sql.WRITE)
            tx.execute(sql.READ).scalar_one()
            tx.execute(sql.WRITE)
            return tx.execute(sql.READ).scalar_one()

    def bound_read(self) -> Any:
        with db.read(tenant=TENANT) as conn:
            return conn.execute(sql.BOUND_READ).scalar_one()

    def bound_write(self) -> None:
        with db.begin(tenant=TENANT) as tx:
            tx.execute(sql.BOUND_WRITE)


class OursWithoutPool(Ours):
    """The same with ``DB_POOL=null``."""

    name = "db, DB_POOL=null"
    offers = frozenset({Work.UNPOOLED})
    pool = "null"
    unpooled = Ours.bound_write
