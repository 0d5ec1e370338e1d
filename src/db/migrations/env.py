"""What Alembic loads. Migrations run on the connection given or, by hand, on a locked one of their own.

alembic.ini may name the tables to compare with, as ``metadata = models:Base.metadata``; ``--sql`` needs no database.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from alembic import context
from sqlalchemy import MetaData

from db.migrations.lineage import write_down
from db.migrations.lock import locked_connection
from db.migrations.named import look_up, wrong
from db.migrations.operations import is_features
from db.settings.engines.kinds import NAMES, kind_named, kind_of
from db.transactions.driver import require_constraints
from db.work.database import Database, holder_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from db.settings.engines.kinds import EngineKind


def metadata() -> Any:
    """The tables that alembic.ini names. Raises ConfigurationError, which says what of the name was not found."""
    named = context.config.get_main_option("metadata")
    if named is None:
        return None
    said = f"metadata = {named} in alembic.ini"
    where = "prepend_sys_path says in which folders to look besides"
    found = look_up(named, said=said, example="models:Base.metadata", where=where)
    for tables in found if isinstance(found, (list, tuple)) else [found]:
        if not isinstance(tables, MetaData):
            meant = f": is {named}.metadata meant?" if hasattr(tables, "metadata") else ""
            raise wrong(said, f"that is of {type(tables).__name__}, and not of MetaData{meant}")
    return found


def engine_kind() -> EngineKind:
    """The engine that the settings name; without them, as ``--sql`` may be run, the one that a secret would be for."""
    if os.environ.get(f"{holder.prefix}URL") or os.environ.get(f"{holder.prefix}AUTH") == "dsql":
        return holder.current().settings.engine_kind
    kind = kind_named(NAMES[0])
    assert kind is not None  # noqa: S101 - it is there
    return kind


def run(conn: Connection | None) -> None:
    shared: dict[str, Any] = {"target_metadata": metadata(), "on_version_apply": write_down}
    kind = engine_kind() if conn is None else kind_of(conn.dialect)
    shared |= {} if kind is None else kind.alembic
    if conn is None and kind is not None:
        name = kind.name if kind.not_by_url is None else f"{kind.name}+serverless"  # that has no other dialect
        context.configure(dialect_name=name, literal_binds=True, **shared)
    else:
        context.configure(connection=conn, include_name=is_features, **shared)
    with context.begin_transaction():
        context.run_migrations()
        if conn is not None and kind is not None and not kind.is_told_in_sql:
            require_constraints(conn, kind)  # which were not looked at meanwhile
        look = context.config.attributes.get("before_commit")
        if conn is not None and look is not None:
            look(conn)


# That of a section of alembic.ini which is for another database: alembic -n audit upgrade head.
_prefix = context.config.get_main_option("database_prefix")
holder = holder_of(Database.from_env(prefix=_prefix) if _prefix else None)
given = context.config.attributes.get("connection")
if given is not None or context.is_offline_mode():
    run(given)
else:
    with holder.named(), locked_connection(holder.current()) as conn:
        run(conn)
