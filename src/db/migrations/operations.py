"""What a migration needs for the layer's own promises: tenants' rows apart, a table for ``db.once``, least rights.

Each takes Alembic's ``op``. What they run is said here once and for all: a migration that has run must mean the same
tomorrow, so a change of it is another function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa

from db.environment.process import DEFAULT, owner_of
from db.errors import ConfigurationError
from db.settings.engines.kinds import kind_of, refusal_of
from db.settings.engines.postgresql import KIND as POSTGRESQL
from db.transactions.prologue_sql import CREATE_PROLOGUE_FUNCTION
from db.wire.search_path import CONSTRAINTS_FUNCTION, PROLOGUE_FUNCTION

from .lease import LEASE_TABLE
from .lineage import LINEAGE_TABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from alembic.runtime.migration import MigrationContext

    from db.environment.process import Holder
    from db.settings.engines.kinds import EngineKind

ONCE_TABLE = "db_once"


# SQLAlchemy's own types of MySQL are not loaded for another engine's migrations.
_LONGEST = 2**32 - 1  # of MySQL's texts, whose length chooses among them


class _Moment(sa.types.UserDefinedType[Any]):
    """A time of MySQL's with its microseconds."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "DATETIME(6)"


def _on_mysql(kind: sa.types.TypeEngine[Any], there: sa.types.TypeEngine[Any]) -> sa.types.TypeEngine[Any]:
    return kind.with_variant(there, "mysql", "mariadb")


# Bytes on MySQL, where texts are compared without regard to case, accents and blanks at their end: 255 characters.
_NAME = _on_mysql(sa.Text(), sa.VARBINARY(1020))

# An unset tenant reads as NULL, or as '' once the session has had one: either way it equals no row's.
_TENANT_OR_NULL = "NULLIF(current_setting('app.tenant_id', true), '')"
# Keys of units of work without a tenant are a scope of their own, which no tenant can be: none has an empty name.
_TENANT_OR_EMPTY = POSTGRESQL.once.tenant_default


class Operations(Protocol):
    """What is asked of Alembic's ``op``: the module, or an ``alembic.operations.Operations``."""

    def execute(self, sqltext: str) -> object: ...
    def create_table(self, table_name: str, *columns: sa.schema.SchemaItem) -> object: ...
    def create_index(self, index_name: str, table_name: str, columns: Sequence[str]) -> object: ...
    def drop_table(self, table_name: str) -> object: ...
    def get_context(self) -> MigrationContext: ...


def enable_tenant_rls(op: Operations, table: str, *, column: str = "tenant_id") -> None:
    """Show each tenant its own rows of ``table`` and no others; without a tenant, nothing.

    ``column``, of whatever type, is compared with ``current_setting('app.tenant_id')``, in what is read and in what is
    written. Forced, so that it holds for the owner as well; superusers and roles with BYPASSRLS are above it, and no
    application is one.
    """
    kind = _kind(op)
    if "tenant" in kind.lacks and _holder(op).current().settings.sqlite_tenants == "unchecked":
        return
    kind.require("tenant", "enable_tenant_rls")
    name, compared = _quoted(op, table), _quoted(op, column)
    op.execute(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY")
    # The server knows the column's type, offline as well: a uuid that was compared as text would find no index.
    policy = f"CREATE POLICY tenant ON {name} USING ({compared} = {_TENANT_OR_NULL}::"
    op.execute(
        f"DO $$ BEGIN EXECUTE {_literal(policy)} || (SELECT format_type(atttypid, NULL) FROM pg_attribute"  # noqa: S608 - quoted
        f" WHERE attrelid = {_literal(name)}::regclass AND attname = {_literal(column)}) || ')'; END $$"
    )


def grant(op: Operations, rights: str, table: str, *, to: str) -> None:
    """Grant ``rights``, such as ``"SELECT, INSERT"``, on ``table`` to the role ``to``.

    On SQLite there is nothing to do: whoever may open the file may do all.
    """
    if not _kind(op).has_grants:
        return
    op.execute(f"GRANT {rights} ON {_quoted(op, table)} TO {_quoted(op, to)}")


def create_once_table(op: Operations, *, used_by: Iterable[str], purged_by: str | None = None) -> None:
    """Make the table of ``db.once``, for the roles in ``used_by``.

    A record is seen by its tenant alone. ``purged_by`` is the role that calls ``db.purge_once``: it sees and deletes
    the expired records of all tenants, and no others. On SQLite, which has no roles, it is the table alone.
    """
    kind = _kind(op)
    op.create_table(
        ONCE_TABLE,
        sa.Column("tenant_id", _NAME, nullable=False, server_default=sa.text(kind.once.tenant_default)),
        sa.Column("key", _NAME, nullable=False),
        sa.Column("payload_hash", _on_mysql(sa.Text(), sa.VARCHAR(128))),
        # JSON as it was written: jsonb would reorder it and refuse \u0000
        sa.Column("result", _on_mysql(sa.Text(), sa.Text(_LONGEST))),
        sa.Column("expires_at", _on_mysql(sa.DateTime(timezone=True), _Moment()), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "key", name="pk_db_once"),
    )
    op.create_index("ix_db_once_expires_at", ONCE_TABLE, ["expires_at"])
    if "tenant" not in kind.can:
        for role in used_by:
            grant(op, "SELECT, INSERT, UPDATE, DELETE", ONCE_TABLE, to=role)
        if purged_by is not None:
            grant(op, "SELECT, DELETE", ONCE_TABLE, to=purged_by)
        return
    op.execute(f"ALTER TABLE {ONCE_TABLE} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {ONCE_TABLE} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON {ONCE_TABLE} USING (tenant_id = {_TENANT_OR_EMPTY})")
    for role in used_by:
        grant(op, "SELECT, INSERT, UPDATE, DELETE", ONCE_TABLE, to=role)
    if purged_by is not None:
        grant(op, "SELECT, DELETE", ONCE_TABLE, to=purged_by)
        for command in ("SELECT", "DELETE"):
            op.execute(
                f"CREATE POLICY purge_{command.lower()} ON {ONCE_TABLE} FOR {command} TO {_quoted(op, purged_by)}"
                " USING (expires_at <= now())"
            )


def create_prologue_function(op: Operations, *, used_by: Iterable[str]) -> None:
    """Make the function that ``DB_PROXY=rds-proxy`` opens each transaction with, for the roles in ``used_by``.

    RDS Proxy pins a session for a ``set_config`` in a statement's text, and does not look into a function. It is made
    in the schema that the migration works in: the first of DB_SCHEMA, where a function with the same DB_SCHEMA calls it
    (the roles need USAGE on that schema). Without DB_SCHEMA it has to be in the search path of those roles.

    It brings ``create_constraints_function`` along, which was not there at first.
    """
    _kind(op).require("prologue function", "create_prologue_function")
    roles = list(used_by)
    op.execute(CREATE_PROLOGUE_FUNCTION)
    _grant_execute(op, PROLOGUE_FUNCTION, roles)
    create_constraints_function(op, used_by=roles)


def create_constraints_function(op: Operations, *, used_by: Iterable[str]) -> None:
    """Make the function by which ``db.batch`` with ``DB_PROXY=rds-proxy`` checks deferred constraints record by record.

    For a database in which ``create_prologue_function`` ran when it did not make this one; in the same schema, and for
    the same reason: SET CONSTRAINTS in a statement's text pins the session.
    """
    _kind(op).require("prologue function", "create_constraints_function")
    op.execute(
        f"CREATE OR REPLACE FUNCTION {CONSTRAINTS_FUNCTION}() RETURNS void LANGUAGE plpgsql AS"
        " $$ BEGIN SET CONSTRAINTS ALL IMMEDIATE; END $$"
    )
    _grant_execute(op, CONSTRAINTS_FUNCTION, used_by)


def drop_prologue_function(op: Operations) -> None:
    """Undo ``create_prologue_function``, and what it has brought along."""
    _kind(op).require("prologue function", "drop_prologue_function")
    op.execute(f"DROP FUNCTION {CONSTRAINTS_FUNCTION}, {PROLOGUE_FUNCTION}")


def drop_once_table(op: Operations) -> None:
    """Undo ``create_once_table``."""
    op.drop_table(ONCE_TABLE)


def is_features(name: str | None, kind: str, _parents: object) -> bool:
    """Whether a table is the feature's: Alembic's ``include_name``, so that it does not propose to drop the layer's."""
    return not (kind == "table" and name in {ONCE_TABLE, LINEAGE_TABLE, LEASE_TABLE})


def _kind(op: Operations) -> EngineKind:
    """The engine that the migration runs on, or is written for."""
    dialect = op.get_context().dialect
    kind = kind_of(dialect)
    if kind is None:
        raise ConfigurationError([f"the migration {refusal_of(dialect.name)}"])
    return kind


def _holder(op: Operations) -> Holder:
    """The database that the migration runs on, or by default would."""
    conn = op.get_context().connection
    owner = None if conn is None else owner_of(conn)
    return DEFAULT if owner is None else owner


def _grant_execute(op: Operations, function: str, roles: Iterable[str]) -> None:
    for role in roles:
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO {_quoted(op, role)}")


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _quoted(op: Operations, name: str) -> str:
    preparer = op.get_context().dialect.identifier_preparer
    quoted = ".".join(preparer.quote(part) for part in name.split("."))
    # As for a statement that the driver formats. `op.execute` takes a text, and doubles it for that by itself.
    return quoted.replace("%%", "%") if preparer._double_percents else quoted  # noqa: SLF001 - it has no public name
