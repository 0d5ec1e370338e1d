"""What stands behind a plan in the server's catalogue: indexes, foreign keys, and the columns that policies go by."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from db.transactions.prologue_sql import TENANT_SETTING

if TYPE_CHECKING:
    import psycopg

_OURS = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'"

# A column of an expression has no name. A name is quoted where the server would quote it in a plan.
_INDEXES = f"""
SELECT n.nspname, i.relname, x.indisunique, x.indpred IS NOT NULL,
       ARRAY(SELECT quote_ident(a.attname)
             FROM unnest(x.indkey[:x.indnkeyatts - 1]) WITH ORDINALITY AS k (number, place)
             LEFT JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.number AND k.number > 0
             ORDER BY k.place)
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace
WHERE {_OURS}
"""  # noqa: S608 - a constant

_FOREIGN_KEYS = f"""
SELECT f.conname, n.nspname, c.relname, rn.nspname, r.relname,
       ARRAY(SELECT a.attname FROM unnest(f.conkey) WITH ORDINALITY AS k (number, place)
             JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.number ORDER BY k.place),
       EXISTS (SELECT FROM pg_index x WHERE x.indrelid = f.conrelid AND x.indisvalid AND x.indpred IS NULL
               AND x.indnkeyatts >= cardinality(f.conkey)
               AND x.indkey::smallint[] @> f.conkey
               AND (x.indkey::smallint[])[0:cardinality(f.conkey) - 1] <@ f.conkey)
FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class r ON r.oid = f.confrelid JOIN pg_namespace rn ON rn.oid = r.relnamespace
WHERE f.contype = 'f' AND f.conparentid = 0 AND {_OURS}
"""  # noqa: S608 - a constant

# What a policy is for stands in pg_depend, column by column. A partition has no policies of its own to go by.
_TENANT_COLUMNS = f"""
SELECT DISTINCT n.nspname, c.relname, quote_ident(a.attname), format_type(a.atttypid, NULL)
FROM pg_policy p
JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_class'::regclass
JOIN pg_attribute a ON a.attrelid = p.polrelid AND d.refobjid = p.polrelid AND a.attnum = d.refobjsubid AND a.attnum > 0
JOIN pg_class c ON c.oid = p.polrelid OR c.oid IN (SELECT relid FROM pg_partition_tree(p.polrelid))
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE strpos(pg_get_expr(p.polqual, p.polrelid), '{TENANT_SETTING}') > 0
"""  # noqa: S608 - a constant

_TABLES = f"SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {_OURS}"  # noqa: S608 - a constant


@dataclass(frozen=True, order=True)
class Table:
    """A table by its schema and name, not quoted."""

    schema: str
    name: str

    def __str__(self) -> str:
        return self.name if self.schema == "public" else f"{self.schema}.{self.name}"

    def is_named(self, name: str) -> bool:
        """Whether someone who writes ``name`` may mean it."""
        return name in {self.name, f"{self.schema}.{self.name}"}


@dataclass(frozen=True)
class Index:
    """An index. ``columns`` are those of its key, None in the place of an expression; ``partial`` has a WHERE."""

    unique: bool
    partial: bool
    columns: tuple[str | None, ...]


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key of ``table`` to ``target``. ``indexed``, an index begins with its columns, in whatever order."""

    name: str
    table: Table
    target: Table
    columns: tuple[str, ...]
    indexed: bool


@dataclass(frozen=True)
class Catalogue:
    """All of it. ``indexes`` go by schema and name, ``tenant_columns`` by table."""

    tables: frozenset[Table]
    indexes: dict[tuple[str, str], Index]
    foreign_keys: tuple[ForeignKey, ...]
    tenant_columns: dict[Table, set[str]]
    tenant_types: frozenset[str]


def read(connection: psycopg.Connection[Any]) -> Catalogue:
    """Ask the server."""
    policies = connection.execute(_TENANT_COLUMNS.encode()).fetchall()
    tenant_columns = defaultdict(set)
    for schema, table, column, _ in policies:
        tenant_columns[Table(schema, table)].add(column)
    return Catalogue(
        tables=frozenset(Table(*row) for row in connection.execute(_TABLES.encode())),
        indexes={
            (schema, name): Index(unique, partial, tuple(columns))
            for schema, name, unique, partial, columns in connection.execute(_INDEXES.encode())
        },
        foreign_keys=tuple(
            ForeignKey(name, Table(schema, table), Table(other, target), tuple(columns), indexed)
            for name, schema, table, other, target, columns, indexed in connection.execute(_FOREIGN_KEYS.encode())
        ),
        tenant_columns=dict(tenant_columns),
        tenant_types=frozenset(kind for *_, kind in policies),
    )
