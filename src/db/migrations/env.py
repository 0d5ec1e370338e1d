"""What Alembic loads: runs the migrations on the connection given or, by hand, on a locked one of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import context

from db.migrations import locked_connection

if TYPE_CHECKING:
    from sqlalchemy import Connection


def run(conn: Connection) -> None:
    context.configure(connection=conn)
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    with locked_connection() as conn:
        run(conn)
