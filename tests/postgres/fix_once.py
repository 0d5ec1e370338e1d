"""The table of ``db.once`` and one to see effects in, on a database of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import text

import db
from db.migrations.operations import create_once_table, enable_tenant_rls

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.plugin import Database

    from .conftest import Use


def migrate(work: Callable[[Any], None]) -> None:
    """Run ``work(op)`` as a migration does."""
    with db.begin() as tx:
        work(Operations(MigrationContext.configure(tx)))


@pytest.fixture
def effects(use: Use, database: Database) -> None:
    """``effects(tenant_id, note)``, each tenant's rows to itself, and ``db_once``; a runtime as ``app``."""
    use(role="owner")
    migrate(lambda op: create_once_table(op, used_by=[database.app], purged_by=database.owner))
    with db.begin() as tx:
        tx.execute(
            text(
                "CREATE TABLE effects (tenant_id text DEFAULT current_setting('app.tenant_id', true), note text UNIQUE"
                " DEFERRABLE INITIALLY DEFERRED, CHECK (note <> 'bad'))"
            )
        )
        tx.execute(text(f"GRANT SELECT, INSERT ON effects TO {database.app}"))
    use()


@pytest.fixture
def tenants_effects(effects: None, use: Use) -> None:
    """``effects`` under row-level security."""
    use(role="owner")
    migrate(lambda op: enable_tenant_rls(op, "effects"))
    use()
