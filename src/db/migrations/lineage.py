"""Which revisions a schema has been through, kept in a table beside Alembic's own.

``alembic_version`` names the newest alone, and what that one follows stands in its file. Code of an earlier release has
no such file: after a roll-back it meets a revision that it does not know, and asks here whether its own are all in it.
The table is written with each step of a migration, in the transaction of the step, so the two never disagree; where DDL
commits, as on MySQL, it is written in the step's last one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.schema import CreateTable, DropTable

if TYPE_CHECKING:
    from collections.abc import Collection

    from alembic.runtime.migration import MigrationContext, MigrationInfo

LINEAGE_TABLE = "db_revisions"
# MySQL has no key of a text without a length, and compares others without regard to case.
_NAME = sa.Text().with_variant(sa.VARCHAR(255, collation="utf8mb4_bin"), "mysql", "mariadb")
_REVISIONS = sa.Table(LINEAGE_TABLE, sa.MetaData(), sa.Column("revision", _NAME, primary_key=True))


def write_down(*, ctx: MigrationContext, step: MigrationInfo, heads: Collection[str], **_: Any) -> None:
    """Record what the schema is made of, now that it is at ``heads``: Alembic's ``on_version_apply``."""
    if not heads:
        # Where everything is undone, nothing is left of it.
        ctx.execute(DropTable(_REVISIONS, if_exists=True))
        return
    through = sorted(found.revision for found in step.revision_map.iterate_revisions(tuple(heads), "base"))
    ctx.execute(CreateTable(_REVISIONS, if_not_exists=True))
    ctx.execute(_REVISIONS.delete())
    ctx.execute(_REVISIONS.insert().values([{"revision": one} for one in through]))


def been_through(conn: sa.Connection) -> frozenset[str]:
    """The revisions on record for the schema; none where Alembic was run without this record."""
    if not sa.inspect(conn).has_table(LINEAGE_TABLE):
        return frozenset()
    return frozenset(conn.execute(sa.select(_REVISIONS.c.revision)).scalars())
