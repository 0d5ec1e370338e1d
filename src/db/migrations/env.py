"""What Alembic loads. Migrations run on the connection given or, by hand, on a locked one of their own.

alembic.ini may name the tables to compare with, as ``metadata = package.module:name``; ``--sql`` needs no database.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from alembic import context

from db.migrations.lineage import write_down
from db.migrations.lock import locked_connection
from db.migrations.operations import is_features

if TYPE_CHECKING:
    from sqlalchemy import Connection


def metadata() -> Any:
    named = context.config.get_main_option("metadata")
    if named is None:
        return None
    module, _, name = named.partition(":")
    return getattr(importlib.import_module(module), name)


def run(conn: Connection | None) -> None:
    shared: dict[str, Any] = {"target_metadata": metadata(), "on_version_apply": write_down}
    if conn is None:
        context.configure(dialect_name="postgresql", literal_binds=True, **shared)
    else:
        context.configure(connection=conn, include_name=is_features, **shared)
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None or context.is_offline_mode():
    run(given)
else:
    with locked_connection() as conn:
        run(conn)
