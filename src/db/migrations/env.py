"""What Alembic loads. Migrations run on the connection given or, by hand, on a locked one of their own.

alembic.ini may name the tables to compare with, as ``metadata = models:Base.metadata``; ``--sql`` needs no database.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from alembic import context
from sqlalchemy import MetaData

from db.errors import ConfigurationError
from db.migrations.lineage import write_down
from db.migrations.lock import locked_connection
from db.migrations.operations import is_features

if TYPE_CHECKING:
    from sqlalchemy import Connection


def metadata() -> Any:
    """The tables that alembic.ini names. Raises ConfigurationError, which says what of the name was not found."""
    named = context.config.get_main_option("metadata")
    return None if named is None else _checked(named, _found(named))


def _found(named: str) -> Any:
    module, colon, path = (part.strip() for part in named.partition(":"))
    if not (module and colon and path):
        raise _wrong(named, "write the module, a colon, and the name in it, such as models:Base.metadata")
    found = _module(named, module)
    for name in path.split("."):
        if not hasattr(found, name):
            raise _wrong(named, f"{found!r} has no {name!r}")
        found = getattr(found, name)
    return found


def _checked(named: str, found: Any) -> Any:
    for tables in found if isinstance(found, (list, tuple)) else [found]:
        if not isinstance(tables, MetaData):
            meant = f": is {named}.metadata meant?" if hasattr(tables, "metadata") else ""
            raise _wrong(named, f"that is of {type(tables).__name__}, and not of MetaData{meant}")
    return found


def _module(named: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # What the module itself imports and lacks is another mistake, and its own error says which.
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        where = "prepend_sys_path says in which folders to look besides"
        raise _wrong(named, f"there is no module {error.name!r} ({where})") from error


def _wrong(named: str, why: str) -> ConfigurationError:
    return ConfigurationError([f"metadata = {named} in alembic.ini: {why}"])


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
