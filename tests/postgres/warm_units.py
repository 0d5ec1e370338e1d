"""Units of work that are as small as can be, of which tests count what they cost."""

from __future__ import annotations

from sqlalchemy import text

import db

ONE = text("SELECT 1")


def write() -> None:
    with db.begin(tenant="acme") as tx:
        tx.execute(ONE)


def read() -> None:
    with db.read(tenant="acme") as conn:
        conn.execute(ONE)


def nothing() -> None:
    with db.begin(tenant="acme"):
        pass
